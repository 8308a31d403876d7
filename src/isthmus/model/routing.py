"""Where requests go: what VirtualServices say, as values; and the same resolved for one service port, ready to be encoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from isthmus.model.names import Hostname, Namespace


class Comparison(StrEnum):
    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class TextMatch:
    comparison: Comparison
    value: str = ""


Named = tuple[tuple[str, TextMatch], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMatch:
    """Everything that is said has to hold. `port` 0 and an empty `source_namespace` say nothing."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderChanges:
    """In this order: set, add, remove."""

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
    path: str = ""
    authority: str = ""
    port: int = 0
    scheme: str = ""
    code: int = 301


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """`on` empty is the default."""

    attempts: int
    per_try_seconds: float | None = None
    on: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Percentages from 0 to 100."""

    delay_percent: float = 0
    delay_seconds: float = 0
    abort_percent: float = 0
    abort_status: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """What is done with requests of a rule, whichever destination they go to."""

    redirect: Redirect | None = None
    response_status: int = 0
    response_body: str = ""
    rewrite_path: str = ""
    rewrite_authority: str = ""
    rewrite_regex: tuple[str, str] | None = None
    timeout_seconds: float | None = None
    retries: Retries | None = None
    fault: Fault | None = None
    headers: HeaderChanges = field(default_factory=HeaderChanges)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRule:
    """No matches means every request. `targets` with their weights and header changes; `mirrors` with percentages."""

    name: str
    matches: tuple[RequestMatch, ...]
    targets: tuple[tuple[Target, int, HeaderChanges], ...]
    mirrors: tuple[tuple[Target, float], ...]
    handling: Handling


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualService:
    """For the mesh's own proxies. `hosts` are full names, or begin with `*`."""

    created: str
    namespace: Namespace
    name: str
    hosts: tuple[Hostname, ...]
    rules: tuple[HttpRule, ...]
    export_to: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One match of one rule, with targets as names of upstreams. They are tried in order."""

    name: str
    match: RequestMatch
    clusters: tuple[tuple[str, int, HeaderChanges], ...]
    mirrors: tuple[tuple[str, float], ...]
    handling: Handling
