"""What a control plane without a signing key is known by: its own certificate, from a signer, and the signers' roots, from MeshConfig.

Both are followed. A certificate is renewed before half of its life is over. Roots that are new are taken at once; before one goes, the control plane
has a certificate under another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import structlog

from isthmus.api.core import ConfigMap
from isthmus.controlplane.authority import AuthorityInUse
from isthmus.controlplane.external_signer import ExternalSigner, SignerRules
from isthmus.ingest.mesh_config import CONFIG_MAP, BadMeshConfig, document_of, signers_of
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import KubernetesError, NotFound
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import CONFIG_MAPS
from isthmus.model.identity import SpiffeId
from isthmus.model.issues import Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.trust import x509
from isthmus.trust.external import ExternalAuthority
from isthmus.trust.registration import Refused

OWN_LIFETIME = timedelta(days=1)
_RETRY_SECONDS = 2.0
_AGAIN_SECONDS = 30.0

log = structlog.get_logger()


class ExternalTrust:
    """`first` before anything is served; then `run` until cancelled."""

    def __init__(
        self,
        client: ApiClient,
        signer: ExternalSigner,
        *,
        identity: SpiffeId,
        names: Sequence[str],
        namespace: Namespace,
    ) -> None:
        self._client, self.signer = client, signer
        self._identity, self._names, self._namespace = identity, tuple(names), namespace
        self._news = asyncio.Event()
        self._settings: Reflector[ConfigMap] = Reflector(
            client,
            CONFIG_MAPS,
            partial(msgspec.json.decode, type=ConfigMap),
            lambda _: self._news.set(),
            namespace=namespace,
            selector={"fieldSelector": f"metadata.name={CONFIG_MAP}"},
        )

    async def first(self) -> ExternalAuthority:
        """As soon as there are roots, and the signer signs: until then nobody could trust us."""
        while True:
            try:
                self.signer.roots = roots_of(await self._config_map(), self.signer.rules)
                return await self._renewed()
            except (KubernetesError, BadMeshConfig, x509.BadCertificate, Refused) as error:
                log.warning("waiting for a certificate of our own", signer=self.signer.rules.own, reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def run(self, use: AuthorityInUse) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._settings.run(), name="watch roots of signers")
            await self._settings.synced.wait()
            while True:
                self._news.clear()
                wait = await self._follow(use)
                try:
                    async with asyncio.timeout(wait):
                        await self._news.wait()
                except TimeoutError:
                    continue

    async def _follow(self, use: AuthorityInUse) -> float:
        """When to look again, in seconds, if nothing happens before."""
        before = self.signer.roots
        try:
            wanted = roots_of(self._settings.values.get((self._namespace, CONFIG_MAP)), self.signer.rules)
            if wanted != before or x509.merged(wanted.values()) != use.current.root_pem or self._due(use) <= 0:
                await self._take(use, wanted)
            elif use.refusal:
                use.consider(use.current)
        except (BadMeshConfig, x509.BadCertificate, Refused) as error:
            self.signer.roots = before
            use.refuse(str(error))
            return _AGAIN_SECONDS
        return _AGAIN_SECONDS if use.refusal else max(self._due(use), 1.0)

    async def _take(self, use: AuthorityInUse, wanted: dict[str, str]) -> None:
        """A certificate that is good under the old roots or the new ones; with both, then with the new ones alone."""
        both = {name: x509.merged([self.signer.roots.get(name, ""), pem]) for name, pem in wanted.items()}
        self.signer.roots = both
        renewed = await self._renewed()
        use.consider(renewed)
        self.signer.roots = wanted
        use.consider(replace(renewed, root_pem=self.signer.root_pem))
        if use.refusal:
            self.signer.roots = both

    async def _renewed(self) -> ExternalAuthority:
        return await self.signer.own(self._identity, self._names, OWN_LIFETIME)

    def _due(self, use: AuthorityInUse) -> float:
        """Seconds until half of the certificate's life is over."""
        facts = x509.facts_of(use.current.serving_certificate(self._names, datetime.now(UTC)).chain_pem)
        half = facts.not_before + (facts.not_after - facts.not_before) / 2
        return (half - datetime.now(UTC)).total_seconds()

    async def _config_map(self) -> ConfigMap | None:
        try:
            found = await self._client.get(CONFIG_MAPS, CONFIG_MAP, self._namespace)
        except NotFound:
            return None
        return msgspec.convert(found, ConfigMap)


def subject_of_roots(cluster: ClusterId, namespace: Namespace) -> Subject:
    """What issues about signers' roots are about."""
    return Subject(cluster, "ConfigMap", namespace, CONFIG_MAP)


def roots_of(config_map: ConfigMap | None, rules: SignerRules) -> dict[str, str]:
    """Of each signer that is used, what MeshConfig's `caCertificates` has for it. Raises BadMeshConfig and BadCertificate."""
    config = document_of(config_map, "mesh") if config_map is not None else {}
    found: dict[str, str] = {}
    for entry in signers_of(config):
        for name in map(str, entry["certSigners"]):
            if rules.uses(name):
                found[name] = x509.merged([found.get(name, ""), str(entry.get("pem") or "")])
    for name in (rules.workloads, rules.own):
        if name not in found:
            raise BadMeshConfig(
                f"caCertificates: no entry has {name} among its certSigners, so its roots are not known"
            )
    return found
