"""ProxySpec: what an agent is told about one Envoy that it looks after.

The agent serves an HTTP API on a unix socket of mode 0600 (`server.py`): `PUT /proxies/NAMESPACE/NAME` with a ProxySpec answers 201 and
ProxyReady once a certificate is issued and the bootstrap is written; `DELETE` forgets it; `POST …/drain` begins a graceful drain;
`GET /proxies` lists all with their state.
"""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.agent.families import families_of

ADMIN_SOCKET = "admin.sock"
"""In a proxy's directory: where its Envoy answers about itself."""


class ProxySpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One Envoy. Paths are absolute; `net_namespace` is a path such as /run/netns/NAME, empty for the agent's own.

    `directory` belongs to this proxy alone: bootstrap, admin socket, SDS socket. `token_file` holds a service account token for
    the audience `istio-ca`, `root_cert_file` the roots that the control plane's certificate is checked against; both are re-read.
    `network_view` is sent as REQUESTED_NETWORK_VIEW. `name_servers` and `search_domains` are the Pod's own. `marks_sockets`: capture knows
    the proxy's connections by a mark, else by the user that it runs as. `metadata` is added to what Envoy says of itself. `concurrency` is
    Envoy's number of threads, 0 for one on each core. `control_planes`, and the name that they have to show, take the place of
    the agent's own, where there are any. `grpc_bootstrap` is where gRPC's own bootstrap is to be written, beside the certificate's files, for an
    application that has no Envoy; empty for all others.
    `proxy_config` is the ProxyConfig as JSON: of what it says, what Envoy is started with counts here.
    """

    kind: str
    namespace: str
    name: str
    service_account: str
    ip: str
    node: str
    labels: dict[str, str]
    workload_name: str
    network: str
    network_view: str
    dns_capture: bool
    token_file: str
    root_cert_file: str
    net_namespace: str
    directory: str
    name_servers: list[str] = []
    search_domains: list[str] = []
    marks_sockets: bool = True
    metadata: dict[str, Any] = {}
    concurrency: int = 1
    log_level: str = "warning"
    control_planes: list[str] = []
    control_plane_name: str = ""
    grpc_bootstrap: str = ""
    proxy_config: dict[str, Any] = {}
    other_ips: list[str] = []
    """Of the Pod's other family of addresses, where it has both."""

    @property
    def ips(self) -> tuple[str, ...]:
        return (self.ip, *self.other_ips)

    @property
    def families(self) -> tuple[int, ...]:
        return families_of(self.ips)


class Scraped(msgspec.Struct, frozen=True):
    """Where a workload has metrics of its own."""

    port: int
    path: str


class ProxyReady(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How to start the Envoy: `envoy -c BOOTSTRAP` with these arguments, inside the proxy's net namespace."""

    bootstrap: str
    arguments: list[str]


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An agent process's settings file. `control_planes` are host:port in order of preference. `last_good` is a folder, best in memory, for
    what proxies begin with while no control plane answers; empty for none. `proves_by_certificate`: tokens are not renewed, they only have to
    be good for the first certificate."""

    socket: str
    cluster_id: str
    mesh_id: str
    trust_domain: str
    control_planes: list[str]
    control_plane_name: str = "istiod.istio-system.svc"
    dns_domain: str = "cluster.local"
    certificate_seconds: int = 86400
    last_good: str = ""
    proves_by_certificate: bool = False
