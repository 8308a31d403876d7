"""The few shapes that many resources share: packed messages, addresses, durations, where more is fetched from."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, grpc_service_pb2
from google.protobuf import any_pb2, duration_pb2, struct_pb2, wrappers_pb2

SIDECAR_MARK = 1337
"""Connections with this SO_MARK are the proxy's own: capture leaves them alone."""

SDS_UPSTREAM = "sds-grpc"
"""The static upstream by which an Envoy asks its agent for certificates."""

PASSTHROUGH = "PassthroughCluster"
BLACK_HOLE = "BlackHoleCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"

_FETCH_SECONDS = 5.0


def packed(message: Any) -> any_pb2.Any:
    """The message inside an Any, serialized deterministically."""
    return any_pb2.Any(
        type_url="type.googleapis.com/" + message.DESCRIPTOR.full_name,
        value=message.SerializeToString(deterministic=True),
    )


def seconds(value: float) -> duration_pb2.Duration:
    nanoseconds = round(value * 1e9)
    return duration_pb2.Duration(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)


def uint32(value: int) -> wrappers_pb2.UInt32Value:
    return wrappers_pb2.UInt32Value(value=value)


def uint64(value: int) -> wrappers_pb2.UInt64Value:
    return wrappers_pb2.UInt64Value(value=value)


def struct(value: dict[str, Any]) -> struct_pb2.Struct:
    found = struct_pb2.Struct()
    found.update(value)
    return found


def istio_metadata(value: dict[str, Any]) -> base_pb2.Metadata:
    """What a resource stands for, under the name that Istio's tools look for."""
    return base_pb2.Metadata(filter_metadata={"istio": struct(value)})


def boolean(value: bool) -> wrappers_pb2.BoolValue:
    return wrappers_pb2.BoolValue(value=value)


def address(ip: str, port: int) -> address_pb2.Address:
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=ip, port_value=port))


def everywhere(families: Sequence[int]) -> tuple[str, ...]:
    """Every address of the proxy's own families, IPv4 first. Envoy takes `::` for IPv6 alone."""
    return tuple(_EVERYWHERE[family] for family in (4, 6) if family in families) or (_EVERYWHERE[4],)


def listen_at(listener: Any, addresses: Sequence[str], port: int) -> None:
    first, *others = addresses
    listener.address.CopyFrom(address(first, port))
    for other in others:
        listener.additional_addresses.add().address.CopyFrom(address(other, port))


def listen_everywhere(listener: Any, families: Sequence[int], port: int) -> None:
    """The listener is named after the first of the addresses."""
    addresses = everywhere(families)
    listener.name = f"{addresses[0]}_{port}"
    listen_at(listener, addresses, port)


_EVERYWHERE = {4: "0.0.0.0", 6: "::"}


def cidr(text: str) -> address_pb2.CidrRange:
    """A range of addresses; an address alone is a range of one. Raises ValueError for anything else."""
    network = ipaddress.ip_network(text, strict=False)
    return address_pb2.CidrRange(address_prefix=str(network.network_address), prefix_len=uint32(network.prefixlen))


def pipe(path: str) -> address_pb2.Address:
    return address_pb2.Address(pipe=address_pb2.Pipe(path=path))


def from_ads() -> config_source_pb2.ConfigSource:
    """Fetched over the proxy's one ADS stream.

    Istio waits for ever (0). We do not: a changed upstream whose endpoints did not change stays warming until they are sent again, and
    holds up every later change of upstreams meanwhile. A server that compares versions may rightly not send them again to a proxy that has
    just reconnected, and that would be a deadlock. When the wait ends, Envoy 1.40 goes on with the endpoints that it had (measured), so
    nothing is lost; and at a first boot the wait is long enough for a busy control plane, so that nothing starts empty.
    """
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        resource_api_version="V3",
        initial_fetch_timeout=seconds(_FETCH_SECONDS),
    )


def from_agent() -> config_source_pb2.ConfigSource:
    """Fetched from the agent. Without end of waiting: there is no configuration to fall back to without a certificate."""
    return config_source_pb2.ConfigSource(
        api_config_source=config_source_pb2.ApiConfigSource(
            api_type=config_source_pb2.ApiConfigSource.GRPC,
            transport_api_version="V3",
            set_node_on_first_message_only=True,
            grpc_services=[
                grpc_service_pb2.GrpcService(
                    envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=SDS_UPSTREAM)
                )
            ],
        ),
        resource_api_version="V3",
        initial_fetch_timeout=seconds(0),
    )
