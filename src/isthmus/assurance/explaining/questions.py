"""The questions: what becomes of this request (explain), and why does it go there (why). `absence` has the third: why not to that one.

Each is asked about one proxy's view of one snapshot; the same functions answer from files and inside a running control plane.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from isthmus.assurance.explaining.asked import Asked, BadQuestion, client_of
from isthmus.assurance.explaining.far_end import Arrival, FarEnds
from isthmus.assurance.explaining.naming import (
    address_of,
    port_of,
    resolved,
    service_named,
    speaks_http,
    starts_with_tls,
)
from isthmus.assurance.explaining.upstreams import destinations_at, starts_tls
from isthmus.assurance.explaining.way import explained_way
from isthmus.assurance.traffic.request import Request, Tls
from isthmus.assurance.traffic.walk import Outcome, Share, Side, Walk, walk
from isthmus.discovery.federation import untold
from isthmus.discovery.sight import unseen
from isthmus.model.names import Hostname
from isthmus.model.services import Service
from isthmus.model.views import ProxyKind, View

Object = dict[str, Any]


def explain(asked: Asked, request: Request, *, inbound: bool) -> Object:
    """What becomes of one request at one proxy."""
    side = Side.INBOUND if inbound else Side.OUTBOUND
    if asked.proxy.scope.kind is ProxyKind.ROUTER:
        side = Side.GATEWAY
    if inbound and not request.address:
        request = replace(request, address=next(iter(asked.proxy.ips), ""))
    found = walk(asked.configuration, request, side)
    return {"node": {"id": asked.proxy.id}, "request": _request(request, side)} | explained_way(
        found, asked.view, asked.snapshot, request.port
    )


def why(asked: Asked, name: str, port: int, request: Request) -> Object:
    """Where requests of a client to a service go, and what is said to them there. `port` 0 means the service's only one.

    `request` says how the client asks: path, method, headers. Raises BadQuestion.
    """
    if asked.proxy.scope.kind is ProxyKind.ROUTER:
        raise BadQuestion(
            "a gateway asks nobody by itself: `isthmus explain` tells what becomes of a request that comes to one of its ports"
        )
    service = service_named(name, asked)
    hidden = unseen(asked.view.outbound.scope, service, asked.snapshot) if service else None
    if service and hidden:
        says = f"the service is hidden from {asked.proxy.scope.namespace}: {hidden.detail}"
        why_hidden = {"verdict": "hidden", "says": says, "rule": str(hidden.rule), "edit": hidden.edit}
        return client_of(asked) | {"service": _service(service)} | why_hidden
    missing = untold(name, asked.snapshot) if service is None else None
    if missing:
        story = {"verdict": "not shared", "says": missing.detail, "rule": str(missing.rule or ""), "edit": missing.edit}
        return client_of(asked) | story
    number = port_of(service, name, port)
    host = service.hostname if service else Hostname(name.lower())
    dns = resolved(asked, host)
    request = replace(request, host=host, port=number, address=address_of(asked, dns, host, number))
    request = replace(request, is_http=service is None or speaks_http(service, number))
    if service and starts_with_tls(service, number):
        request = replace(request, tls=Tls.TLS, sni=host)
    found = walk(asked.configuration, request, Side.OUTBOUND)
    answer: Object = client_of(asked) | {"request": _request(request, Side.OUTBOUND), "dns": dns}
    if service:
        answer["service"] = _service(service) | {"port": number}
    answer["way"] = explained_way(found, asked.view, asked.snapshot, request.port)
    answer["policies"] = FarEnds(asked.snapshot).verdicts(
        list(_arrivals(found, asked.view)),
        as_sent(asked, _by_mutual_tls(found, asked.view), request),
    )
    return answer | _conclusion(found, answer["policies"], dns)


def _arrivals(found: Walk, view: View) -> Iterator[Arrival]:
    """Every endpoint that gets a share, as its own proxy sees the request."""
    by_name = {upstream.name: upstream for upstream in view.outbound.upstreams}
    for share in found.shares:
        upstream = by_name.get(share.upstream)
        for chosen in share.endpoints if upstream else ():
            assert upstream is not None, "without an upstream there are no endpoints here"
            for destination in destinations_at(upstream, chosen):
                for endpoint in destination.stands_for:
                    port = endpoint.port_named(upstream.port.name) or 0
                    yield Arrival(endpoint, port, destination.mutual_tls)


def _by_mutual_tls(found: Walk, view: View) -> Share | None:
    by_name = {upstream.name: upstream for upstream in view.outbound.upstreams}
    shares = (share for share in found.shares if share.sni and not starts_tls(share, by_name.get(share.upstream)))
    return next(shares, None)


def as_sent(asked: Asked, share: Share | None, request: Request) -> Request:
    """As the client's proxy sends it on to an upstream: by mutual TLS, with what it offers and the identity that it proves."""
    if share is None or not share.sni:
        return request
    return replace(
        request,
        tls=Tls.MUTUAL,
        sni=share.sni,
        alpn=share.offers,
        caller=str(asked.identity or ""),
        source=next(iter(asked.proxy.ips), ""),
    )


def _conclusion(found: Walk, policies: list[Object], dns: Object) -> Object:
    """In one word and one sentence."""
    if found.outcome is not Outcome.FORWARDED:
        return {"verdict": "not forwarded", "says": found.says}
    denied = [each for each in policies if each["verdict"] == "denied"]
    if policies and len(denied) == len(policies):
        return {"verdict": "denied", "says": denied[0]["says"]}
    if not dns["addresses"] and dns.get("edit"):
        return {"verdict": "not resolved", "says": f"{dns['by']} has no address for {dns['host']}: {dns['detail']}"}
    if denied:
        return {"verdict": "partly denied", "says": denied[0]["says"]}
    return {"verdict": "allowed", "says": found.says}


def _service(service: Service) -> Object:
    return {
        "kind": service.origin.kind,
        "namespace": service.origin.namespace,
        "name": service.origin.name,
        "host": service.hostname,
        "declaredIn": list(service.declared_in),
    }


def _request(request: Request, side: Side) -> Object:
    said: Mapping[str, Any] = {
        "address": request.address,
        "host": request.host,
        "path": request.path if request.is_http else "",
        "method": request.method if request.is_http else "",
        "headers": dict(request.headers),
        "sni": request.sni,
    }
    fixed = {"direction": side.value, "port": request.port, "tls": request.tls.value}
    return fixed | {key: value for key, value in said.items() if value}
