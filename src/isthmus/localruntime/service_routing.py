"""Service routing: what kube-proxy does. ClusterIPs and LoadBalancer addresses lead to ready endpoints, by rules in a network's router.

Connections of a network's Pods to a ClusterIP pass their router, which translates them; the answer must come back the same way, so they are
masqueraded too. A Service without a ready endpoint is refused at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.localruntime.plan import SERVICE_RANGE

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """One address and port, and where it leads: (ip, port) of each ready endpoint."""

    ip: str
    protocol: str
    port: int
    to: tuple[tuple[str, int], ...]


def routes_of(services: Iterable[Object], slices: Sequence[Object]) -> list[Route]:
    """Every address of every Service of one cluster, sorted."""
    by_service: dict[tuple[str, str], list[Object]] = {}
    for slice_ in slices:
        name = slice_["metadata"].get("labels", {}).get("kubernetes.io/service-name", "")
        by_service.setdefault((slice_["metadata"].get("namespace", ""), name), []).append(slice_)
    found: list[Route] = []
    for service in services:
        metadata, spec = service["metadata"], service.get("spec", {})
        mine = by_service.get((metadata.get("namespace", ""), metadata["name"]), [])
        for port in spec.get("ports") or ():
            to = tuple(sorted(set(_targets(mine, port.get("name", "")))))
            protocol = str(port.get("protocol", "TCP")).lower()
            found += [Route(ip, protocol, int(port["port"]), to) for ip in _addresses(service)]
    return sorted(found)


def load_balancer_ips(services: Iterable[Object]) -> list[str]:
    """The addresses that the router has to answer for on the transit network."""
    return sorted({ip for service in services for ip in _balanced(service)})


def rules(routes: Sequence[Route]) -> str:
    """A whole rule set that takes the place of the one before."""
    translate = "\n".join(f"  {_translation(route)}" for route in routes if route.to)
    refuse = "\n".join(f"  {_match(route)} reject" for route in routes if not route.to)
    return f"""
add table ip isthmus_services
delete table ip isthmus_services
table ip isthmus_services {{
 chain translate {{
{translate}
 }}
 chain prerouting {{ type nat hook prerouting priority -100; policy accept; jump translate; }}
 chain output {{ type nat hook output priority -100; policy accept; jump translate; }}
 chain refuse {{
{refuse}
  ip daddr {SERVICE_RANGE} reject
 }}
 chain forward {{ type filter hook forward priority -10; policy accept; jump refuse; }}
 chain filter_output {{ type filter hook output priority -10; policy accept; jump refuse; }}
 chain input {{ type filter hook input priority -10; policy accept; jump refuse; }}
}}
"""


def _targets(slices: Sequence[Object], port_name: str) -> Iterable[tuple[str, int]]:
    for slice_ in slices:
        numbers = [port["port"] for port in slice_.get("ports") or () if port.get("name", "") == port_name]
        for endpoint in slice_.get("endpoints") or ():
            if endpoint.get("conditions", {}).get("ready") is False or not numbers:
                continue
            yield from ((address, int(numbers[0])) for address in endpoint.get("addresses", ()) if _is_ipv4(address))


def _addresses(service: Object) -> list[str]:
    spec = service.get("spec", {})
    own = [ip for ip in spec.get("clusterIPs") or (spec.get("clusterIP"),) if ip and ip != "None"]
    return [ip for ip in (*own, *_balanced(service)) if _is_ipv4(ip)]


def _balanced(service: Object) -> list[str]:
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    return [entry["ip"] for entry in ingress if entry.get("ip")]


def _match(route: Route) -> str:
    return f"ip daddr {route.ip} {route.protocol} dport {route.port}"


def _translation(route: Route) -> str:
    """Evenly over the endpoints, by chance."""
    if len(route.to) == 1:
        ip, port = route.to[0]
        return f"{_match(route)} dnat to {ip}:{port}"
    choices = ", ".join(f"{index} : {ip} . {port}" for index, (ip, port) in enumerate(route.to))
    return f"{_match(route)} dnat ip to numgen random mod {len(route.to)} map {{ {choices} }}"


def _is_ipv4(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).version == 4
    except ValueError:
        return False
