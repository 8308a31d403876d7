"""Each mesh's root and an intermediate for each of its control planes, as the `cacerts` Secrets that an operator would plug in; and the bundles
of the meshes that it trusts, as `isthmus trust import` would write them.

The roots' keys sign the intermediates and are then forgotten: nothing that runs can issue another authority.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from isthmus.localruntime.plan import ClusterPlan, Plan
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId
from isthmus.trust import x509

_LIFETIME = timedelta(days=365)


class Authorities:
    """Of all the meshes of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        now = datetime.now(UTC)
        self._domains = {mesh.id: mesh.trust_domain for mesh in plan.meshes}
        roots = {mesh.id: x509.new_root(TrustDomain.parse(mesh.trust_domain), now, _LIFETIME) for mesh in plan.meshes}
        self._roots = {mesh: x509.certificate_pem(root.certificate) for mesh, root in roots.items()}
        self._secrets = {
            cluster.id: _secret(
                x509.new_intermediate(roots[cluster.mesh.id], cluster.id, now, _LIFETIME), self._roots[cluster.mesh.id]
            )
            for cluster in plan.clusters
            if cluster.runs_control_plane
        }

    def secret(self, cluster: ClusterPlan) -> dict[str, Any] | None:
        """None for a cluster that runs no control plane."""
        return self._secrets.get(ClusterId(cluster.id))

    def bundles(self, cluster: ClusterPlan) -> dict[str, Any] | None:
        """The ConfigMap of a cluster whose mesh trusts others, and that configuration is taken from."""
        is_config_cluster = any(each.config_cluster == cluster.id for each in self._plan.clusters)
        if not cluster.mesh.trusts or not is_config_cluster:
            return None
        trusted = {f"trust-bundle.{self._domains[mesh]}": self._roots[MeshId(mesh)] for mesh in cluster.mesh.trusts}
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": trusted,
        }


def _secret(issuer: x509.Issuer, root_pem: str) -> dict[str, Any]:
    certificate = x509.certificate_pem(issuer.certificate)
    files = {
        "ca-cert.pem": certificate,
        "ca-key.pem": x509.key_pem(issuer.key),
        "cert-chain.pem": certificate + root_pem,
        "root-cert.pem": root_pem,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "cacerts", "namespace": "istio-system"},
        "type": "Opaque",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in files.items()},
    }
