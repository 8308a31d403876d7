"""The inbound listener: what connections to the workload meet after capture.

Chains are matched by the port that the caller connected to, then by TLS, then by what the client offered in ALPN: the mesh's names mean the
mesh's mutual TLS, anything else is the application's own. A port that the workload's services declare has chains of its own, and Envoy does
not fall back from these to the catch-all ones; so in STRICT mode plaintext finds no chain and is closed.

| protocol | PERMISSIVE | STRICT | DISABLE |
| --- | --- | --- | --- |
| HTTP | mesh TLS, plaintext as HTTP | mesh TLS as HTTP | plaintext as HTTP |
| TCP | mesh TLS, other TLS, plaintext as TCP | mesh TLS as TCP | all as TCP |
| undeclared | as TCP, and where HTTP is seen or offered as HTTP | mesh TLS as HTTP or TCP | as PERMISSIVE without TLS |

In DISABLE an application's own TLS is bytes like any other, unless a Sidecar has the proxy end it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2

from isthmus.envoy import filters, guards, routes, tls
from isthmus.envoy.common import BLACK_HOLE, INBOUND_PASSTHROUGH, address, everywhere, listen_at, seconds, uint32
from isthmus.envoy.resources import Resource
from isthmus.incremental.while_used import while_used
from isthmus.model.gateways import ServerTls
from isthmus.model.identity import TrustDomain
from isthmus.model.security import Authorization, MutualTlsMode, PathNormalization
from isthmus.model.services import Protocol
from isthmus.model.values import dataclass
from isthmus.model.views import InboundPort, InboundView

Chain = listener_components_pb2.FilterChain
Match = listener_components_pb2.FilterChainMatch

INBOUND_PORT = 15006

_HANDSHAKE_SECONDS = 15
_INSPECTION_SECONDS = 2.0
"""A client that keeps silent this long is taken to wait for the server. Callers in the mesh speak first (TLS), so only plaintext
connections to server-first ports ever wait; too short a time would mistake a slow handshake for plaintext."""


@dataclass(frozen=True, slots=True)
class _Served:
    """Ports whose connections are served alike. `port` 0 stands for every port that is not declared."""

    name: str
    port: int
    service_port: int
    cluster: str
    protocol: Protocol
    tls: MutualTlsMode
    own_tls: ServerTls | None = None
    idle_seconds: float = 0


def listeners(view: InboundView) -> Iterator[Resource]:
    """The one that capture redirects to, and those that a Sidecar has the proxy open itself."""
    yield virtual_inbound(view)
    for port in view.ports:
        if port.bound_to:
            yield _bound(port, view.authorization, view.cut, view.judges_by_one_bundle)


@while_used
def virtual_inbound(view: InboundView) -> Resource:
    """The listener that capture redirects to. Replicas of one workload share it."""
    addresses = everywhere(view.ip_families)
    served = [
        _of_port(port, f"{addresses[0]}_{port.target_port}", port.target_port)
        for port in view.ports
        if not port.bound_to
    ]
    served += [
        _Served(f"{addresses[0]}_{port}", port, port, INBOUND_PASSTHROUGH, Protocol.AUTO, mode)
        for port, mode in view.other_ports
    ]
    served.append(_Served("virtualInbound", 0, 0, INBOUND_PASSTHROUGH, Protocol.AUTO, view.tls))
    asked = _guards(view.authorization, view.cut, view.judges_by_one_bundle)
    chains = [chain for each in served for chain in _chains(each, asked)]
    listener = listener_pb2.Listener(
        name="virtualInbound",
        traffic_direction=base_pb2.INBOUND,
        listener_filters=_listener_filters(served),
        listener_filters_timeout=seconds(_INSPECTION_SECONDS),
        continue_on_listener_filters_timeout=True,
        filter_chains=[_own_port(), *chains],
    )
    listen_at(listener, addresses, INBOUND_PORT)
    return Resource.of(listener.name, listener)


@while_used
def _bound(port: InboundPort, authorization: Authorization, cut: str, one_bundle: bool) -> Resource:
    """Nobody else's connections come here, so the port decides nothing."""
    served = _of_port(port, f"{port.bound_to}_{port.target_port}", 0)
    listener = listener_pb2.Listener(
        name=served.name,
        address=address(port.bound_to, port.target_port),
        traffic_direction=base_pb2.INBOUND,
        listener_filters=_listener_filters([served])[1:],
        listener_filters_timeout=seconds(_INSPECTION_SECONDS),
        continue_on_listener_filters_timeout=True,
        filter_chains=_chains(served, _guards(authorization, cut, one_bundle)),
    )
    return Resource.of(listener.name, listener)


def _of_port(port: InboundPort, name: str, number: int) -> _Served:
    return _Served(
        name,
        number,
        port.service_port,
        f"inbound|{port.target_port}||",
        port.protocol,
        port.tls,
        port.own_tls,
        (port.pool.tcp_idle_seconds or 0) if port.pool else 0,
    )


@dataclass(frozen=True, slots=True)
class _Guards:
    """What is asked before requests, or bytes, are let in. Envoy ends connections of a chain that is replaced: another `cut` replaces them."""

    requests: list[Any]
    bytes: list[Any]
    peers: list[Any]
    trust_domains: tuple[TrustDomain, ...]
    bundle: str
    paths: PathNormalization
    cut: str


