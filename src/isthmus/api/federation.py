"""Federation of meshes (federation.isthmus.io): the one group of kinds that is Isthmus's own."""

from __future__ import annotations

import msgspec

from isthmus.api.meta import KubernetesObject, PortNumber, Wire

GROUP = "federation.isthmus.io"
GATEWAY_PORT = 15444
"""Where other meshes usually enter."""


class PeerGateway(Wire, frozen=True):
    address: str
    port: PortNumber = GATEWAY_PORT
    network: str = ""


class ExportedService(Wire, frozen=True):
    namespace: str
    name: str
    callers: list[str] = []


class Exports(Wire, frozen=True):
    """`identities` are service accounts of this mesh that may call the peer."""

    services: list[ExportedService] = []
    identities: list[str] = []


class ImportedService(Wire, frozen=True):
    namespace: str
    name: str
    to: list[str] = []


class Imports(Wire, frozen=True):
    services: list[ImportedService] = []


class MeshPeerSpec(Wire, frozen=True):
    """`control_planes` are host:port; `identity` that of the peer's control planes, if it is not the usual one; `gateways` in place of
    those that the peer tells.
    """

    mesh: str = ""
    trust_domain: str = ""
    control_planes: list[str] = []
    identity: str = ""
    gateways: list[PeerGateway] = []
    exports: Exports = msgspec.field(default_factory=Exports)
    imports: Imports = msgspec.field(default_factory=Imports)


class MeshPeer(KubernetesObject, frozen=True):
    """Another mesh, and what the two let each other have."""

    spec: MeshPeerSpec = msgspec.field(default_factory=MeshPeerSpec)
