"""What an API server process is told."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What clients may hold, and for how long. The defaults are far from what a mesh on one machine needs."""

    connections: int = 8192
    handshakes: int = 1024
    """TLS handshakes under way. When one more comes, one goes that has had a tenth of its time."""
    handshake_seconds: float = 10.0
    head_seconds: float = 10.0
    """From the first byte of a request to the end of its headers."""
    body_seconds: float = 60.0
    idle_seconds: float = 75.0
    stalled_seconds: float = 60.0
    """Without reading any of the answer that waits."""
    answer_seconds: float = 300.0
    """For all of a long answer."""
    large_bodies: int = 32
    """Bodies of more than 64 KB that are received at once; the next one is told to come again."""


class ApiServerSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """`directory` keeps everything (mode 0700): database, keys, the administrator's token. `bind` are `host:port`.

    `inherited_fds` are listening sockets that the parent opened, for example outside this process's network namespace. `tls_names` are the DNS
    names and addresses that clients use.
    """

    cluster_id: str
    directory: str
    service_cidr: str = "10.96.0.0/16"
    tls_names: list[str] = msgspec.field(default_factory=lambda: ["localhost", "127.0.0.1"])
    bind: list[str] = []
    inherited_fds: list[int] = []
    limits: Limits = Limits()
    api_address: str = ""
    """Where the `kubernetes` Service leads: host:port."""
