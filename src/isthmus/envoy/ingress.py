"""An ingress gateway's listeners and route tables.

Callers are beyond the mesh: what they write into the headers by which proxies speak of identity or of their address is not believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2

from isthmus.envoy import filters, guards, routes, tls
from isthmus.envoy.common import BLACK_HOLE, address, listen_everywhere, seconds
from isthmus.envoy.resources import Piece, Resource
from isthmus.model.gateways import GatewayChain, GatewayPort, HostTable, TlsMode
from isthmus.model.proxy_config import GatewayTopology
from isthmus.model.security import Authorization

_CONNECT_ATTEMPTS = 3
_HANDSHAKE_SECONDS = 15


def listeners(
    ports: Sequence[GatewayPort],
    authorization: Authorization,
    topology: GatewayTopology,
    families: Sequence[int],
    *,
    one_bundle: bool,
) -> Iterator[Resource]:
    """One for each port that has anything to serve, at every address of these families unless a server binds to one.

    `one_bundle`: the agent has no other for workloads that call.
    """
    for port in ports:
        if port.chains:
            listener = listener_pb2.Listener(
                traffic_direction=base_pb2.OUTBOUND,
                filter_chains=[
                    _chain(port.number, chain, authorization, topology, one_bundle) for chain in port.chains
                ],
            )
            if port.bind:
                listener.name = f"{port.bind}_{port.number}"
                listener.address.CopyFrom(address(port.bind, port.number))
            else:
                listen_everywhere(listener, families, port.number)
            if topology.proxy_protocol:
                listener.listener_filters.append(filters.proxy_protocol())
            if any(chain.tls or chain.passes_tls_through for chain in port.chains):
                listener.listener_filters.append(filters.tls_inspector())
                listener.listener_filters_timeout.CopyFrom(seconds(5))
            yield Resource.of(listener.name, listener)


def tables(ports: Sequence[GatewayPort]) -> Iterator[Resource]:
    """The route tables that the listeners name."""
    for port in ports:
        for chain in port.chains:
            if chain.table:
                hosts = [_host(table) for table in chain.hosts] or [_nothing(port.number)]
                yield routes.configuration(chain.table, hosts)


def chooses_by_claims(ports: Sequence[GatewayPort]) -> bool:
    """Whether some route of theirs depends on what a request's token says."""
    hosts = (host for port in ports for chain in port.chains for host in chain.hosts)
    return any(route.match.asks_for_claims for host in hosts for route in host.routes)


def _chain(
    port: int, chain: GatewayChain, authorization: Authorization, topology: GatewayTopology, one_bundle: bool
) -> Any:
    found = listener_components_pb2.FilterChain()
    if chain.sni_hosts:
        found.filter_chain_match.server_names.extend(chain.sni_hosts)
    if chain.tls:
        callers = (*authorization.trust_domains, *authorization.peers)
        found.transport_socket.CopyFrom(
            tls.gateway_socket(
                chain.tls,
                http=bool(chain.table),
                trust_domains=callers,
                bundle=tls.bundle_of_callers(callers, one_bundle=one_bundle),
            )
        )
        found.transport_socket_connect_timeout.CopyFrom(seconds(_HANDSHAKE_SECONDS))
    elif chain.passes_tls_through:
        found.filter_chain_match.transport_protocol = "tls"
    if chain.tls and chain.tls.mode is TlsMode.ISTIO_MUTUAL:
        found.filters.extend(guards.of_peers())
    prefix = f"outbound_0.0.0.0_{port}"
    if chain.table:
        asked = guards.of_requests(authorization)
        found.filters.append(
            filters.http_at_gateway(prefix, chain.table, topology, guards=asked, paths=authorization.paths)
        )
    else:
        found.filters.extend(guards.of_connections(authorization))
        clusters = chain.clusters or ((BLACK_HOLE, 1),)
        found.filters.append(filters.tcp_to(prefix, clusters, chain.treatment, connect_attempts=_CONNECT_ATTEMPTS))
    return found


def _host(table: HostTable) -> Piece:
    every = route_components_pb2.VirtualHost.ALL
    return routes.gateway_host(
        f"{table.host}:{table.port}", table.host, table.routes, every if table.redirect_to_https else None
    )


def _nothing(port: int) -> Piece:
    """A server to which nothing is bound answers 404."""
    return routes.gateway_host(f"blackhole:{port}", "*", (), None)
