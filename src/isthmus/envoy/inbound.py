"""The inbound listener: what connections to the workload meet after capture.

Chains are matched by the port that the caller connected to, then by TLS, then by what the client offered in ALPN: `istio` is the mesh's
mutual TLS, anything else the application's own. A port that the workload's services declare has chains of its own, and Envoy does not fall
back from these to the catch-all ones; so in STRICT mode plaintext finds no chain and is closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from google.protobuf import wrappers_pb2

from isthmus.envoy import filters, routes, tls
from isthmus.envoy.common import BLACK_HOLE, INBOUND_PASSTHROUGH, address, seconds, uint32
from isthmus.model.services import Protocol
from isthmus.model.views import InboundPort, MutualTlsMode

Chain = listener_components_pb2.FilterChain
Match = listener_components_pb2.FilterChainMatch

INBOUND_PORT = 15006
_INSPECTION_SECONDS = 2.0
"""A client that keeps silent this long is taken to wait for the server. Callers in the mesh speak first (TLS), so only plaintext
connections to server-first ports ever wait; too short a time would mistake a slow handshake for plaintext."""


def virtual_inbound(ports: Sequence[InboundPort], mode: MutualTlsMode) -> Any:
    """The listener that capture redirects to."""
    chains = [_own_port()]
    for port in ports:
        chains += _chains(port, mode)
    chains += _catch_all(mode)
    return listener_pb2.Listener(
        name="virtualInbound",
        address=address("0.0.0.0", INBOUND_PORT),
        traffic_direction=base_pb2.INBOUND,
        listener_filters=[filters.original_destination(), filters.tls_inspector()],
        listener_filters_timeout=seconds(_INSPECTION_SECONDS),
        continue_on_listener_filters_timeout=True,
        filter_chains=chains,
    )


def _chains(port: InboundPort, mode: MutualTlsMode) -> Iterator[Any]:
    number = uint32(port.target_port)
    name = f"0.0.0.0_{port.target_port}"
    if mode is not MutualTlsMode.DISABLE:
        yield _mutual_tls(name, number, _serve(port, authenticated=True), port.protocol)
    if mode is MutualTlsMode.STRICT:
        return
    plain = _serve(port, authenticated=False)
    if not port.protocol.is_http:
        # The application's own TLS: bytes. On an HTTP port it is a mistake, and finds no chain.
        yield Chain(
            name=name, filter_chain_match=Match(destination_port=number, transport_protocol="tls"), filters=[plain]
        )
    yield Chain(
        name=name, filter_chain_match=Match(destination_port=number, transport_protocol="raw_buffer"), filters=[plain]
    )


def _serve(port: InboundPort, *, authenticated: bool) -> Any:
    cluster = f"inbound|{port.target_port}||"
    if port.protocol.is_http:
        route = routes.to_own_workload(cluster, port.service_port)
        return filters.http_inbound(f"inbound_0.0.0.0_{port.target_port}", route, authenticated=authenticated)
    return filters.tcp(cluster, cluster)


def _catch_all(mode: MutualTlsMode) -> Iterator[Any]:
    """Ports that no service declares: to the workload as bytes, under the same rule for TLS."""
    forward = filters.tcp(INBOUND_PASSTHROUGH, INBOUND_PASSTHROUGH)
    if mode is not MutualTlsMode.DISABLE:
        yield _mutual_tls("virtualInbound", None, forward, Protocol.TCP)
    if mode is not MutualTlsMode.STRICT:
        yield Chain(name="virtualInbound", filter_chain_match=Match(transport_protocol="tls"), filters=[forward])
        yield Chain(name="virtualInbound", filter_chain_match=Match(transport_protocol="raw_buffer"), filters=[forward])


def _mutual_tls(name: str, number: wrappers_pb2.UInt32Value | None, serve: Any, protocol: Protocol) -> Any:
    match = Match(destination_port=number, transport_protocol="tls", application_protocols=[tls.MESH_ALPN])
    return Chain(name=name, filter_chain_match=match, filters=[serve], transport_socket=tls.server_socket(protocol))


def _own_port() -> Any:
    """A connection to 15006 itself was not captured; forwarding it would come back here for ever."""
    return Chain(
        name="virtualInbound-blackhole",
        filter_chain_match=Match(destination_port=uint32(INBOUND_PORT)),
        filters=[filters.tcp(BLACK_HOLE, BLACK_HOLE)],
    )
