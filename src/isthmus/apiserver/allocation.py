"""What Services are given: ClusterIPs, and ports of nodes. Who has which, and who gets the next one."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Iterator
from typing import Any

from isthmus.apiserver import names
from isthmus.apiserver.faults import invalid
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.status import internal_error, invalid_fields

Object = dict[str, Any]

NODE_PORTS = range(30000, 32768)


class AddressPool:
    """ClusterIPs. The range's first address is `kubernetes`'; automatic allocation begins behind the ones that are given by hand."""

    _BY_HAND = 32

    def __init__(self, cidr: str) -> None:
        self._network = ipaddress.ip_network(cidr)
        self._used: set[str] = set()
        self._next = self._BY_HAND

    def take(self, kind: Kind, name: str, wanted: str) -> str:
        """The address asked for, or the next free one. Raises Refused if it is taken, or there is none left."""
        if wanted:
            if why := list(names.address(wanted)):
                raise invalid_fields(kind, name, list(invalid("spec.clusterIPs[0]", wanted, why)))
            if refusal := self._refusal(wanted):
                raise invalid_fields(kind, name, list(invalid("spec.clusterIPs", [wanted], [refusal])))
            self._used.add(wanted)
            return wanted
        size = self._network.num_addresses - 2
        for _ in range(size):
            candidate = str(self._network[self._next])
            self._next = self._next + 1 if self._next < size else self._BY_HAND
            if candidate not in self._used:
                self._used.add(candidate)
                return candidate
        raise internal_error(f"failed to allocate a serviceIP: no address of {self._network} is free")

    def _refusal(self, wanted: str) -> str:
        if ipaddress.ip_address(wanted) not in self._network:
            why = f"the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {self._network}"
        elif wanted in self._used:
            why = "provided IP is already allocated"
        else:
            return ""
        return f"failed to allocate IP {wanted}: {why}"

    def keep(self, addresses: Iterable[str]) -> None:
        """Marks addresses of stored Services as taken."""
        self._used.update(addresses)

    def release(self, addresses: Iterable[str]) -> None:
        self._used.difference_update(addresses)


class Allocations:
    """Of all Services. Every method that gives may raise Refused, and then nothing was given."""

    def __init__(self, cidr: str) -> None:
        self._addresses = AddressPool(cidr)
        self._ports: set[int] = set()

    def keep(self, service: Object) -> None:
        """What a stored Service has."""
        self._addresses.keep(cluster_ips(service))
        self._ports.update(_node_ports(service))

    def release(self, service: Object) -> None:
        self._addresses.release(cluster_ips(service))
        self._ports.difference_update(_node_ports(service))

    def create(self, kind: Kind, service: Object) -> None:
        self._give_ports(kind, service, set())
        self._give_address(kind, service)
        self._ports.update(_node_ports(service))

    def change(self, kind: Kind, old: Object, new: Object, *, dry_run: bool) -> None:
        """An address stays with its Service, unless its type no longer has one. Raises Refused for another one."""
        before = set(_node_ports(old))
        _keep_ports(old, new)
        self._give_ports(kind, new, before)
        kept = old["spec"].get("clusterIP")
        gone: list[str] = []
        if new["spec"].get("type") == "ExternalName":
            gone = cluster_ips(old)
            new["spec"].pop("clusterIP", None)
            new["spec"].pop("clusterIPs", None)
        elif kept and not new["spec"].get("clusterIP"):
            new["spec"]["clusterIP"], new["spec"]["clusterIPs"] = kept, old["spec"]["clusterIPs"]
        elif kept and new["spec"]["clusterIP"] != kept:
            said = new["spec"]["clusterIP"]
            found = list(invalid("spec.clusterIPs[0]", [said], ["may not change once set"]))
            raise invalid_fields(kind, new["metadata"]["name"], found)
        elif not kept:
            self._give_address(kind, new)
            if dry_run:
                self._addresses.release(cluster_ips(new))
        if not dry_run:
            self._addresses.release(gone)
            self._ports.difference_update(before)
            self._ports.update(_node_ports(new))

    def _give_address(self, kind: Kind, service: Object) -> None:
        """For a Service that wants one: not for headless and ExternalName Services."""
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
            return
        wanted = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
        address = wanted if wanted == "None" else self._addresses.take(kind, service["metadata"]["name"], wanted)
        spec["clusterIP"], spec["clusterIPs"] = address, [address]

    def _give_ports(self, kind: Kind, service: Object, mine: set[int]) -> None:
        """Each port of a NodePort or LoadBalancer Service has one on every node."""
        spec = service["spec"]
        taken = self._ports - mine
        for position, port in enumerate(spec.get("ports") or ()):
            number = port.get("nodePort")
            if number and number in taken:
                found = invalid(f"spec.ports[{position}].nodePort", number, ["provided port is already allocated"])
                raise invalid_fields(kind, service["metadata"]["name"], list(found))
            taken |= {number} if number else set()
        if not _has_node_ports(spec):
            return
        free = _free(taken)
        for port in spec.get("ports") or ():
            if not port.get("nodePort"):
                port["nodePort"] = next(free, None)
                if port["nodePort"] is None:
                    raise internal_error("failed to allocate a nodePort: range is full")


def _free(taken: set[int]) -> Iterator[int]:
    """From anywhere in the range on, so that a port that has just gone is not somebody else's at once."""
    start = random.randrange(len(NODE_PORTS))
    rotated = (NODE_PORTS[(start + step) % len(NODE_PORTS)] for step in range(len(NODE_PORTS)))
    return (number for number in rotated if number not in taken)


def _has_node_ports(spec: Object) -> bool:
    balanced = spec.get("type") == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == "NodePort" or balanced


def _keep_ports(old: Object, new: Object) -> None:
    """Who changes a Service without saying its node ports means those that it has; of another type, it has none."""
    known = {port.get("port"): port.get("nodePort") for port in old["spec"].get("ports") or ()}
    wanted = _has_node_ports(new["spec"])
    for port in new["spec"].get("ports") or ():
        if wanted and not port.get("nodePort") and known.get(port.get("port")):
            port["nodePort"] = known[port["port"]]


def cluster_ips(service: Object) -> list[str]:
    return [ip for ip in service.get("spec", {}).get("clusterIPs") or () if ip != "None"]


def _node_ports(service: Object) -> list[int]:
    return [port["nodePort"] for port in service.get("spec", {}).get("ports") or () if port.get("nodePort")]
