"""EndpointSlices: which Pods a Service with a selector leads to, and in which state each is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from isthmus.kubernetes.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from isthmus.localruntime.controllers.actions import (
    Action,
    Create,
    Delete,
    Object,
    Replace,
    State,
    is_going,
    is_ready,
    name_of,
    owner_reference,
)

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
OURS = "endpointslice-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
_ZONE = "topology.kubernetes.io/zone"

_Ports = tuple[tuple[str, str, int, str], ...]
"""(name, protocol, number, application protocol) of each port; Pods may number a named port differently."""


def endpoint_slices(state: State, now: str) -> Iterator[Action]:
    """One slice for each set of port numbers; none is empty but the last."""
    del now
    wanted: dict[tuple[str, str], Object] = {}
    for service in state[SERVICES].values():
        if service["spec"].get("selector") and service["spec"].get("type") != "ExternalName":
            wanted |= {name_of(slice_): slice_ for slice_ in _slices(service, state)}
    present = {
        name: slice_
        for name, slice_ in state[ENDPOINT_SLICES].items()
        if (slice_["metadata"].get("labels") or {}).get(MANAGED_BY) == OURS
    }
    for name, slice_ in wanted.items():
        before = present.get(name)
        if before is None:
            yield Create(ENDPOINT_SLICES, slice_)
        elif _said(before) != _said(slice_):
            yield Replace(
                ENDPOINT_SLICES, slice_ | {"metadata": before["metadata"] | {"labels": slice_["metadata"]["labels"]}}
            )
    yield from (Delete(ENDPOINT_SLICES, name) for name in present.keys() - wanted.keys())


def _slices(service: Object, state: State) -> Iterator[Object]:
    namespace = service["metadata"]["namespace"]
    selector = service["spec"]["selector"].items()
    groups: dict[_Ports, list[Object]] = {}
    for (inside, _), pod in sorted(state[PODS].items()):
        selected = inside == namespace and selector <= (pod["metadata"].get("labels") or {}).items()
        if selected and pod.get("status", {}).get("podIP") and pod["status"].get("phase") == "Running":
            groups.setdefault(_ports(service, pod), []).append(_endpoint(service, pod, state))
    for ports, endpoints in (groups or {_ports(service, None): []}).items():
        yield _slice(service, ports, endpoints)


def _slice(service: Object, ports: _Ports, endpoints: list[Object]) -> Object:
    metadata = service["metadata"]
    suffix = hashlib.sha256(repr((metadata["uid"], ports)).encode()).hexdigest()[:5]
    labels = {**(metadata.get("labels") or {}), SERVICE_NAME: metadata["name"], MANAGED_BY: OURS}
    if service["spec"].get("clusterIP") == "None":
        labels["service.kubernetes.io/headless"] = ""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{metadata['name']}-{suffix}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(service, "Service", "v1")],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [
            {"name": name, "protocol": protocol, "port": port} | ({"appProtocol": application} if application else {})
            for name, protocol, port, application in ports
        ],
    }


def _endpoint(service: Object, pod: Object, state: State) -> Object:
    serving = is_ready(pod) or bool(service["spec"].get("publishNotReadyAddresses"))
    spec, metadata = pod["spec"], pod["metadata"]
    node = state[NODES].get(("", spec.get("nodeName", "")), {"metadata": {}})
    zone = (node["metadata"].get("labels") or {}).get(_ZONE, "")
    hostname = spec.get("hostname", "") if spec.get("subdomain") == service["metadata"]["name"] else ""
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": serving and (not is_going(pod) or bool(service["spec"].get("publishNotReadyAddresses"))),
            "serving": serving,
            "terminating": is_going(pod),
        },
        "nodeName": spec.get("nodeName", ""),
        "targetRef": {
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        **({"zone": zone} if zone else {}),
        **({"hostname": hostname} if hostname else {}),
    }


def _ports(service: Object, pod: Object | None) -> _Ports:
    """A Pod that does not have a named port is left without it."""
    named = {
        port["name"]: port["containerPort"]
        for container in (pod["spec"]["containers"] if pod else ())
        for port in container.get("ports") or ()
        if port.get("name")
    }
    found = []
    for port in service["spec"].get("ports") or ():
        target = port.get("targetPort", port["port"])
        number = named.get(target) if isinstance(target, str) else target
        if number is not None:
            found.append((port.get("name", ""), port.get("protocol", "TCP"), int(number), port.get("appProtocol", "")))
    return tuple(found)


def _said(slice_: Object) -> tuple[object, ...]:
    return (
        slice_["metadata"].get("labels"),
        slice_["addressType"],
        slice_.get("endpoints") or [],
        slice_.get("ports") or [],
    )
