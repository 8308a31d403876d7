"""The simulated proxies' own side: node messages as real sidecars send them, and the credentials of each."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from envoy.config.core.v3 import base_pb2
from google.protobuf import json_format

from bench.workloads import ProxyPlace, Workload, cluster_of, network_of, proxied
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import Namespace
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority

_EXTENSIONS = 350
_LIFE = timedelta(days=1)


def specification(
    workload: Workload, authority: Mapping[str, str], tokens: Mapping[str, str], folder: Path, trust_domain: str
) -> Path:
    """A file for the load generator. Certificates are of the authority; a namespace that has a token shows that instead."""
    extensions = _extensions()
    path = folder / "drones.spec"
    with path.open("wb") as file:
        certificates: dict[str, bytes] = {}
        for place in sorted(proxied(workload), key=lambda place: (place.namespace, place.number)):
            if place.namespace not in certificates:
                certificates[place.namespace] = (
                    b"" if place.namespace in tokens else _certificate(authority, place.namespace, folder, trust_domain)
                )
            for field in (
                _node(workload, place) + extensions,
                tokens.get(place.namespace, "").encode(),
                certificates[place.namespace],
            ):
                file.write(struct.pack("<L", len(field)) + field)
    return path


def _node(workload: Workload, place: ProxyPlace) -> bytes:
    domain = f"{place.namespace}.svc.cluster.local"
    node = {
        "id": f"sidecar~{place.ip}~{place.name}.{place.namespace}~{domain}",
        "cluster": f"{place.service}.{place.namespace}",
        "locality": {"region": f"region-{place.cluster}", "zone": f"zone-{place.number % 3}"},
        "user_agent_name": "envoy",
        "user_agent_build_version": {"version": {"major_number": 1, "minor_number": 40}},
        "metadata": {
            "CLUSTER_ID": cluster_of(place.cluster),
            "NETWORK": network_of(place.cluster) if workload.clusters > 1 else "",
            "NAMESPACE": place.namespace,
            "NAME": place.name,
            "NODE_NAME": f"node-{place.number % 20}",
            "SERVICE_ACCOUNT": "default",
            "WORKLOAD_NAME": place.service,
            "OWNER": f"kubernetes://apis/apps/v1/namespaces/{place.namespace}/deployments/{place.service}",
            "LABELS": place.labels,
            "INSTANCE_IPS": place.ip,
            "ISTIO_VERSION": "1.28.0",
            "MESH_ID": "mesh1",
            "PROXY_CONFIG": {"concurrency": 2, "discoveryAddress": "istiod.istio-system.svc:15012"},
        },
    }
    return bytes(json_format.ParseDict(node, base_pb2.Node()).SerializeToString())


def _extensions() -> bytes:
    """What an Envoy says that it was built with: 30 KB in the first request, the same for all."""
    node = base_pb2.Node()
    for number in range(_EXTENSIONS):
        node.extensions.add(
            name=f"envoy.filters.http.extension_{number}",
            category="envoy.filters.http",
            type_urls=[f"envoy.extensions.filters.http.extension_{number}.v3.Settings"],
        )
    return bytes(node.SerializeToString())


def _certificate(authority: Mapping[str, str], namespace: str, folder: Path, trust_domain: str) -> bytes:
    """The path of a file with the chain and key of the namespace's `default` account."""
    issuer = CertificateAuthority.from_pem(
        certificate=authority["ca-cert.pem"],
        key=authority["ca-key.pem"],
        chain=authority.get("cert-chain.pem", ""),
        root=authority.get("root-cert.pem") or authority["ca-cert.pem"],
    )
    key = x509.new_key()
    identity = SpiffeId.of_service_account(TrustDomain.parse(trust_domain), Namespace(namespace), "default")
    chain = issuer.sign(x509.new_request(key), identity, datetime.now(UTC), _LIFE)
    path = folder / f"{namespace}.pem"
    path.touch(mode=0o600)
    path.write_text("".join(chain[:-1]) + x509.key_pem(key))
    return str(path).encode()
