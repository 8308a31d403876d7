"""Istio's security.istio.io objects, as far as the mesh reads them."""

from __future__ import annotations

import msgspec

from isthmus.api.meta import KubernetesObject, Wire


class Selector(Wire, frozen=True):
    match_labels: dict[str, str] = {}


class TargetReference(Wire, frozen=True):
    group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""


class PeerMutualTls(Wire, frozen=True):
    mode: str = ""


class PeerAuthenticationSpec(Wire, frozen=True):
    selector: Selector | None = None
    mtls: PeerMutualTls | None = None
    port_level_mtls: dict[str, PeerMutualTls] = {}


class PeerAuthentication(KubernetesObject, frozen=True):
    spec: PeerAuthenticationSpec = msgspec.field(default_factory=PeerAuthenticationSpec)


class Source(Wire, frozen=True):
    principals: list[str] = []
    not_principals: list[str] = []
    request_principals: list[str] = []
    not_request_principals: list[str] = []
    namespaces: list[str] = []
    not_namespaces: list[str] = []
    service_accounts: list[str] = []
    not_service_accounts: list[str] = []
    trust_domains: list[str] = []
    not_trust_domains: list[str] = []
    ip_blocks: list[str] = []
    not_ip_blocks: list[str] = []
    remote_ip_blocks: list[str] = []
    not_remote_ip_blocks: list[str] = []


class From(Wire, frozen=True):
    source: Source | None = None


class Operation(Wire, frozen=True):
    hosts: list[str] = []
    not_hosts: list[str] = []
    ports: list[str] = []
    not_ports: list[str] = []
    methods: list[str] = []
    not_methods: list[str] = []
    paths: list[str] = []
    not_paths: list[str] = []


class To(Wire, frozen=True):
    operation: Operation | None = None


class Condition(Wire, frozen=True):
    key: str = ""
    values: list[str] = []
    not_values: list[str] = []


class Rule(Wire, frozen=True):
    # The word is Python's, too.
    from_: list[From] = msgspec.field(default_factory=list, name="from")
    to: list[To] = []
    when: list[Condition] = []


class TokenHeader(Wire, frozen=True):
    name: str
    prefix: str = ""


class ClaimToHeader(Wire, frozen=True):
    header: str = ""
    claim: str = ""


class JwtRule(Wire, frozen=True):
    issuer: str = ""
    audiences: list[str] = []
    jwks_uri: str = ""
    jwks: str = ""
    from_headers: list[TokenHeader] = []
    from_params: list[str] = []
    from_cookies: list[str] = []
    forward_original_token: bool = False
    output_payload_to_header: str = ""
    output_claim_to_headers: list[ClaimToHeader] = []
    timeout: str = ""
    space_delimited_claims: list[str] = []


class RequestAuthenticationSpec(Wire, frozen=True):
    selector: Selector | None = None
    target_ref: TargetReference | None = None
    target_refs: list[TargetReference] = []
    jwt_rules: list[JwtRule] = []


class RequestAuthentication(KubernetesObject, frozen=True):
    spec: RequestAuthenticationSpec = msgspec.field(default_factory=RequestAuthenticationSpec)


class Provider(Wire, frozen=True):
    name: str = ""


class AuthorizationPolicySpec(Wire, frozen=True):
    selector: Selector | None = None
    target_ref: TargetReference | None = None
    target_refs: list[TargetReference] = []
    action: str = "ALLOW"
    rules: list[Rule | None] | None = None
    provider: Provider | None = None


class AuthorizationPolicy(KubernetesObject, frozen=True):
    spec: AuthorizationPolicySpec = msgspec.field(default_factory=AuthorizationPolicySpec)
