"""Where a Service is to be found from the server's own place: its endpoints, or the addresses that lead to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.apiserver.kinds import BUILT_IN
from isthmus.apiserver.store import Store

_BY_NAME = {kind.name: kind for kind in BUILT_IN}
_SERVICE, _SLICE = _BY_NAME["Service"], _BY_NAME["EndpointSlice"]
_SERVICE_LABEL = "kubernetes.io/service-name"


class NoAddress(Exception):
    """A Service that is not there, or has nobody to serve it."""


def service_addresses(store: Store, namespace: str, name: str, number: int) -> Iterator[tuple[str, int]]:
    """Ready endpoints first: the server may stand where virtual addresses lead nowhere. Raises NoAddress if there are none at all."""
    stored = store.find(_SERVICE, (namespace, name))
    if stored is None:
        raise NoAddress(f'service "{name}" not found in namespace "{namespace}"')
    spec: dict[str, Any] = stored.obj.get("spec", {})
    if spec.get("type") == "ExternalName":
        yield str(spec.get("externalName", "")), number
        return
    port = next((port for port in spec.get("ports") or () if port.get("port") == number), None)
    if port is None:
        raise NoAddress(f'service "{name}" in namespace "{namespace}" has no port {number}')
    ready = list(_endpoints(store, namespace, name, port.get("name", "")))
    ingress = (stored.obj.get("status", {}).get("loadBalancer") or {}).get("ingress") or ()
    virtual = [entry.get("ip") or entry.get("hostname") for entry in ingress]
    virtual += [ip for ip in spec.get("clusterIPs") or () if ip != "None"]
    if not ready:
        raise NoAddress(f'no endpoints available for service "{name}" in namespace "{namespace}"')
    yield from ready
    yield from ((str(host), number) for host in virtual if host)


def _endpoints(store: Store, namespace: str, name: str, port_name: str) -> Iterator[tuple[str, int]]:
    for stored in store.items(_SLICE, namespace):
        if (stored.outline["metadata"].get("labels") or {}).get(_SERVICE_LABEL) != name:
            continue
        slice_ = stored.obj
        numbers = [port.get("port") for port in slice_.get("ports") or () if (port.get("name") or "") == port_name]
        for endpoint in slice_.get("endpoints") or ():
            if numbers and numbers[0] and (endpoint.get("conditions") or {}).get("ready") is not False:
                yield from ((str(address), int(numbers[0])) for address in endpoint.get("addresses") or ())
