"""Where the control plane's certificate authority comes from."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import structlog

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, NotFound
from isthmus.kubernetes.resources import SECRETS
from isthmus.model.identity import TrustDomain
from isthmus.model.names import Namespace
from isthmus.trust.authority import CertificateAuthority
from isthmus.trust.x509 import BadCertificate, certificate_pem, key_pem

PLUGGED_IN = "cacerts"
SELF_SIGNED = "istio-ca-secret"
_ROOT_KEY = "root-cert.pem"

log = structlog.get_logger()


async def load_authority(
    client: ApiClient, system_namespace: Namespace, trust_domain: TrustDomain
) -> CertificateAuthority:
    """The plugged-in authority (`cacerts`), else the self-signed one, which the first control plane to start creates.

    Raises BadCertificate for a Secret whose parts do not fit: a mesh with half an authority must not start.
    """
    for name in (PLUGGED_IN, SELF_SIGNED):
        try:
            return _from_secret(await client.get(SECRETS, name, system_namespace))
        except NotFound:
            continue
    authority = CertificateAuthority.self_signed(trust_domain, datetime.now(UTC))
    try:
        await client.create(SECRETS, _self_signed_secret(authority, system_namespace), system_namespace)
    except AlreadyExists:
        return _from_secret(await client.get(SECRETS, SELF_SIGNED, system_namespace))
    log.info("created a self-signed authority", secret=f"{system_namespace}/{SELF_SIGNED}")
    return authority


def _from_secret(secret: dict[str, Any]) -> CertificateAuthority:
    data = {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}
    name = secret["metadata"]["name"]
    missing = [key for key in ("ca-cert.pem", "ca-key.pem") if not data.get(key)]
    if missing:
        raise BadCertificate(f"Secret {name} lacks {', '.join(missing)}")
    return CertificateAuthority.from_pem(
        certificate=data["ca-cert.pem"],
        key=data["ca-key.pem"],
        chain=data.get("cert-chain.pem", ""),
        root=data.get(_ROOT_KEY) or data["ca-cert.pem"],
    )


def _self_signed_secret(authority: CertificateAuthority, namespace: Namespace) -> dict[str, Any]:
    data = {
        "ca-cert.pem": certificate_pem(authority.issuer.certificate),
        "ca-key.pem": key_pem(authority.issuer.key),
        _ROOT_KEY: authority.root_pem,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SELF_SIGNED, "namespace": namespace},
        "type": "istio.io/ca-root",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }
