"""Why not: the first rule by which an address, or a Pod, gets no requests from a client, and the edit that would bring it back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.assurance.explaining.asked import Asked, BadQuestion, client_of
from isthmus.assurance.explaining.derivations import service_of
from isthmus.assurance.explaining.far_end import Arrival, FarEnds
from isthmus.assurance.explaining.questions import as_sent
from isthmus.assurance.explaining.upstreams import left_out, workload_of
from isthmus.assurance.traffic.request import Request
from isthmus.assurance.traffic.walk import share_of
from isthmus.discovery.federation import Untold, untold
from isthmus.discovery.sight import unseen
from isthmus.envoy import outbound
from isthmus.model.views import Destination, ProxyKind, Upstream
from isthmus.model.workloads import Endpoint

Object = dict[str, Any]


def why_not(asked: Asked, what: str) -> Object:
    """`what` is an address, `POD` or `POD.NAMESPACE`, exact or the beginning of its name, or the name of a service in another mesh. Raises
    BadQuestion for one that answers for no service at all: what it would need is in the message.
    """
    endpoints = list(_meant(asked, what))
    if not endpoints and (missing := untold(what, asked.snapshot)):
        answer = {"host": what, "verdict": "not shared", "reason": "not_shared"} | untold_story(missing)
        return client_of(asked) | {"asked": what, "answers": [answer]}
    if not endpoints:
        raise BadQuestion(
            f"{what} is no endpoint of any service that this control plane knows: a Service has to select its Pod, the Pod needs an"
            " address, and its cluster has to be discovered"
        )
    return client_of(asked) | {"asked": what, "answers": [_answer(asked, endpoint) for endpoint in endpoints]}


def _meant(asked: Asked, what: str) -> Iterator[Endpoint]:
    every = [each for _, found in sorted(asked.snapshot.endpoints.items()) for each in found]
    by_address = [each for each in every if each.ip == what or (each.workload.mesh and each.service.hostname == what)]
    if by_address:
        yield from by_address
        return
    for name, namespace in ((what, asked.proxy.scope.namespace), tuple(what.rpartition(".")[::2])):
        of_namespace = [each for each in every if each.workload.namespace == namespace]
        exact = [each for each in of_namespace if each.workload.name == name]
        found = exact or [each for each in of_namespace if name and each.workload.name.startswith(f"{name}-")]
        if found:
            yield from found
            return


def untold_story(found: Untold) -> Object:
    """How it is told in answers that a name of another mesh means nothing here."""
    rule = {"rule": str(found.rule)} if found.rule else {}
    return {"detail": found.detail, "edit": found.edit} | rule


def _answer(asked: Asked, endpoint: Endpoint) -> Object:
    """For one service that it answers for. The rules are asked in the order in which they are applied."""
    service = asked.snapshot.services[endpoint.service]
    answer = workload_of(endpoint) | {"service": f"{service.namespace}/{service.name}", "host": service.hostname}
    hidden = unseen(asked.view.outbound.scope, service, asked.snapshot)
    if hidden:
        return answer | {
            "verdict": "left out",
            "reason": "service_hidden",
            "rule": str(hidden.rule),
            "detail": hidden.detail,
            "edit": hidden.edit,
        }
    ports = [
        _of_port(asked, endpoint, upstream)
        for upstream in asked.view.outbound.upstreams
        if upstream.service.key == service.key
    ]
    given = next((each for each in ports if each["verdict"] != "left out"), None)
    if given and (unheard := _unheard(asked, endpoint)):
        return answer | {"verdict": "left out"} | unheard
    if given and (elsewhere := _routed_elsewhere(asked, endpoint)):
        return answer | {"verdict": "not routed"} | elsewhere
    return answer | (
        given or next(iter(ports), {"verdict": "left out", "reason": "no_ports", "detail": "the service has no port"})
    )


def _unheard(asked: Asked, endpoint: Endpoint) -> Object | None:
    """Why the client's proxy has a listener for no port of the service, where it has none."""
    view = asked.view.outbound
    own = {each.name for each in view.upstreams if each.service.key == endpoint.service and not each.subset}
    planned = outbound.plan(view.upstreams, view.scope, view.placement)
    found = [each for each in planned.shadowed if each.upstream.name in own]
    if view.scope.kind is not ProxyKind.SIDECAR or not found or len(found) < len(own):
        return None
    port, by = found[0].upstream.port.number, found[0].by
    if by is None:
        detail = f"port {port} is one of those that proxies use themselves, and no address tells it from them"
        return {"reason": "no_listener", "detail": detail, "edit": "give the service another port, or an address"}
    detail = f"nothing tells its connections on port {port} from those to {service_of(by)}, which gets them all"
    edit = "give one of the two another address or port, or a protocol with a host (HTTP) or a server name (TLS)"
    return {"reason": "no_listener", "detail": detail, "edit": edit}


