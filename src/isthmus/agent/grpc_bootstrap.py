"""gRPC's own bootstrap (the file that GRPC_XDS_BOOTSTRAP names): an application without a proxy finds the mesh, and its certificate, by it.

The application connects to a control plane by itself, with the certificate that the agent keeps current in three files beside this one. Two
switches of gRPC's have to be set in its environment (`ENVIRONMENT`): without the first it finds no authorities and believes nobody (1.85), without
the second a network gateway does not know where its connections belong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.agent.certificates import Certificate
from isthmus.envoy.bundles import Bundles
from isthmus.envoy.proxyless import LISTENING, PROVIDER
from isthmus.envoy.secrets import spiffe_bundle_map
from isthmus.trust.private_files import write_privately

ENVIRONMENT: Mapping[str, str] = {"GRPC_EXPERIMENTAL_XDS_MTLS_SPIFFE": "true", "GRPC_EXPERIMENTAL_XDS_SNI": "true"}

REFRESH_SECONDS = 30
"""How often gRPC reads the files again."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the agent keeps a workload's certificate, for gRPC to read. The key's file is its user's alone."""

    directory: Path

    @property
    def chain(self) -> Path:
        return self.directory / "cert-chain.pem"

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"

    @property
    def roots(self) -> Path:
        return self.directory / "root-cert.pem"

    @property
    def bundles(self) -> Path:
        """Each trust domain's authorities, as a SPIFFE bundle map."""
        return self.directory / "spiffe-bundles.json"


def grpc_bootstrap(node: Mapping[str, Any], control_planes: Sequence[str], files: CertificateFiles) -> bytes:
    """`control_planes` are targets as gRPC writes them, in order of preference."""
    metadata = {**node["metadata"], "GENERATOR": "grpc"}
    secured = {
        "certificate_file": str(files.chain),
        "private_key_file": str(files.key),
        "refresh_interval": f"{REFRESH_SECONDS}s",
    }
    document = {
        "xds_servers": [
            {
                "server_uri": target,
                "channel_creds": [{"type": "tls", "config": {**secured, "ca_certificate_file": str(files.roots)}}],
                "server_features": ["xds_v3"],
            }
            for target in control_planes
        ],
        "node": {**node, "metadata": metadata},
        "certificate_providers": {
            PROVIDER: {
                "plugin_name": "file_watcher",
                "config": {**secured, "spiffe_bundle_map_file": str(files.bundles)},
            }
        },
        "server_listener_resource_name_template": f"{LISTENING}%s",
    }
    return json.dumps(document, indent=2).encode()


def write_certificate(certificate: Certificate, files: CertificateFiles, peers: Bundles | None = None) -> None:
    """Each file is replaced in one step, the key last: gRPC takes no pair that does not match, and reads again soon."""
    write_privately(files.bundles, spiffe_bundle_map(certificate.trusted_with(peers or {})).encode())
    write_privately(files.roots, certificate.roots_pem.encode())
    write_privately(files.chain, certificate.chain_pem.encode())
    write_privately(files.key, certificate.key_pem.encode())
