"""The network gateway's listener: mutual TLS between workloads, passed through by SNI.

One chain for each exposed service port, matched by the exact SNI that callers send and by the mesh's ALPN. Nothing is decrypted here and
no key is held. An unknown SNI, another ALPN and plaintext find no chain and are closed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2

from isthmus.envoy import filters, tls
from isthmus.envoy.common import listen_everywhere, seconds
from isthmus.envoy.resources import Resource
from isthmus.incremental.while_used import while_used
from isthmus.model.views import Upstream

_CONNECT_ATTEMPTS = 3


def listeners(exposed: Sequence[tuple[int, Upstream]], families: tuple[int, ...]) -> list[Resource]:
    """One for each port that exposures name, at every address of these families."""
    by_port: dict[int, list[Upstream]] = defaultdict(list)
    for port, upstream in exposed:
        by_port[port].append(upstream)
    return [
        _listener(port, tuple(sorted({upstream.sni for upstream in upstreams})), families)
        for port, upstreams in sorted(by_port.items())
    ]


@while_used
def _listener(port: int, names: tuple[str, ...], families: tuple[int, ...]) -> Resource:
    """Depends on names alone, so endpoints come and go without it."""
    listener = listener_pb2.Listener(
        traffic_direction=base_pb2.OUTBOUND,
        listener_filters=[filters.tls_inspector()],
        listener_filters_timeout=seconds(5),
        filter_chains=[_chain(sni) for sni in names],
    )
    listen_everywhere(listener, families, port)
    return Resource.of(listener.name, listener)


def _chain(sni: str) -> Any:
    return listener_components_pb2.FilterChain(
        name=sni,
        filter_chain_match=listener_components_pb2.FilterChainMatch(
            server_names=[sni], transport_protocol="tls", application_protocols=tls.MESH_THROUGH_GATEWAY
        ),
        filters=[filters.tcp(sni, sni, connect_attempts=_CONNECT_ATTEMPTS)],
    )
