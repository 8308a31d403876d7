"""What Gateway API's objects are to be told: their statuses, as a pure function of the snapshot.

What other controllers have written stays: a route may have parents that are theirs. A condition keeps the time of its last change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from isthmus.api import gateway_api as api
from isthmus.api.registry import KINDS
from isthmus.assurance.conditions import conditions, objects_in
from isthmus.ingest.gateway_api.backends import missing, ports_by_host
from isthmus.ingest.inputs import Objects
from isthmus.model.attachments import (
    ACCEPTED,
    Condition,
    GatewayAttachments,
    ListenerAttachments,
    ListenerSetAttachments,
    Parent,
    RouteAttachments,
    RouteParent,
)
from isthmus.model.names import Hostname
from isthmus.model.snapshot import Snapshot
from isthmus.model.values import dataclass

CONTROLLER = "istio.io/gateway-controller"
"""Who speaks in a route's status. It is Istio's name, so that its tools and its users find what they look for."""

_SETS = "attachedListenerSets"

Object = dict[str, Any]
Status = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedStatus:
    """The status that an object of this version should have. `kind` is the registry's key; `is_there`: it has it already."""

    kind: str
    namespace: str
    name: str
    version: str
    status: Status
    is_there: bool


def gateway_statuses(snapshot: Snapshot, objects: Objects, now: str) -> Iterator[WantedStatus]:
    """The statuses of all objects that are ours to speak of, in the order of kinds and names. `objects` are the config cluster's."""
    attachments = snapshot.attachments
    for name in attachments.classes:
        found = objects.get("GatewayClass", {}).get(("", name))
        if isinstance(found, api.GatewayClass):
            yield _wanted(found, "GatewayClass", {"conditions": conditions((ACCEPTED,), found.status, found, now)})
    for gateway in attachments.gateways:
        found = objects.get("KubernetesGateway", {}).get((gateway.namespace, gateway.name))
        if isinstance(found, api.KubernetesGateway):
            yield _wanted(found, "KubernetesGateway", _gateway(gateway, found, now))
    for each in attachments.listener_sets:
        found = objects.get("ListenerSet", {}).get((each.namespace, each.name))
        if isinstance(found, api.ListenerSet):
            yield _wanted(found, "ListenerSet", _listener_set(each, found, now))
    known = ports_by_host(snapshot.services) if attachments.routes else {}
    ours = {(route.kind, route.namespace, route.name): route for route in attachments.routes}
    for kind in ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"):
        for name_of, obj in sorted(objects.get(kind, {}).items()):
            if isinstance(obj, api.Route):
                attached = ours.get((kind, *name_of))  # type: ignore[arg-type]
                if attached is not None or any(map(_is_ours, _parents_in(obj.status))):
                    yield _wanted(obj, kind, _route(attached, obj, known, now))

    for policy in attachments.policies:
        found = objects.get(policy.kind, {}).get((policy.namespace, policy.name))
        if isinstance(found, api.BackendTLSPolicy):
            yield _wanted(found, policy.kind, _policy(policy, found, now))


def documents(wanted: Iterable[WantedStatus]) -> list[Object]:
    """As `isthmus gateway-status` prints them."""
    found = []
    for each in wanted:
        kind = KINDS[each.kind]
        metadata = {"name": each.name, **({"namespace": each.namespace} if each.namespace else {})}
        found.append(
            {
                "apiVersion": f"{kind.group}/{kind.version}",
                "kind": kind.name,
                "metadata": metadata,
                "status": each.status,
            }
        )
    return found


def _wanted(obj: Any, kind: str, status: Status) -> WantedStatus:
    metadata = obj.metadata
    return WantedStatus(
        kind=kind,
        namespace=metadata.namespace,
        name=metadata.name,
        version=metadata.resource_version,
        status=status,
        is_there=_has(obj.status, status),
    )


def _has(current: Mapping[str, Any], wanted: Status) -> bool:
    return all(current.get(key) == value for key, value in wanted.items())


