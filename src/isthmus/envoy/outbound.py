"""Outbound listeners: what the workload's own connections meet after capture.

15001 receives them all and hands each to the listener of its original destination: `0.0.0.0_PORT` for HTTP services on a port, told
apart by host; `VIP_PORT` for services that are told apart by address. What no listener has passes through to where it was going.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2

from isthmus.envoy import filters
from isthmus.envoy.common import BLACK_HOLE, PASSTHROUGH, address, boolean, seconds, uint32
from isthmus.model.services import Protocol
from isthmus.model.views import OutboundView, Upstream

Chain = listener_components_pb2.FilterChain
Match = listener_components_pb2.FilterChainMatch

OUTBOUND_PORT = 15001
_PLAIN_HTTP = ("http/1.1", "h2c")
_DETECTION_SECONDS = 0.1
"""How long an undeclared protocol may keep silent before it counts as one whose server speaks first."""


def http_upstreams(view: OutboundView) -> dict[int, list[Upstream]]:
    """Services that are told apart by host, by port number."""
    by_port: dict[int, list[Upstream]] = defaultdict(list)
    for upstream in view.upstreams:
        if upstream.port.protocol.is_http:
            by_port[upstream.port.number].append(upstream)
    return dict(sorted(by_port.items()))


def addressed_upstreams(view: OutboundView) -> Iterator[tuple[str, Upstream]]:
    """Services that are told apart by address, with each address. An address that two claim goes to the own cluster's."""
    taken: set[tuple[str, int]] = set()
    ordered = sorted(view.upstreams, key=lambda upstream: view.scope.cluster not in upstream.service.declared_in)
    for upstream in ordered:
        if upstream.port.protocol.is_http:
            continue
        for ip in _addresses(upstream):
            if (ip, upstream.port.number) not in taken:
                taken.add((ip, upstream.port.number))
                yield ip, upstream


def virtual_outbound() -> Any:
    """The listener that capture redirects to."""
    own_port = Chain(
        name="virtualOutbound-blackhole",
        filter_chain_match=Match(destination_port=uint32(OUTBOUND_PORT)),
        filters=[filters.tcp(BLACK_HOLE, BLACK_HOLE)],
    )
    other = Chain(name="virtualOutbound-catchall-tcp", filters=[filters.tcp(PASSTHROUGH, PASSTHROUGH)])
    return listener_pb2.Listener(
        name="virtualOutbound",
        address=address("0.0.0.0", OUTBOUND_PORT),
        use_original_dst=boolean(True),
        traffic_direction=base_pb2.OUTBOUND,
        filter_chains=[own_port],
        default_filter_chain=other,
    )


def for_http_port(number: int) -> Any:
    """All HTTP services on one port. There is no limit to how long a client may wait before its first request."""
    return listener_pb2.Listener(
        name=f"0.0.0.0_{number}",
        address=address("0.0.0.0", number),
        bind_to_port=boolean(False),
        traffic_direction=base_pb2.OUTBOUND,
        listener_filters=[filters.tls_inspector(), filters.http_inspector()],
        listener_filters_timeout=seconds(0),
        continue_on_listener_filters_timeout=True,
        filter_chains=[_http_chain(filters.http_by_rds(f"outbound_0.0.0.0_{number}", str(number)))],
        default_filter_chain=Chain(name="PassthroughFilterChain", filters=[filters.tcp(PASSTHROUGH, PASSTHROUGH)]),
    )


def for_address(ip: str, upstream: Upstream) -> Any:
    """One service at one address: TCP, or detected where the port does not say."""
    name = f"{ip}_{upstream.port.number}"
    listener = listener_pb2.Listener(
        name=name,
        address=address(ip, upstream.port.number),
        bind_to_port=boolean(False),
        traffic_direction=base_pb2.OUTBOUND,
        default_filter_chain=Chain(name=upstream.name, filters=[filters.tcp(upstream.name, upstream.name)]),
    )
    if upstream.port.protocol is Protocol.AUTO:
        listener.listener_filters.extend([filters.tls_inspector(), filters.http_inspector()])
        listener.listener_filters_timeout.CopyFrom(seconds(_DETECTION_SECONDS))
        listener.continue_on_listener_filters_timeout = True
        route = f"{upstream.service.hostname}:{upstream.port.number}"
        listener.filter_chains.append(_http_chain(filters.http_by_rds(f"outbound_{name}", route)))
    return listener


def _http_chain(http: Any) -> Any:
    return Chain(
        filter_chain_match=Match(transport_protocol="raw_buffer", application_protocols=_PLAIN_HTTP), filters=[http]
    )


def _addresses(upstream: Upstream) -> Sequence[str]:
    if not upstream.service.headless:
        return upstream.virtual_ips
    near = [d.address for group in upstream.groups for d in group.destinations if d.through is None]
    return tuple(dict.fromkeys(near))
