"""What an API server process is told."""

from __future__ import annotations

import msgspec


class ApiServerSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
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
    api_address: str = ""
    """Where the `kubernetes` Service leads: host:port."""
