"""What a machine's kit may say about how its application is asked: as Istio's WorkloadGroup has it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_WAYS = ("httpGet", "tcpSocket", "exec", "grpc")


class _Header(msgspec.Struct, frozen=True):
    name: str
    value: str


class _Http(msgspec.Struct, frozen=True, rename="camel"):
    port: _Port
    path: str | None = None
    scheme: str | None = None
    http_headers: list[_Header] | None = None


class _Tcp(msgspec.Struct, frozen=True):
    port: _Port


class _Command(msgspec.Struct, frozen=True):
    command: Annotated[list[str], msgspec.Meta(min_length=1)]


class _Grpc(msgspec.Struct, frozen=True):
    port: _Port
    service: str | None = None


class _Probe(msgspec.Struct, frozen=True, rename="camel"):
    http_get: _Http | None = None
    tcp_socket: _Tcp | None = None
    exec: _Command | None = None
    grpc: _Grpc | None = None
    initial_delay_seconds: _Count | None = None
    period_seconds: _Count | None = None
    timeout_seconds: _Count | None = None
    success_threshold: _Count | None = None
    failure_threshold: _Count | None = None


def read_probe(said: Mapping[str, Any]) -> dict[str, Any]:
    """As it is, without what is null. Raises ValueError, with the field."""
    probe = {name: value for name, value in said.items() if value is not None}
    msgspec.convert(probe, _Probe)
    if sum(way in probe for way in _WAYS) != 1:
        raise ValueError(f"it needs one way to ask: {', '.join(_WAYS)}")
    return probe
