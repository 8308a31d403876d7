"""A request's way through one proxy: listener, filter chain, policies, virtual host, route, upstream, endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from isthmus.assurance.traffic import listening, requests
from isthmus.assurance.traffic.balancing import Chosen, endpoints_of, shares
from isthmus.assurance.traffic.filters import Judged, Verdict, judged_connections, judged_requests
from isthmus.assurance.traffic.policies import Facts
from isthmus.assurance.traffic.request import Request
from isthmus.assurance.traffic.texts import path_as_seen
from isthmus.model.values import dataclass

Object = Mapping[str, Any]

_MANAGER = "envoy.filters.network.http_connection_manager"
_TCP = "envoy.filters.network.tcp_proxy"
_STATE = "envoy.filters.network.set_filter_state"
_FAULT = "envoy.filters.http.fault"


class Side(StrEnum):
    """Which of a proxy's listeners a connection meets: captured on its way out or in, or accepted by a gateway."""

    OUTBOUND = "outbound"
    INBOUND = "inbound"
    GATEWAY = "gateway"


class Outcome(StrEnum):
    """What becomes of a request."""

    FORWARDED = "forwarded"
    ANSWERED = "answered"
    REDIRECTED = "redirected"
    DENIED = "denied"
    NOT_FOUND = "not_found"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """An upstream with its share of what the route takes. `kind` is Envoy's: EDS, ORIGINAL_DST, ….

    `offers` are the protocols (ALPN) that it is spoken to with, `sni` the name that is asked for, where it is spoken to with TLS.
    """

    upstream: str
    percent: float
    kind: str = ""
    rule: str = ""
    endpoints: tuple[Chosen, ...] = ()
    sni: str = ""
    offers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """`status` is that of the answer where the proxy itself gives one. Names are empty for what the request did not come to."""

    outcome: Outcome
    says: str
    status: int = 0
    listener: str = ""
    chain: str = ""
    chain_match: str = ""
    judged: tuple[Judged, ...] = ()
    is_http: bool = False
    table: str = ""
    virtual_host: str = ""
    domain: str = ""
    route: str = ""
    route_match: str = ""
    route_rule: str = ""
    """The object that the route came from, as `VirtualService namespace/name`; empty for the proxy's own."""
    faults: tuple[str, ...] = ()
    shares: tuple[Share, ...] = ()


class Configuration:
    """A rendered document, looked up by name."""

    def __init__(self, document: Object) -> None:
        self.listeners: Sequence[Object] = document.get("listeners", ())
        self.tables = {each["name"]: each for each in document.get("routes", ())}
        self.upstreams = {each["name"]: each for each in document.get("clusters", ())}
        self.assignments = {each["clusterName"]: each for each in document.get("endpoints", ())}


def walk(found: Configuration, request: Request, side: Side) -> Walk:
    """What the proxy does with the request."""
    listener = _listener(found, request, side)
    if listener is None:
        return Walk(outcome=Outcome.CLOSED, says=f"nothing listens on port {request.port}: the connection is refused")
    here = Walk(outcome=Outcome.CLOSED, says="", listener=listener.get("name", ""))
    chain = listening.chain_for(listener, listening.seen_by(listener, request), request)
    if chain is None:
        return replace(here, says="no filter chain is for such a connection: it is closed")
    is_default = chain is listener.get("defaultFilterChain")
    here = replace(here, chain=chain.get("name", ""), chain_match=listening.described(chain))
    if is_default:
        here = replace(here, chain_match="what no other chain is for")
    return _through(found, chain.get("filters", ()), request, here)


def _listener(found: Configuration, request: Request, side: Side) -> Object | None:
    match side:
        case Side.OUTBOUND:
            return listening.outbound_listener(found.listeners, request.address, request.port)
        case Side.INBOUND:
            return listening.inbound_listener(found.listeners)
        case Side.GATEWAY:
            return listening.bound_listener(found.listeners, request.port)


