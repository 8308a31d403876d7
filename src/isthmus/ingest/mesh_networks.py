"""Istio's MeshNetworks: networks declared for the whole mesh, beside the labels by which clusters and Pods declare theirs.

Labels win: on the Pod, then on the cluster's system namespace, then what is written here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from isthmus.model.names import ClusterId, Hostname, NetworkId
from isthmus.model.topology import GatewayService, IpRange, MeshNetworks, NetworkGateway

_PORTS = range(1, 65536)


class BadMeshNetworks(ValueError):
    """A value in MeshNetworks that cannot be used: which field, and why."""


def mesh_networks_of(document: Mapping[str, Any]) -> MeshNetworks:
    """From `{networks: {NAME: {endpoints: [...], gateways: [...]}}}`. Raises BadMeshNetworks."""
    networks = document.get("networks") or {}
    if not isinstance(networks, Mapping):
        raise BadMeshNetworks("networks: is not an object")
    clusters: list[tuple[ClusterId, NetworkId]] = []
    ranges: list[tuple[IpRange, NetworkId]] = []
    gateways: list[NetworkGateway] = []
    services: list[GatewayService] = []
    for name, network in networks.items():
        for path, entry in _entries(name, network, "endpoints"):
            if entry.get("fromRegistry"):
                clusters.append((ClusterId(str(entry["fromRegistry"])), NetworkId(name)))
            else:
                ranges.append((_range(path, entry), NetworkId(name)))
        for path, entry in _entries(name, network, "gateways"):
            port = _port(path, entry)
            if entry.get("registryServiceName"):
                hostname = Hostname(str(entry["registryServiceName"]))
                services.append(GatewayService(hostname=hostname, network=NetworkId(name), port=port))
            else:
                address = _address(path, entry)
                gateways.append(
                    NetworkGateway(address=address, port=port, network=NetworkId(name), cluster=ClusterId(""))
                )
    return MeshNetworks(
        clusters=tuple(clusters),
        ranges=tuple(ranges),
        gateways=tuple(sorted(gateways)),
        gateway_services=tuple(services),
    )


def _entries(name: object, network: object, field: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(network, Mapping):
        raise BadMeshNetworks(f"networks.{name}: is not an object")
    for index, entry in enumerate(network.get(field) or ()):
        path = f"networks.{name}.{field}[{index}]"
        if not isinstance(entry, Mapping):
            raise BadMeshNetworks(f"{path}: is not an object")
        yield path, entry


def _range(path: str, entry: Mapping[str, Any]) -> IpRange:
    try:
        return ipaddress.ip_network(str(entry.get("fromCidr", "")), strict=False)
    except ValueError:
        raise BadMeshNetworks(f"{path}: has neither fromRegistry nor a fromCidr that is a range of addresses") from None


def _address(path: str, entry: Mapping[str, Any]) -> str:
    address = entry.get("address")
    if not isinstance(address, str) or not address:
        raise BadMeshNetworks(f"{path}: has neither address nor registryServiceName")
    return address


def _port(path: str, entry: Mapping[str, Any]) -> int:
    port = entry.get("port")
    if not isinstance(port, int) or port not in _PORTS:
        raise BadMeshNetworks(f"{path}.port: {port!r} is not a port between 1 and 65535")
    return port
