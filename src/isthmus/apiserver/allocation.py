"""ClusterIPs: who has which, and who gets the next one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.status import invalid

Object = dict[str, Any]


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
            try:
                inside = ipaddress.ip_address(wanted) in self._network
            except ValueError:
                inside = False
            if not inside:
                raise invalid(kind, name, "spec.clusterIPs", f"Invalid value: {wanted!r}: not in {self._network}")
            if wanted in self._used:
                raise invalid(
                    kind, name, "spec.clusterIPs", f"Invalid value: {wanted!r}: provided IP is already allocated"
                )
            self._used.add(wanted)
            return wanted
        size = self._network.num_addresses - 2
        for _ in range(size):
            candidate = str(self._network[self._next])
            self._next = self._next + 1 if self._next < size else self._BY_HAND
            if candidate not in self._used:
                self._used.add(candidate)
                return candidate
        raise invalid(kind, name, "spec.clusterIPs", f"no free address is left in {self._network}")

    def keep(self, addresses: Iterable[str]) -> None:
        """Marks addresses of stored Services as taken."""
        self._used.update(addresses)

    def release(self, addresses: Iterable[str]) -> None:
        self._used.difference_update(addresses)


def allocate(kind: Kind, obj: Object, pool: AddressPool) -> None:
    """For a Service that wants one: not for headless and ExternalName Services, and not again."""
    spec = obj["spec"]
    if spec.get("type") == "ExternalName":
        spec.pop("clusterIP", None)
        spec.pop("clusterIPs", None)
        return
    wanted = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
    address = wanted if wanted == "None" else pool.take(kind, obj["metadata"]["name"], wanted)
    spec["clusterIP"], spec["clusterIPs"] = address, [address]


def cluster_ips(service: Object) -> list[str]:
    return [ip for ip in service.get("spec", {}).get("clusterIPs") or () if ip != "None"]


def reallocate(kind: Kind, old: Object, new: Object, pool: AddressPool, *, dry_run: bool) -> None:
    """An address stays with its Service, unless its type no longer has one. Raises Refused for another one."""
    kept = old["spec"].get("clusterIP")
    if new["spec"].get("type") == "ExternalName":
        if not dry_run:
            pool.release(cluster_ips(old))
        new["spec"].pop("clusterIP", None)
        new["spec"].pop("clusterIPs", None)
    elif kept and not new["spec"].get("clusterIP"):
        new["spec"]["clusterIP"], new["spec"]["clusterIPs"] = kept, old["spec"]["clusterIPs"]
    elif kept and new["spec"]["clusterIP"] != kept:
        raise invalid(kind, new["metadata"]["name"], "spec.clusterIPs[0]", "Invalid value: field is immutable")
    elif not kept:
        allocate(kind, new, pool)
        if dry_run:
            pool.release(cluster_ips(new))
