"""Who may talk to whom, and how: what PeerAuthentication and AuthorizationPolicy say, as values."""

from __future__ import annotations

from enum import StrEnum

from isthmus.model.identity import TrustDomain
from isthmus.model.names import Namespace
from isthmus.model.origins import Origin
from isthmus.model.values import dataclass

Labels = tuple[tuple[str, str], ...]


class MutualTlsMode(StrEnum):
    """What the inbound side accepts (PeerAuthentication)."""

    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"
    DISABLE = "DISABLE"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class PeerAuthentication:
    """`mode` None, or a port's, means that the next wider one decides. An empty `selector` holds for the whole namespace."""

    created: str
    namespace: Namespace
    name: str
    selector: Labels
    mode: MutualTlsMode | None
    port_modes: tuple[tuple[int, MutualTlsMode | None], ...]

    @property
    def origin(self) -> Origin:
        return Origin("PeerAuthentication", self.namespace, self.name)


class PathNormalization(StrEnum):
    """What is made of a request's path before policies compare it, and it is passed on like that (MeshConfig's pathNormalization). Each
    includes the ones before: dots and what need not be encoded; `//`; slashes that are encoded, and backslashes."""

    NONE = "NONE"
    BASE = "BASE"
    MERGE_SLASHES = "MERGE_SLASHES"
    DECODE_AND_MERGE_SLASHES = "DECODE_AND_MERGE_SLASHES"


class Action(StrEnum):
    CUSTOM = "CUSTOM"
    AUDIT = "AUDIT"
    DENY = "DENY"
    ALLOW = "ALLOW"


@dataclass(frozen=True, slots=True, order=True)
class Attribute:
    """One thing that a rule looks at, such as `principals` or `request.headers[x]`: one of `values`, and none of `not_values`."""

    name: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """Matches if one of the sources, one of the operations and all conditions do; no source or operation means any."""

    sources: tuple[tuple[Attribute, ...], ...] = ()
    operations: tuple[tuple[Attribute, ...], ...] = ()
    conditions: tuple[Attribute, ...] = ()


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class AuthorizationPolicy:
    """`rules` are tried in order. A policy without any matches nothing: as ALLOW it allows nobody."""

    action: Action
    namespace: Namespace
    name: str
    selector: Labels
    rules: tuple[Rule, ...]
    dry_run: bool
    provider: str = ""
    """Who decides, of a CUSTOM policy."""
    gateways: tuple[str, ...] = ()
    """Of Gateway API, by name: where there are some, the policy holds at them alone."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class TokenRule:
    """Whose tokens (JWT) a workload takes, and how they are checked: keys inline (`jwks`), from `jwks_uri`, or from where the issuer's own
    document (`discovery`, an address) says that they are.

    Where nothing says where the token is, it is in the Authorization header or in `access_token`. `claim_headers`: header, claim.
    """

    issuer: str
    audiences: tuple[str, ...] = ()
    jwks: str = ""
    jwks_uri: str = ""
    discovery: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    parameters: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    forward: bool = False
    payload_header: str = ""
    claim_headers: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float = 5.0
    listed_claims: tuple[str, ...] = ()
    """Claims that are lists written as one text, with spaces, beside those that always are."""

    @property
    def address(self) -> str:
        """Where keys are looked for, of one kind or the other; empty where there are some."""
        return self.jwks_uri or self.discovery


class KeySource(StrEnum):
    """Who fetches keys that are at an address. Istio's words (PILOT_JWT_ENABLE_REMOTE_JWKS), but for `false` and `true`.

    `hybrid`: the control plane, and proxies for as long as it has none; `istiod`: the control plane alone; `envoy`: proxies.
    """

    HYBRID = "hybrid"
    CONTROL_PLANE = "istiod"
    PROXIES = "envoy"


@dataclass(frozen=True, slots=True)
class FetchedKeys:
    """What the control plane has from one address: the newest set that could be used, or empty.

    Where the last try failed, `wrong` says how, and `since` when the set was fetched.
    """

    jwks: str = ""
    wrong: str = ""
    since: str = ""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class RequestAuthentication:
    """All that hold for a workload count together."""

    created: str
    namespace: Namespace
    name: str
    selector: Labels
    rules: tuple[TokenRule, ...]
    gateways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class AuthorizationProvider:
    """A server that decides on requests (MeshConfig's extensionProviders). Header names may have `*` at one end.

    `body_bytes` 0 sends no body. `grpc`: by Envoy's own protocol, else by HTTP.
    """

    name: str
    host: str
    port: int
    grpc: bool
    timeout_seconds: float = 600.0
    fail_open: bool = False
    status_on_error: int = 403
    path_prefix: str = ""
    request_headers: tuple[str, ...] = ()
    added_headers: tuple[tuple[str, str], ...] = ()
    to_upstream_on_allow: tuple[str, ...] = ()
    to_caller_on_deny: tuple[str, ...] = ()
    to_caller_on_allow: tuple[str, ...] = ()
    body_bytes: int = 0
    allow_partial_body: bool = False
    pack_as_bytes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """What is asked before a workload is reached: the policies for it, the trust domains that count as its own (the mesh's first), and
    whose tokens it takes. `providers` are those that its CUSTOM policies name, as far as they exist. `peers` are other trust domains whose
    identities may connect at all. `paths`: as what policies see paths. `any_trust_domain`: namespaces and service accounts of policies are
    those of every trust domain.
    """

    policies: tuple[AuthorizationPolicy, ...] = ()
    trust_domains: tuple[TrustDomain, ...] = ()
    tokens: tuple[TokenRule, ...] = ()
    providers: tuple[AuthorizationProvider, ...] = ()
    peers: tuple[TrustDomain, ...] = ()
    any_trust_domain: bool = False
    paths: PathNormalization = PathNormalization.BASE