def _guards(authorization: Authorization, cut: str, one_bundle: bool) -> _Guards:
    callers = (*authorization.trust_domains, *authorization.peers)
    return _Guards(
        guards.of_requests(authorization),
        guards.of_connections(authorization),
        guards.of_peers(),
        callers,
        tls.bundle_of_callers(callers, one_bundle=one_bundle),
        authorization.paths,
        cut,
    )


def _listener_filters(served: Sequence[_Served]) -> list[Any]:
    found = [filters.original_destination()]
    if any(each.tls is not MutualTlsMode.DISABLE or each.own_tls for each in served):
        found.append(filters.tls_inspector())
    guessed = [each for each in served if each.protocol is Protocol.AUTO and each.tls is not MutualTlsMode.STRICT]
    if guessed:
        declared = [each.port for each in served if each not in guessed and each.port]
        found.append(filters.http_inspector(except_ports=declared))
    return found


def _chains(served: _Served, asked: _Guards) -> Iterator[Any]:
    if served.tls is not MutualTlsMode.DISABLE:
        yield from _mutual_tls(served, asked)
    if served.own_tls is not None and served.tls is MutualTlsMode.DISABLE:
        yield _own_tls(served, served.own_tls, asked)
    elif served.tls is not MutualTlsMode.STRICT:
        yield from _plain(served, asked)


def _mutual_tls(served: _Served, asked: _Guards) -> Iterator[Any]:
    http, tcp = (tls.server_socket(asked.trust_domains, http=is_http, bundle=asked.bundle) for is_http in (True, False))
    match served.protocol:
        case Protocol.AUTO:
            yield _mesh_chain(served, asked, tls.MESH_HTTP, _http(served, asked, authenticated=True), http)
            yield _mesh_chain(served, asked, tls.MESH_TCP, _tcp(served, asked), tcp)
        case protocol if protocol.is_http:
            # gRPC applications without a proxy do not offer the mesh's names; no other TLS has a place on such a port either.
            offered = () if protocol.is_http2 else tls.MESH_ANY
            yield _mesh_chain(served, asked, offered, _http(served, asked, authenticated=True), http)
        case _:
            yield _mesh_chain(served, asked, tls.MESH_ANY, _tcp(served, asked), tcp)


def _plain(served: _Served, asked: _Guards) -> Iterator[Any]:
    if served.protocol.is_http:
        # The application's own TLS on a port declared HTTP is a mistake, and finds no chain.
        yield _chain(served, "raw_buffer", (), _http(served, asked, authenticated=False))
        return
    if served.protocol is Protocol.AUTO:
        yield _chain(served, "raw_buffer", filters.PLAIN_HTTP, _http(served, asked, authenticated=False))
    yield _chain(served, "raw_buffer", (), _tcp(served, asked))
    # Another port may have had the inspector look for TLS: the application's own is bytes like any other.
    yield _chain(served, "tls", (), _tcp(served, asked))


def _own_tls(served: _Served, said: ServerTls, asked: _Guards) -> Any:
    """TLS that the proxy ends for its workload, with callers that need not be of the mesh. Nothing else is let in."""
    is_http = served.protocol.is_http
    serve = _http(served, asked, authenticated=True) if is_http else _tcp(served, asked)
    return _chain(served, "tls", (), serve, tls.gateway_socket(said, http=is_http))


def _mesh_chain(served: _Served, asked: _Guards, offered: Sequence[str], serve: Sequence[Any], socket: Any) -> Any:
    chain = _chain(served, "tls", offered, [*asked.peers, *serve], socket)
    if asked.cut:
        chain.metadata.filter_metadata["isthmus"].update({"cut": asked.cut})
    return chain


def _chain(
    served: _Served, transport: str, application_protocols: Sequence[str], serve: Sequence[Any], socket: Any = None
) -> Any:
    match = Match(
        destination_port=uint32(served.port) if served.port else None,
        transport_protocol=transport,
        application_protocols=application_protocols,
    )
    chain = Chain(name=served.name, filter_chain_match=match, filters=serve, transport_socket=socket)
    if socket is not None:
        chain.transport_socket_connect_timeout.CopyFrom(seconds(_HANDSHAKE_SECONDS))
    return chain


def _http(served: _Served, asked: _Guards, *, authenticated: bool) -> list[Any]:
    table = routes.inbound_routes(served.cluster, served.service_port)
    name = f"inbound_{served.name}" if served.name != "virtualInbound" else "inbound_0.0.0.0_0"
    return [filters.http_inbound(name, table, authenticated=authenticated, guards=asked.requests, paths=asked.paths)]


def _tcp(served: _Served, asked: _Guards) -> list[Any]:
    return [*asked.bytes, filters.tcp(served.cluster, served.cluster, idle_seconds=served.idle_seconds)]


def _own_port() -> Any:
    """A connection to 15006 itself was not captured; forwarding it would come back here for ever."""
    return Chain(
        name="virtualInbound-blackhole",
        filter_chain_match=Match(destination_port=uint32(INBOUND_PORT)),
        filters=[filters.tcp(BLACK_HOLE, BLACK_HOLE)],
    )
