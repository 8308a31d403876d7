"""Gateways at the edge of the mesh: what they listen for (Istio's Gateway), and, resolved for one gateway, where it leads."""

from __future__ import annotations

import re
from dataclasses import field
from enum import StrEnum

from isthmus.model.names import Namespace, covers
from isthmus.model.routing import Route
from isthmus.model.security import Labels
from isthmus.model.traffic import Treatment
from isthmus.model.values import dataclass


class TlsMode(StrEnum):
    """What a server does with TLS. AUTO_PASSTHROUGH is the network gateways', see `snapshot.Exposure`."""

    PASSTHROUGH = "PASSTHROUGH"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    OPTIONAL_MUTUAL = "OPTIONAL_MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class Traffic(StrEnum):
    """What a server takes its connections for."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class ServerTls:
    """`credentials` are Secrets, of the proxy's own namespace where none is written before the name; else files of the gateway's own.

    `authorities` is the Secret of those that vouch for callers, where it is another one. `names`: of callers, in MUTUAL.
    """

    mode: TlsMode
    credentials: tuple[str, ...] = ()
    authorities: str = ""
    authorities_pem: str = ""
    """Of those that vouch for callers, where they are no secret (a ConfigMap)."""
    shows_workload: bool = False
    """Its own certificate of the mesh, to callers that need none."""
    certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    revocations: str = ""
    names: tuple[str, ...] = ()
    certificate_hashes: tuple[str, ...] = ()
    key_hashes: tuple[str, ...] = ()
    """Where there are any of the two, a caller's certificate, or its key, is one of them."""
    minimum: str = ""
    maximum: str = ""
    ciphers: tuple[str, ...] = ()

    @property
    def asks_for_certificates(self) -> bool:
        """Whether callers show certificates that are not the mesh's own."""
        return self.mode in (TlsMode.MUTUAL, TlsMode.OPTIONAL_MUTUAL)


def is_certificate_hash(text: str) -> bool:
    """SHA-256 of a certificate in hexadecimal digits, perhaps with colons."""
    return bool(re.fullmatch(r"[0-9a-fA-F]{64}|[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){31}", text))


def is_key_hash(text: str) -> bool:
    """SHA-256 of a public key (SubjectPublicKeyInfo) in base64."""
    return bool(re.fullmatch(r"[A-Za-z0-9+/]{43}=", text))


@dataclass(frozen=True, slots=True, order=True)
class ServerHost:
    """`namespace/host` of a server: whose VirtualServices may bind to it (`*` any), for which hosts."""

    namespace: str
    host: str

    def shared(self, namespace: Namespace, host: str) -> str | None:
        """The narrower of this host and one of a VirtualService; None where they have nothing in common."""
        if self.namespace not in ("*", namespace):
            return None
        if covers(self.host, host):
            return host
        return self.host if covers(host, self.host) else None


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Server:
    """One server of a Gateway. `selector` are the labels of the proxies that serve it, `within` their namespace (empty: any); `index` is its
    place in the Gateway. `is_isolated`: requests for hosts that another server of the port names more narrowly are not its own.
    """

    created: str
    namespace: Namespace
    gateway: str
    index: int
    selector: Labels
    within: Namespace = Namespace("")
    bind: str = ""
    port: int
    port_name: str
    traffic: Traffic
    hosts: tuple[ServerHost, ...]
    tls: ServerTls | None = None
    redirect_to_https: bool = False
    is_isolated: bool = False

    @property
    def kind(self) -> Traffic:
        """What it can share a port with. HTTPS and TLS do: both begin with a name."""
        return Traffic.TLS if self.traffic is Traffic.HTTPS else self.traffic

    @property
    def bound_by(self) -> str:
        """What VirtualServices call the Gateway."""
        return f"{self.namespace}/{self.gateway}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTable:
    """Routes of requests for one host at a gateway. `port` is the one that callers know."""

    host: str
    port: int
    routes: tuple[Route, ...]
    redirect_to_https: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayChain:
    """Connections of a gateway's port that are treated alike: those with one of `sni_hosts`, or all others where there are none.

    `tls` None means plaintext, or TLS that is passed through. `table` names the routes of requests; without it connections go to `clusters`.
    """

    sni_hosts: tuple[str, ...] = ()
    passes_tls_through: bool = False
    tls: ServerTls | None = None
    table: str = ""
    hosts: tuple[HostTable, ...] = ()
    clusters: tuple[tuple[str, int], ...] = ()
    treatment: Treatment = field(default_factory=Treatment)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPort:
    """A port on which a gateway's proxies listen: at every address, or at `bind`."""

    number: int
    bind: str = ""
    chains: tuple[GatewayChain, ...]
