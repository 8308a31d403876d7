"""Whom a client can ask, where nobody has said: helloworld; where it does not know that one, the names that its own Envoy knows, and what the
gateways of its cluster let in from outside, as far as they answer as samples do.

What Envoys were given is the truth here: a name that no route table has cannot be called, whoever declares it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from isthmus.localruntime.mesh_client import MeshClient, MeshRefused
from isthmus.localruntime.traffic import HELLOWORLD, Target, ask

_SYSTEM = ".istio-system.svc.cluster.local"
_TARGETS_MAX = 12
"""Of a mesh with many names it is enough to see some."""

Where = tuple[str, str, str]


def destinations(mesh: MeshClient, status: dict[str, Any], where: Where) -> list[Target]:
    """Of the client at (cluster, namespace, Pod); empty if nobody that it knows answers as a sample."""
    known = list(named_in(_routes(mesh, *where)))
    if HELLOWORLD in known:
        return [HELLOWORLD]
    offered = [target for each in _gateways(status, where[0]) for target in _offered(mesh, *each)]
    return [target for target in [*known, *offered][:_TARGETS_MAX] if _answers(mesh, where, target)]


def named_in(dump: dict[str, Any]) -> Iterator[Target]:
    """The services in an Envoy's route tables, each at its lowest port. Nothing of the mesh's own."""
    ports: dict[str, int] = {}
    for host, port in _hosts(dump):
        ports[host] = min(port, ports.get(host, port))
    for host, port in sorted(ports.items()):
        if not host.endswith(_SYSTEM) and "*" not in host:
            yield Target(host, port)


def _hosts(dump: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Virtual hosts are called HOST:PORT."""
    for config in dump.get("configs", ()):
        for table in config.get("dynamic_route_configs", [config] if "route_config" in config else []):
            for each in table["route_config"].get("virtual_hosts", ()):
                host, _, port = each["name"].rpartition(":")
                if host and port.isdecimal():
                    yield host, int(port)


def _gateways(status: dict[str, Any], cluster: str) -> Iterator[tuple[Where, str]]:
    """Each Pod of a gateway of the cluster that has an address outside, and one such address."""
    [own] = [each for each in status["clusters"] if each["id"] == cluster]
    for gateway in own["gateways"]:
        for pod in own["pods"]:
            is_its = (pod["namespace"], pod["name"].startswith(f"{gateway['name']}-")) == (gateway["namespace"], True)
            if is_its and pod["hasProxy"] and gateway["addresses"]:
                yield (cluster, pod["namespace"], pod["name"]), gateway["addresses"][0]


def _offered(mesh: MeshClient, where: Where, address: str) -> Iterator[Target]:
    """What a gateway lets in, asked for at its address outside; nothing of one whose Envoy is being started again."""
    with contextlib.suppress(MeshRefused):
        for target in named_in(_routes(mesh, *where)):
            yield Target(target.host, target.port, at=address)


def _routes(mesh: MeshClient, cluster: str, namespace: str, name: str) -> dict[str, Any]:
    page: dict[str, Any] = json.loads(
        mesh.envoy(cluster, namespace, name, "config_dump?resource=dynamic_route_configs")
    )
    return page


def _answers(mesh: MeshClient, where: Where, target: Target) -> bool:
    return any("pod" in answer for answer in ask(mesh, *where, count=1, target=target))