def _through(found: Configuration, filters: Sequence[Object], request: Request, here: Walk) -> Walk:
    judged = judged_connections(filters, request)
    here = replace(here, judged=judged)
    if refused := next((each for each in judged if each.verdict is Verdict.DENIED), None):
        return replace(here, outcome=Outcome.DENIED, says=f"{refused.says}: the connection is closed")
    offers = tuple(_offers(filters))
    for each in filters:
        config = each.get("typedConfig", {})
        if each.get("name") == _MANAGER:
            return _request(found, config, request, replace(here, is_http=True), offers)
        if each.get("name") == _TCP:
            targets = _targets(config)
            says = f"its bytes go to {_listed(targets)}"
            return _forwarded(found, targets, replace(here, says=says), offers)
    return replace(here, says="the chain leads nowhere")


def _offers(filters: Sequence[Object]) -> Iterator[str]:
    """What a filter makes upstream connections offer in ALPN, whatever their upstream says."""
    for each in filters:
        if each.get("name") == _STATE:
            for value in each.get("typedConfig", {}).get("onNewConnection", ()):
                text = value.get("formatString", {}).get("textFormatSource", {}).get("inlineString", "")
                yield from filter(None, text.split(","))


def _request(found: Configuration, manager: Object, request: Request, here: Walk, offers: tuple[str, ...]) -> Walk:
    if not request.is_http:
        return replace(here, says="these bytes are not HTTP: the proxy answers 400", status=400)
    request = replace(request, path=path_as_seen(manager, request.path))
    table = manager.get("routeConfig") or found.tables.get(manager.get("rds", {}).get("routeConfigName", ""))
    if table is None:
        name = manager.get("rds", {}).get("routeConfigName", "")
        return replace(here, outcome=Outcome.NOT_FOUND, status=404, says=f"there is no route table {name}")
    here = replace(here, table=table.get("name", ""))
    headers = request.all_headers()
    host = requests.virtual_host_for(table, headers[":authority"])
    route = requests.route_for(host[0].get("routes", ()), Facts(request, headers)) if host else None
    here = replace(here, judged=(*here.judged, *judged_requests(manager.get("httpFilters", ()), request, route)))
    if host:
        here = replace(here, virtual_host=host[0].get("name", ""), domain=host[1])
    if refused := next((each for each in here.judged if each.verdict is Verdict.DENIED), None):
        return replace(here, outcome=Outcome.DENIED, status=403, says=f"{refused.says}: the proxy answers 403")
    if host is None:
        return replace(here, outcome=Outcome.NOT_FOUND, status=404, says="no virtual host has this host: 404")
    if host[0].get("requireTls", "NONE") != "NONE" and not request.tls.value.endswith("tls"):
        return replace(here, outcome=Outcome.REDIRECTED, status=301, says="plaintext is redirected to HTTPS")
    if route is None:
        return replace(here, outcome=Outcome.NOT_FOUND, status=404, says="no route of the host matches: 404")
    return _routed(found, route, here, offers)


def _routed(found: Configuration, route: Object, here: Walk, offers: tuple[str, ...]) -> Walk:
    here = replace(
        here,
        route=route.get("name", ""),
        route_match=requests.described(route),
        route_rule=_rule_of(route),
        faults=tuple(_faults(route)),
    )
    if "directResponse" in route:
        status = int(route["directResponse"].get("status", 200))
        return replace(here, outcome=Outcome.ANSWERED, status=status, says=f"the proxy itself answers {status}")
    if "redirect" in route:
        return replace(here, outcome=Outcome.REDIRECTED, status=_redirect_status(route), says="it is redirected")
    targets = _targets(route.get("route", {}))
    return _forwarded(found, targets, replace(here, says=f"it goes to {_listed(targets)}"), offers)


def _redirect_status(route: Object) -> int:
    by_name = {"FOUND": 302, "SEE_OTHER": 303, "TEMPORARY_REDIRECT": 307, "PERMANENT_REDIRECT": 308}
    return by_name.get(route["redirect"].get("responseCode", ""), 301)


