"""Where requests go: what VirtualServices say, as values; and the same resolved for one service port, ready to be encoded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import field
from enum import StrEnum

from isthmus.model.names import Hostname, Namespace
from isthmus.model.origins import Origin
from isthmus.model.security import Labels
from isthmus.model.traffic import ConsistentHash, Treatment
from isthmus.model.values import dataclass

MESH = "mesh"
"""The name under which rules mean the sidecars, among the names of gateways."""

DIRECT_BODY_BYTES_MAX = 2**20
"""What a proxy may answer by itself, as in Istio."""


class Comparison(StrEnum):
    EXACT = "exact"
    PREFIX = "prefix"
    SEGMENTS = "segments"
    """A prefix of whole path segments: `/a` is one of `/a/b`, not of `/ab`."""
    REGEX = "regex"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class TextMatch:
    comparison: Comparison
    value: str = ""


Named = tuple[tuple[str, TextMatch], ...]

_CLAIMS = "@request.auth.claims"
_SEGMENT = re.compile(r"\[([^\[\]]+)\]")


def claim_named(header: str) -> tuple[str, ...]:
    """The way to a claim of the request's token, where a match's header means one: `@request.auth.claims.a.b` and, for names with dots,
    `@request.auth.claims[a][b.c]`. Empty for a header, and for what is neither.
    """
    if not header.lower().startswith(_CLAIMS):
        return ()
    rest = header[len(_CLAIMS) :]
    if rest.startswith("."):
        path = tuple(rest[1:].split("."))
        return path if all(path) else ()
    return tuple(_SEGMENT.findall(rest)) if _SEGMENT.sub("", rest) == "" else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMatch:
    """Everything that is said has to hold. `port` 0 and an empty `source_namespace` say nothing. `gateways` replace the rule's."""

    uri: TextMatch | None = None
    ignore_case: bool = False
    method: TextMatch | None = None
    scheme: TextMatch | None = None
    authority: TextMatch | None = None
    headers: Named = ()
    without_headers: Named = ()
    query: Named = ()
    port: int = 0
    source_namespace: str = ""
    source_labels: Labels = ()
    gateways: tuple[str, ...] = ()
    name: str = ""
    stat_prefix: str = ""
    """Under which name Envoy counts what matches."""

    @property
    def asks_for_claims(self) -> bool:
        """Whether it depends on what a token says. Only gateways know that when they choose a route."""
        return any(claim_named(name) for name, _ in (*self.headers, *self.without_headers))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderChanges:
    """In this order: set, add, remove. `authority`: what the host of requests becomes."""

    authority: str = ""

    request_set: tuple[tuple[str, str], ...] = ()
    request_add: tuple[tuple[str, str], ...] = ()
    request_remove: tuple[str, ...] = ()
    response_set: tuple[tuple[str, str], ...] = ()
    response_add: tuple[tuple[str, str], ...] = ()
    response_remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A destination as written: `port` 0 is to be inferred."""

    host: Hostname
    subset: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Of the path at most one is said: a whole one, one for the matched prefix, or a regular expression with its substitute. `as_called`: to the
    port that was asked; else a `port` of 0 is that of the scheme."""

    path: str = ""
    prefix: str = ""
    regex: tuple[str, str] | None = None
    authority: str = ""
    port: int = 0
    as_called: bool = False
    scheme: str = ""
    code: int = 301


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """`on` empty is the default, and so is a `back_off_seconds` of None, and so are empty `codes`, the statuses of answers that are asked for
    again. `elsewhere`: endpoints that were tried are left alone; `farther`: a retry also goes to places that are farther away."""

    attempts: int
    per_try_seconds: float | None = None
    on: str = ""
    codes: tuple[int, ...] = ()
    back_off_seconds: float | None = None
    elsewhere: bool = True
    farther: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Percentages from 0 to 100."""

    delay_percent: float = 0
    delay_seconds: float = 0
    abort_percent: float = 0
    abort_status: int = 0
    abort_grpc_status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """Cross-origin requests that browsers may make. `max_age_seconds` None leaves it to the browser."""

    origins: tuple[TextMatch, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    exposed_headers: tuple[str, ...] = ()
    max_age_seconds: float | None = None
    credentials: bool | None = None
    forward_unmatched_preflights: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """What is done with requests of a rule, whichever destination they go to.

    `unresolved_status` answers those that go to a destination which there is not; 0 is Envoy's own, 503.
    """

    redirect: Redirect | None = None
    response_status: int = 0
    response_body: str | bytes = ""
    rewrite_path: str = ""
    rewrite_authority: str = ""
    rewrite_regex: tuple[str, str] | None = None
    timeout_seconds: float | None = None
    retries: Retries | None = None
    fault: Fault | None = None
    cors: Cors | None = None
    headers: HeaderChanges = field(default_factory=HeaderChanges)
    unresolved_status: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRule:
    """No matches means every request. `targets` with their weights and header changes; `mirrors` with percentages.

    `delegate` names the VirtualService (namespace, name) whose rules take this one's place.
    """

    name: str
    matches: tuple[RequestMatch, ...]
    targets: tuple[tuple[Target, int, HeaderChanges], ...]
    mirrors: tuple[tuple[Target, float], ...]
    handling: Handling
    delegate: tuple[Namespace, str] | None = None
    origin: Origin | None = None

    def asks_sidecars_for_claims(self, gateways: tuple[str, ...]) -> bool:
        """Whether some match by claims of tokens would hold in the mesh, as a rule of a VirtualService that is bound to these gateways."""
        return any(match.asks_for_claims and MESH in (match.gateways or gateways) for match in self.matches)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionMatch:
    """As RequestMatch, for connections: `sni_hosts` and `subnets` (of the destination), of each at least one, where any are named."""

    sni_hosts: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    port: int = 0
    source_namespace: str = ""
    source_labels: Labels = ()
    gateways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRule:
    """A `tcp` or a `tls` rule: where connections go that one of the matches means; no matches means every connection."""

    matches: tuple[ConnectionMatch, ...]
    targets: tuple[tuple[Target, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualService:
    """`hosts` are full names, or begin with `*`; a delegate has none. `gateways` are `mesh` (the sidecars) or `namespace/name`."""

    created: str
    namespace: Namespace
    name: str
    hosts: tuple[Hostname, ...]
    rules: tuple[HttpRule, ...]
    export_to: tuple[str, ...]
    gateways: tuple[str, ...] = (MESH,)
    tls: tuple[ConnectionRule, ...] = ()
    tcp: tuple[ConnectionRule, ...] = ()
    of_routes: bool = False
    """Made of Gateway API's routes. Of these a caller's own namespace's come before others."""

    def is_for(self, gateway: str) -> bool:
        """Whether any part of it holds at this gateway, or in the mesh."""
        return gateway in self.gateways or any(gateway in match.gateways for match in self.all_matches())

    def all_matches(self) -> Iterator[RequestMatch | ConnectionMatch]:
        """Every match of every rule."""
        for rule in self.rules:
            yield from rule.matches
        for connections in (*self.tls, *self.tcp):
            yield from connections.matches

    def all_targets(self) -> Iterator[Target]:
        """Every destination that some rule names, mirrors included."""
        for rule in self.rules:
            yield from (target for target, _, _ in rule.targets)
            yield from (target for target, _ in rule.mirrors)
        for connections in (*self.tls, *self.tcp):
            yield from (target for target, _ in connections.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One match of one rule, with targets as names of upstreams. They are tried in order."""

    name: str
    match: RequestMatch
    clusters: tuple[tuple[str, int, HeaderChanges], ...]
    mirrors: tuple[tuple[str, float], ...]
    handling: Handling
    origin: Origin | None = None
    hashes: tuple[ConsistentHash, ...] = ()
    """What destinations choose their endpoints by, where a rule says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRoute:
    """One match of a rule for connections, with targets as names of upstreams and weights. They are tried in order."""

    sni_hosts: tuple[str, ...]
    subnets: tuple[str, ...]
    clusters: tuple[tuple[str, int], ...]
    treatment: Treatment = field(default_factory=Treatment)