def _gateway(gateway: GatewayAttachments, obj: api.KubernetesGateway, now: str) -> Status:
    # An API server whose definition is older than ListenerSets would prune the number, and be given it again for ever.
    counted = gateway.listener_sets is not None or _SETS in obj.status
    return {
        "conditions": conditions(gateway.conditions, obj.status, obj, now),
        "addresses": [{"type": kind, "value": value} for kind, value in gateway.addresses],
        "listeners": _listeners(gateway.listeners, obj, now),
        **({_SETS: gateway.listener_sets or 0} if counted else {}),
    }


def _listener_set(told: ListenerSetAttachments, obj: api.ListenerSet, now: str) -> Status:
    return {
        "conditions": conditions(told.conditions, obj.status, obj, now),
        "listeners": _listeners(told.listeners, obj, now),
    }


def _listeners(
    told: Sequence[ListenerAttachments], obj: api.KubernetesGateway | api.ListenerSet, now: str
) -> list[Status]:
    before = {each.get("name"): each for each in objects_in(obj.status, "listeners")}
    return [_listener(each, before.get(each.name, {}), obj, now) for each in told]


def _listener(
    listener: ListenerAttachments,
    before: Mapping[str, Any],
    obj: api.KubernetesGateway | api.ListenerSet,
    now: str,
) -> Status:
    return {
        "name": listener.name,
        "supportedKinds": [{"group": api.GROUP, "kind": kind} for kind in listener.kinds],
        "attachedRoutes": listener.attached,
        "conditions": conditions(listener.conditions, before, obj, now),
    }


def _route(attached: RouteAttachments | None, obj: api.Route, known: Mapping[Hostname, set[int]], now: str) -> Status:
    before = _parents_in(obj.status)
    own = [each for each in before if _is_ours(each)]
    others = [each for each in before if not _is_ours(each)]
    found = []
    for parent in attached.parents if attached else ():
        reference = _reference(parent.parent)
        same = next((each for each in own if each.get("parentRef") == reference), {})
        told = conditions(_of_parent(parent, attached, known), same, obj, now)
        found.append({"parentRef": reference, "controllerName": CONTROLLER, "conditions": told})
    return {"parents": [*others, *found]}


def _policy(told: RouteAttachments, obj: api.BackendTLSPolicy, now: str) -> Status:
    """A policy's ancestors are what it is about. Those of other controllers stay."""
    before = objects_in(obj.status, "ancestors")
    own = [each for each in before if _is_ours(each)]
    found = []
    for parent in told.parents:
        reference = _reference(parent.parent)
        same = next((each for each in own if each.get("ancestorRef") == reference), {})
        said = conditions((parent.accepted, parent.references), same, obj, now)
        found.append({"ancestorRef": reference, "controllerName": CONTROLLER, "conditions": said})
    return {"ancestors": [*(each for each in before if not _is_ours(each)), *found]}


def _of_parent(
    parent: RouteParent, attached: RouteAttachments | None, known: Mapping[Hostname, set[int]]
) -> Sequence[Condition]:
    references = parent.references
    absent = missing(attached, known) if attached and references.holds else ()
    if absent:
        what = ", ".join(backend.written for backend in absent)
        references = Condition("ResolvedRefs", False, "BackendNotFound", f"there is no {what}")
    return (parent.accepted, references, *parent.others)


def _reference(parent: Parent) -> Object:
    """As the API server fills it in, so that it can be compared with what is there."""
    written: Object = {"group": parent.group, "kind": parent.kind, "name": parent.name}
    if parent.namespace:
        written["namespace"] = parent.namespace
    if parent.section:
        written["sectionName"] = parent.section
    if parent.port:
        written["port"] = parent.port
    return written


def _is_ours(parent: Mapping[str, Any]) -> bool:
    return parent.get("controllerName") == CONTROLLER


def _parents_in(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return objects_in(status, "parents")