def _routed_elsewhere(asked: Asked, endpoint: Endpoint) -> Object | None:
    """The VirtualService whose routes lead past the endpoint, where on every port of the service one does."""
    upstreams = {each.name: each for each in asked.view.outbound.upstreams}
    own = [each for each in upstreams.values() if each.service.key == endpoint.service and not each.subset]
    past: list[str] = []
    for upstream in own:
        targets = [name for route in upstream.routes for name, _, _ in route.clusters]
        targets += [name for connection in upstream.connections for name, _ in connection.clusters]
        if not targets or any(name in upstreams and _is_behind(upstreams[name], endpoint) for name in targets):
            return None
        past += [str(route.origin) for route in upstream.routes if route.origin]
    if not past:
        return None
    return {
        "rule": past[0],
        "reason": "not_routed",
        "detail": f"no route of {past[0]} leads to a destination that it belongs to",
        "edit": f"add a destination for it (host {endpoint.service.hostname}, its subset) to a route of {past[0]}",
    }


def _is_behind(upstream: Upstream, endpoint: Endpoint) -> bool:
    return any(endpoint in to.stands_for for group in upstream.groups for to in group.destinations)


def _of_port(asked: Asked, endpoint: Endpoint, upstream: Upstream) -> Object:
    found: Object = {"cluster": endpoint.cluster, "upstream": upstream.name}
    for left in upstream.left_out:
        if left.endpoint == endpoint:
            said = left_out(left, upstream, asked.view.outbound.scope, asked.snapshot)
            rule = (
                {"rule": str(upstream.rule)}
                if upstream.rule and left.why.reason in ("not_in_subset", "no_share")
                else {}
            )
            return found | rule | {"verdict": "left out"} | {key: said[key] for key in ("reason", "detail", "edit")}
    for group in upstream.groups:
        for destination in group.destinations:
            if endpoint in destination.stands_for:
                return found | _given(asked, endpoint, upstream, destination, group.priority)
    return found | {"verdict": "left out", "reason": "unknown", "detail": "the view does not say"}


def _given(asked: Asked, endpoint: Endpoint, upstream: Upstream, destination: Destination, priority: int) -> Object:
    """It is not left out: then perhaps it is not preferred, or refuses the client."""
    gateway = destination.through
    best = min(group.priority for group in upstream.groups)
    answer: Object = {
        "verdict": "given",
        "way": f"through the gateway of network {gateway.network}" if gateway else "direct",
        "priority": priority,
        "weight": destination.weight,
    }
    if priority > best:
        answer |= {
            "verdict": "not preferred",
            "detail": f"it is of priority {priority}: requests come here once priority {best} is not healthy enough",
            "edit": "change localityLbSetting or trafficDistribution, if it should take requests now",
        }
    request = Request(
        port=upstream.port.number, host=upstream.service.hostname, is_http=not upstream.port.protocol.is_opaque
    )
    arriving = as_sent(asked, share_of(asked.configuration, upstream.name, 100.0, ()), request)
    port = endpoint.port_named(upstream.port.name) or 0
    [said] = FarEnds(asked.snapshot).verdicts([Arrival(endpoint, port, destination.mutual_tls)], arriving)
    if said["verdict"] == "denied":
        policy = said.get("policy", "")
        edit = f"let {policy} allow {asked.identity}" if policy else f"let a policy there allow {asked.identity}"
        answer |= {"verdict": "denied", "rule": policy, "detail": said["says"], "edit": edit}
    return answer
