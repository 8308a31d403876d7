"""Who may talk to whom, and how: what PeerAuthentication and AuthorizationPolicy say, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isthmus.model.identity import TrustDomain
from isthmus.model.names import Namespace

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """The policies for one workload, and the trust domains that count as its own, the mesh's first."""

    policies: tuple[AuthorizationPolicy, ...] = ()
    trust_domains: tuple[TrustDomain, ...] = ()
