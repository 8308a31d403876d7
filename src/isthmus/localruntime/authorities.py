"""The mesh's root and an intermediate for each cluster, as the `cacerts` Secrets that an operator would plug in.

The root's key signs the intermediates and is then forgotten: nothing that runs can issue another authority.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from isthmus.model.identity import TrustDomain
from isthmus.trust import x509

_LIFETIME = timedelta(days=365)


def plugged_in_authorities(trust_domain: str, clusters: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The Secret of each cluster."""
    now = datetime.now(UTC)
    root = x509.new_root(TrustDomain.parse(trust_domain), now, _LIFETIME)
    root_pem = x509.certificate_pem(root.certificate)
    secrets = {}
    for cluster in clusters:
        issuer = x509.new_intermediate(root, cluster, now, _LIFETIME)
        certificate = x509.certificate_pem(issuer.certificate)
        files = {
            "ca-cert.pem": certificate,
            "ca-key.pem": x509.key_pem(issuer.key),
            "cert-chain.pem": certificate + root_pem,
            "root-cert.pem": root_pem,
        }
        secrets[cluster] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "cacerts", "namespace": "istio-system"},
            "type": "Opaque",
            "data": {name: base64.b64encode(text.encode()).decode() for name, text in files.items()},
        }
    return secrets
