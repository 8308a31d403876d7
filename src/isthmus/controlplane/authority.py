"""Where the control plane's certificate authority comes from, and how its roots reach every namespace."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import structlog

from isthmus.api.core import ConfigMap
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, KubernetesError, NotFound
from isthmus.kubernetes.resources import CONFIG_MAPS, SECRETS
from isthmus.kubernetes.watch import Name
from isthmus.model.identity import TrustDomain
from isthmus.model.names import Namespace
from isthmus.trust.authority import CertificateAuthority
from isthmus.trust.x509 import BadCertificate, certificate_pem, key_pem

PLUGGED_IN = "cacerts"
SELF_SIGNED = "istio-ca-secret"
ROOT_CONFIG_MAP = "istio-ca-root-cert"
ROOT_KEY = "root-cert.pem"
_RETRY_SECONDS = 1.0

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
        root=data.get(ROOT_KEY) or data["ca-cert.pem"],
    )


def _self_signed_secret(authority: CertificateAuthority, namespace: Namespace) -> dict[str, Any]:
    data = {
        "ca-cert.pem": certificate_pem(authority.issuer.certificate),
        "ca-key.pem": key_pem(authority.issuer.key),
        ROOT_KEY: authority.root_pem,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SELF_SIGNED, "namespace": namespace},
        "type": "istio.io/ca-root",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


class RootPublisher:
    """Keeps the ConfigMap with the roots in every namespace: what an agent checks its control plane against."""

    def __init__(
        self,
        client: ApiClient,
        root_pem: str,
        namespaces: Callable[[], Iterable[str]],
        published: Callable[[], dict[Name, ConfigMap]],
    ) -> None:
        self._client = client
        self._data = {ROOT_KEY: root_pem}
        self._namespaces = namespaces
        self._published = published
        self.work = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled: whenever `work` is set, by a namespace that came or a ConfigMap that changed."""
        while True:
            await self.work.wait()
            self.work.clear()
            try:
                await self._publish()
            except KubernetesError as error:
                log.warning("cannot publish the roots", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                self.work.set()

    async def _publish(self) -> None:
        published = self._published()
        for namespace in sorted(self._namespaces()):
            present = published.get((namespace, ROOT_CONFIG_MAP))
            if present is None:
                await self._create(namespace)
            elif present.data != self._data:
                await self._client.patch(CONFIG_MAPS, ROOT_CONFIG_MAP, {"data": self._data}, namespace)

    async def _create(self, namespace: str) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ROOT_CONFIG_MAP, "namespace": namespace, "labels": {"istio.io/config": "true"}},
            "data": self._data,
        }
        try:
            await self._client.create(CONFIG_MAPS, body, namespace)
        except AlreadyExists:
            await self._client.patch(CONFIG_MAPS, ROOT_CONFIG_MAP, {"data": self._data}, namespace)
        except NotFound:
            return  # The namespace has gone meanwhile.
