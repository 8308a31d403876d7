"""Networks: bridges, routers and Pods' namespaces. Pure texts for `ip` and `nft`, and one thin class that applies them.

The runtime's own namespace is the transit network: a bridge with 172.30.0.1/16. Each mesh network has a router namespace with a bridge for
its Pods and a link into transit. Pods' packets leave a network only through masquerade, and no router knows another network's Pods: what is
sent there is refused at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from isthmus.localruntime.commands import ip_batch, nft, run
from isthmus.localruntime.plan import SERVICE_RANGE, TRANSIT_RANGE, ClusterPlan, NetworkPlan
from isthmus.model.names import NetworkId

TRANSIT_BRIDGE = "transit"
_TRANSIT = ipaddress.ip_network(TRANSIT_RANGE)
_BRIDGE_ADDRESS = "02:69:73:74:68:6d"
_POD_BRIDGE = "pods"
_POD_LINK = "eth0"


def transit_commands(clusters: tuple[ClusterPlan, ...]) -> list[str]:
    """The transit bridge, with the address of each API server on it."""
    return [
        "link set lo up",
        _bridge(TRANSIT_BRIDGE),
        f"addr add {_TRANSIT[1]}/{_TRANSIT.prefixlen} dev {TRANSIT_BRIDGE}",
        *(f"addr add {cluster.api_address}/32 dev {TRANSIT_BRIDGE}" for cluster in clusters),
        f"link set {TRANSIT_BRIDGE} up",
    ]


def service_routes(clusters: tuple[ClusterPlan, ...], networks: Mapping[NetworkId, NetworkPlan]) -> list[str]:
    """From transit, where API servers stand, to each cluster's Services: webhooks are behind them."""
    return [f"route add {cluster.service_cidr} via {networks[cluster.network].transit_ip}" for cluster in clusters]


def _bridge(name: str) -> str:
    """With a link-layer address of its own. Otherwise it takes the lowest of its ports', so a Pod that comes or goes changes it,
    and what its neighbours remember leads nowhere for half a minute (seen)."""
    return f"link add {name} address {_BRIDGE_ADDRESS} type bridge"


def router_commands(network: NetworkPlan, index: int) -> list[str]:
    """The router's namespace and its link into transit; run in the runtime's own namespace."""
    return [
        f"netns add {network.namespace}",
        f"link add tr{index} type veth peer name transit netns {network.namespace}",
        f"link set tr{index} master {TRANSIT_BRIDGE}",
        f"link set tr{index} up",
    ]


def inside_router_commands(network: NetworkPlan) -> list[str]:
    """The bridge of the network's Pods, and the way to transit; run in the router's namespace."""
    prefix = ipaddress.ip_network(network.pod_cidr).prefixlen
    return [
        "link set lo up",
        f"addr add {network.transit_ip}/{_TRANSIT.prefixlen} dev transit",
        "link set transit up",
        _bridge(_POD_BRIDGE),
        f"addr add {network.router_ip}/{prefix} dev {_POD_BRIDGE}",
        f"link set {_POD_BRIDGE} up",
        # Virtual addresses need a way, so that what starts here gets as far as their translation.
        f"route add {SERVICE_RANGE} dev {_POD_BRIDGE}",
        # What is neither here nor in transit is nowhere: refused at once, not by a time-out.
        "route add unreachable default",
    ]


def router_rules(network: NetworkPlan, unreachable: Sequence[str] = ()) -> str:
    """Pods reach transit under the router's address. From transit, only what service routing translated may come in; into a closed network,
    nothing. `unreachable` are addresses on transit that belong to closed networks, and are theirs alone.
    """
    entrance = "" if network.closed else 'iifname "transit" ct status dnat accept'
    refused = f"ip daddr {{ {', '.join(unreachable)} }} reject" if unreachable else ""
    return f"""
table ip isthmus_router {{
 chain postrouting {{ type nat hook postrouting priority 100; policy accept;
  ip saddr {network.pod_cidr} oifname "transit" masquerade
  ct status dnat masquerade
 }}
 chain forward {{ type filter hook forward priority 0; policy accept;
  ct state established,related accept
  {refused}
  {entrance}
  iifname "transit" reject with icmp type net-unreachable
 }}
}}
"""


def pod_commands(namespace: str, link: str) -> list[str]:
    """A Pod's namespace, linked to the network's bridge; run in the router's namespace."""
    return [
        f"link add {link} type veth peer name {_POD_LINK} netns {namespace}",
        f"link set {link} master {_POD_BRIDGE}",
        f"link set {link} up",
    ]


def inside_pod_commands(network: NetworkPlan, ip: str) -> list[str]:
    """Addresses and routes of a Pod. Without a default route the kernel refuses virtual addresses before capture sees them."""
    prefix = ipaddress.ip_network(network.pod_cidr).prefixlen
    return [
        "link set lo up",
        f"addr add {ip}/{prefix} dev {_POD_LINK}",
        f"link set {_POD_LINK} up",
        f"route add default via {network.router_ip}",
    ]


class Networks:
    """Applies the above. Names of Pods' links are numbered, because the kernel allows fifteen letters."""

    def __init__(self, networks: tuple[NetworkPlan, ...]) -> None:
        self._networks = {network.id: network for network in networks}
        self._links = 0
        self._free = {network.id: _addresses(network) for network in networks}

    async def build(self, clusters: tuple[ClusterPlan, ...]) -> None:
        """Everything but the Pods. Raises CommandFailed."""
        lines = transit_commands(clusters)
        for index, network in enumerate(self._networks.values(), start=1):
            lines += router_commands(network, index)
        lines += service_routes(clusters, self._networks)
        await ip_batch(lines)
        for network in self._networks.values():
            await ip_batch(inside_router_commands(network), namespace=network.namespace)
            await run("ip", "netns", "exec", network.namespace, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
            await nft(
                f"add table ip isthmus_router\ndelete table ip isthmus_router\n{router_rules(network, _closed_to(network, clusters))}",
                namespace=network.namespace,
            )

    def take_address(self, network_id: str) -> str:
        """A free Pod address of the network; the least recently used one. Raises IndexError when there is none."""
        return self._free[network_id].pop(0)  # type: ignore[index]

    def give_back(self, network_id: str, ip: str) -> None:
        self._free[network_id].append(ip)  # type: ignore[index]

    async def add_pod(self, network_id: str, namespace: str, ip: str) -> None:
        """Raises CommandFailed."""
        network = self._networks[network_id]  # type: ignore[index]
        self._links += 1
        link = f"pod{self._links}"
        await ip_batch([f"netns add {namespace}"])
        await ip_batch(pod_commands(namespace, link), namespace=network.namespace)
        await ip_batch(inside_pod_commands(network, ip), namespace=namespace)

    async def delete_pod(self, namespace: str) -> None:
        """The links go with the namespace."""
        await ip_batch([f"netns del {namespace}"])


def _closed_to(network: NetworkPlan, clusters: Sequence[ClusterPlan]) -> list[str]:
    """API servers stand on transit in this runtime; that of a cluster which nothing can reach is its own network's."""
    return [cluster.api_address for cluster in clusters if cluster.tunnel and cluster.network != network.id]


def _addresses(network: NetworkPlan) -> list[str]:
    """Of the first thousand, from the second on: the first is the router's."""
    hosts = ipaddress.ip_network(network.pod_cidr).hosts()
    found = []
    for host in hosts:
        if str(host) != network.router_ip:
            found.append(str(host))
        if len(found) >= 1000:
            break
    return found