def _faults(route: Object) -> Iterator[str]:
    fault = route.get("typedPerFilterConfig", {}).get(_FAULT, {})
    if "abort" in fault:
        status = fault["abort"].get("httpStatus", fault["abort"].get("grpcStatus", "an error"))
        yield f"{_percent_of(fault['abort'])} are answered {status} instead"
    if "delay" in fault:
        yield f"{_percent_of(fault['delay'])} wait {fault['delay'].get('fixedDelay', 'a while')}"


def _percent_of(fault: Object) -> str:
    said = fault.get("percentage", {})
    whole = {"TEN_THOUSAND": 10_000, "MILLION": 1_000_000}.get(said.get("denominator", ""), 100)
    return f"{100 * int(said.get('numerator', 0)) / whole:g} %"


def _targets(action: Object) -> list[tuple[str, float]]:
    """Upstreams with percent."""
    if "weightedClusters" in action:
        entries = action["weightedClusters"].get("clusters", ())
        whole = sum(int(entry.get("weight", 0)) for entry in entries)
        return [(entry.get("name", ""), 100 * int(entry.get("weight", 0)) / whole if whole else 0) for entry in entries]
    return [(str(action.get("cluster", "")), 100.0)]


def _listed(targets: Sequence[tuple[str, float]]) -> str:
    if len(targets) == 1:
        return targets[0][0]
    return ", ".join(f"{name} ({percent:g} %)" for name, percent in targets)


def _forwarded(found: Configuration, targets: Sequence[tuple[str, float]], here: Walk, offers: tuple[str, ...]) -> Walk:
    shared = tuple(share_of(found, name, percent, offers) for name, percent in targets)
    if len(shared) == 1:
        [only] = shared
        if only.upstream not in found.upstreams:
            return replace(here, status=503, shares=shared, says=f"there is no upstream {only.upstream}: 503")
        if only.kind == "STATIC" and not only.endpoints:
            return replace(
                here, status=(here.is_http and 503) or 0, shares=shared, says=f"{only.upstream} leads nowhere"
            )
        if only.kind == "EDS" and not any(each.percent for each in only.endpoints):
            says = (
                f"{only.upstream} has no healthy endpoint: 503" if here.is_http else f"{only.upstream} has no endpoint"
            )
            return replace(here, status=503 if here.is_http else 0, shares=shared, says=says)
    return replace(here, outcome=Outcome.FORWARDED, shares=shared)


def share_of(found: Configuration, name: str, percent: float, offers: tuple[str, ...]) -> Share:
    """An upstream as requests meet it. `offers` take the place of what it would offer in ALPN itself."""
    upstream = found.upstreams.get(name)
    if upstream is None:
        return Share(upstream=name, percent=percent)
    groups = endpoints_of(upstream, found.assignments)
    sni, own = _tls_of(upstream)
    return Share(
        upstream=name,
        percent=percent,
        kind=upstream.get("type", "STATIC"),
        rule=_rule_of(upstream),
        endpoints=shares(upstream, groups),
        sni=sni,
        offers=offers or own,
    )


def _tls_of(upstream: Object) -> tuple[str, tuple[str, ...]]:
    """Name and protocols that its mutual TLS asks with; empty without TLS."""
    sockets = [each.get("transportSocket", {}) for each in upstream.get("transportSocketMatches", ())]
    for socket in (*sockets, upstream.get("transportSocket", {})):
        config = socket.get("typedConfig", {})
        if "commonTlsContext" in config:
            return config.get("sni", ""), tuple(config["commonTlsContext"].get("alpnProtocols", ()))
    return "", ()


def _rule_of(resource: Object) -> str:
    """The object that a route or an upstream came from (`metadata.istio.config`), in words."""
    path = str(resource.get("metadata", {}).get("filterMetadata", {}).get("istio", {}).get("config", ""))
    parts = path.strip("/").split("/")
    if len(parts) != 7:
        return ""
    kind = "".join(word.capitalize() for word in parts[5].split("-"))
    return f"{kind} {parts[4]}/{parts[6]}"
