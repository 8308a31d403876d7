"""LoadBalancer Services get an address of the transit network, from their cluster's range."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from isthmus.kubernetes.resources import SERVICES
from isthmus.localruntime.controllers.actions import Action, Object, Patch, State, name_of


def load_balancers(state: State, cidr: str) -> Iterator[Action]:
    """An address stays with its Service. One that is asked for (`spec.loadBalancerIP`) is given if it is free."""
    balanced = sorted(
        (service for service in state[SERVICES].values() if service["spec"].get("type") == "LoadBalancer"), key=name_of
    )
    taken = {ip for service in balanced for ip in addresses(service)}
    for service in balanced:
        if not addresses(service):
            ip = _free(cidr, service["spec"].get("loadBalancerIP", ""), taken)
            if ip:
                taken.add(ip)
                yield _told(service, [{"ip": ip, "ipMode": "VIP"}])
    for service in state[SERVICES].values():
        if service["spec"].get("type") != "LoadBalancer" and addresses(service):
            yield _told(service, None)


def addresses(service: Object) -> list[str]:
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    return [entry["ip"] for entry in ingress if entry.get("ip")]


def _free(cidr: str, wanted: str, taken: set[str]) -> str:
    hosts = [str(host) for host in ipaddress.ip_network(cidr).hosts()]
    if wanted:
        return wanted if wanted in hosts and wanted not in taken else ""
    return next((host for host in hosts if host not in taken), "")


def _told(service: Object, ingress: list[Object] | None) -> Patch:
    return Patch(SERVICES, name_of(service), {"status": {"loadBalancer": {"ingress": ingress}}}, "status")
