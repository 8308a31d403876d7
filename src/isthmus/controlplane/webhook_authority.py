"""Keeps the authority (caBundle) in the webhook configurations of this control plane's revision: an API server trusts nothing else.

Only what has this revision's label and calls this control plane is touched. Where somebody else keeps writing another authority, the pauses
grow and it is told: two control planes that undo each other's work for ever help nobody.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from functools import partial

import msgspec
import structlog

from isthmus.api.meta import KubernetesObject
from isthmus.injection.selection import REVISION_LABEL
from isthmus.kubernetes.client import JSON_PATCH, ApiClient
from isthmus.kubernetes.errors import KubernetesError
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, ResourcePath

_RETRY_SECONDS = 1.0
_PAUSE_MAX = 300.0
_CALM_SECONDS = 600.0

log = structlog.get_logger()


class _Service(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""


class _ClientConfig(msgspec.Struct, frozen=True, rename="camel"):
    ca_bundle: str = ""
    service: _Service | None = None


class _Webhook(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    client_config: _ClientConfig = msgspec.field(default_factory=_ClientConfig)


class WebhookConfiguration(KubernetesObject, frozen=True):
    webhooks: list[_Webhook] = []


@dataclass(slots=True)
class _Quarrel:
    """How often somebody else has written after us, and when we may write again."""

    times: int = 0
    since: float = 0.0
    until: float = 0.0


class WebhookAuthority:
    """Of one cluster, for as long as it trusts us. `run` until cancelled."""

    def __init__(
        self, client: ApiClient, root_pem: str, *, revision: str, namespace: str, trusted: asyncio.Event
    ) -> None:
        self._client = client
        self._bundle = _bundle(root_pem)
        self._namespace = namespace
        self._trusted = trusted
        self._due = asyncio.Event()
        self._quarrels: dict[tuple[str, str], _Quarrel] = {}
        decode = partial(msgspec.json.decode, type=WebhookConfiguration)
        self._found: dict[ResourcePath, Reflector[WebhookConfiguration]] = {
            resource: Reflector(
                client,
                resource,
                decode,
                lambda _: self._due.set(),
                selector={"labelSelector": f"{REVISION_LABEL}={revision}"},
                optional=True,
            )
            for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)
        }

    def trust(self, root_pem: str) -> None:
        """API servers are to trust these roots from now on."""
        self._bundle = _bundle(root_pem)
        self._due.set()

    async def run(self) -> None:
        await self._trusted.wait()
        async with asyncio.TaskGroup() as tasks:
            for resource, reflector in self._found.items():
                tasks.create_task(reflector.run(), name=f"watch {resource.plural}")
            while True:
                await self._trusted.wait()
                pause = await self._once()
                try:
                    async with asyncio.timeout(pause):
                        await self._due.wait()
                except TimeoutError:
                    continue

    async def _once(self) -> float | None:
        """Mends what is due; in how many seconds more will be, if anything."""
        self._due.clear()
        pauses = []
        for resource, reflector in self._found.items():
            for (_, name), found in sorted(reflector.values.items()):
                pause = await self._mend(resource, name, found)
                pauses += [] if pause is None else [pause]
        return min(pauses, default=None)

    async def _mend(self, resource: ResourcePath, name: str, found: WebhookConfiguration) -> float | None:
        wrong = [
            at
            for at, webhook in enumerate(found.webhooks)
            if self._is_ours(webhook) and webhook.client_config.ca_bundle != self._bundle
        ]
        if not wrong:
            return None
        now = asyncio.get_running_loop().time()
        quarrel = self._quarrels.setdefault((resource.plural, name), _Quarrel())
        if now < quarrel.until:
            return quarrel.until - now
        patch = [
            step
            for at in wrong
            for step in (
                {"op": "test", "path": f"/webhooks/{at}/name", "value": found.webhooks[at].name},
                {"op": "add", "path": f"/webhooks/{at}/clientConfig/caBundle", "value": self._bundle},
            )
        ]
        try:
            await self._client.patch(resource, name, patch, kind=JSON_PATCH)
        except KubernetesError as error:
            log.warning("cannot write the webhooks' authority", configuration=name, error=str(error))
            return _RETRY_SECONDS
        self._note(quarrel, name, now, overwritten=any(found.webhooks[at].client_config.ca_bundle for at in wrong))
        return None

    def _note(self, quarrel: _Quarrel, name: str, now: float, *, overwritten: bool) -> None:
        """An empty bundle is a fresh configuration's; another one is somebody else's, the first time perhaps our predecessor's."""
        if not overwritten or now - quarrel.since > _CALM_SECONDS:
            quarrel.times = 0
        quarrel.since = now
        if overwritten:
            quarrel.times += 1
            quarrel.until = now + min(_PAUSE_MAX, 2.0 ** (quarrel.times - 1) - 1.0)
        if quarrel.times > 1:
            log.warning("somebody else writes the webhooks' authority, too", configuration=name, times=quarrel.times)

    def _is_ours(self, webhook: _Webhook) -> bool:
        """It calls a Service of our namespace. One that is called by a URL has our revision's label, which is enough."""
        service = webhook.client_config.service
        return service is None or service.namespace == self._namespace


def _bundle(root_pem: str) -> str:
    return base64.b64encode(root_pem.encode()).decode()
