"""Webhooks: asks them over HTTPS about each change that they want to see, in the order of their names."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import msgspec
import structlog
from yarl import URL

from isthmus.apiserver import admission, match_conditions
from isthmus.apiserver.admission import BadAnswer, Change
from isthmus.apiserver.kinds import BUILT_IN, Kind, Kinds
from isthmus.apiserver.match_conditions import NotEvaluated
from isthmus.apiserver.service_addresses import NoAddress, service_addresses
from isthmus.apiserver.status import Refused
from isthmus.apiserver.store import Object, Store
from isthmus.apiserver.uids import new_uid
from isthmus.apiserver.webhook_shapes import ClientConfig, Webhook, webhooks_of

_BY_NAME = {kind.name: kind for kind in BUILT_IN}
_NAMESPACE = _BY_NAME["Namespace"]
_MUTATING, _VALIDATING = _BY_NAME["MutatingWebhookConfiguration"], _BY_NAME["ValidatingWebhookConfiguration"]
_ANSWER_BYTES_MAX = 8 * 1024 * 1024
_CONTEXTS_MAX = 64
_CONNECT_SECONDS = 2.0
"""An address that does not answer leaves time for the next one."""

log = structlog.get_logger()


class CallFailed(Exception):
    """A webhook that could not be asked, or whose answer is none."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a webhook is asked: the address, and by which name it is known (empty: the URL's own)."""

    url: URL
    name: str


class Webhooks:
    """Reads the configurations from the store: a change counts from the next write on."""

    def __init__(self, store: Store, kinds: Kinds) -> None:
        self._store = store
        self._kinds = kinds
        self._read: dict[str, tuple[int, list[Webhook]]] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def asked(self, change: Change) -> bool:
        """Whether anybody wants to see the change."""
        return self._is_wanted(_MUTATING, change) or self._is_wanted(_VALIDATING, change)

    async def mutated(self, change: Change) -> Change:
        """One after another, each on what the one before left. Raises Refused."""
        asked: list[tuple[Webhook, Change]] = []
        for webhook in self._webhooks(_MUTATING):
            after = await self._concluded(webhook, change, may_patch=True)
            if after is not None:
                change = after
                asked.append((webhook, change))
        for webhook, left in asked:
            if webhook.reinvocation_policy == "IfNeeded" and change.new != left.new:
                change = await self._concluded(webhook, change, may_patch=True) or change
        return change

    async def validated(self, change: Change) -> None:
        """All at once; the first refusal, in the order of names, is the answer. Raises Refused."""
        wanted = list(self._wanted(_VALIDATING, change))
        if not wanted:
            return
        refusals = await asyncio.gather(*(self._refusal(webhook, change) for webhook in wanted))
        for refusal in refusals:
            if refusal is not None:
                raise refusal

    async def _refusal(self, webhook: Webhook, change: Change) -> Refused | None:
        try:
            await self._concluded(webhook, change, may_patch=False)
        except Refused as refusal:
            return refusal
        return None

    def _is_wanted(self, configurations: Kind, change: Change) -> bool:
        return self._store.has(configurations) and any(True for _ in self._wanted(configurations, change))

    def _wanted(self, configurations: Kind, change: Change) -> Iterator[Webhook]:
        for webhook in self._webhooks(configurations):
            if admission.asked_as(webhook, change, self._kinds, self._labels(change.namespace)) is not None:
                yield webhook

    def _webhooks(self, configurations: Kind) -> list[Webhook]:
        changes, known = self._store.changes(configurations), self._read.get(configurations.name)
        if known is None or known[0] != changes:
            found = [webhook for stored in self._store.items(configurations) for webhook in webhooks_of(stored.obj)]
            known = self._read[configurations.name] = (changes, found)
        return known[1]

    def _labels(self, namespace: str) -> dict[str, str]:
        stored = self._store.find(_NAMESPACE, ("", namespace)) if namespace else None
        return (stored.obj["metadata"].get("labels") or {}) if stored is not None else {}

    async def _concluded(self, webhook: Webhook, change: Change, *, may_patch: bool) -> Change | None:
        """None if the webhook does not want to see the change. Raises Refused."""
        kind = admission.asked_as(webhook, change, self._kinds, self._labels(change.namespace))
        if kind is None:
            return None
        uid = new_uid()
        review = admission.review(change, kind, uid)
        if not _meets_conditions(webhook, change, review["request"]):
            return None
        admission.check_dry_run(webhook, change)
        try:
            body = await self._call(webhook, msgspec.json.encode(review))
            return admission.concluded(webhook, change, uid, body, may_patch=may_patch)
        except (CallFailed, BadAnswer) as error:
            message = f'failed calling webhook "{webhook.name}": {error}'
            log.warning("webhook failed", webhook=webhook.name, policy=webhook.failure_policy, error=str(error)[:300])
            if webhook.failure_policy == "Ignore":
                return change
            details = {"causes": [{"message": message}]}
            raise Refused(500, "InternalError", f"Internal error occurred: {message}", details) from None

    async def _call(self, webhook: Webhook, body: bytes) -> bytes:
        """The body of its answer. Raises CallFailed."""
        client = webhook.client_config
        failures: list[str] = []
        try:
            async with asyncio.timeout(webhook.timeout_seconds):
                for place in self._places(client):
                    url = place.url.update_query(timeout=f"{webhook.timeout_seconds}s")
                    try:
                        return await self._post(url, place.name, self._context(client), body)
                    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                        failures.append(f'failed to call webhook: Post "{url}": {error}')
        except NoAddress as error:
            raise CallFailed(str(error)) from None
        except TimeoutError:
            where = f'Post "{client.url}"' if client.url else f"service {client.service}"
            failures.append(f"failed to call webhook: {where}: no answer within {webhook.timeout_seconds} seconds")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failures.append(f"failed to call webhook: {type(error).__name__}: {error}")
        raise CallFailed("; ".join(failures))

    def _places(self, client: ClientConfig) -> Iterator[_Place]:
        """Where to ask, the best first. Raises NoAddress."""
        service = client.service
        if service is None:
            yield _Place(URL(client.url), "")
            return
        name = f"{service.name}.{service.namespace}.svc"
        for host, port in service_addresses(self._store, service.namespace, service.name, service.port):
            yield _Place(URL.build(scheme="https", host=host, port=port, path=service.path or "/"), name)

    async def _post(self, url: URL, name: str, context: ssl.SSLContext, body: bytes) -> bytes:
        """A connection that was kept may be at its end just now; then once more on another. Raises aiohttp.ClientError."""
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=True)
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "isthmus-apiserver"}
        for _ in range(2):
            with suppress(aiohttp.ServerDisconnectedError):
                async with self._session.post(
                    url,
                    data=body,
                    ssl=context,
                    server_hostname=name or None,
                    headers=headers | ({"Host": name} if name else {}),
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
                ) as response:
                    return await _read(response)
        raise aiohttp.ServerDisconnectedError(f'Post "{url}": the connection was closed without an answer')

    def _context(self, client: ClientConfig) -> ssl.SSLContext:
        context = self._contexts.get(client.ca_bundle)
        if context is None:
            if len(self._contexts) >= _CONTEXTS_MAX:
                self._contexts.clear()
            context = ssl.create_default_context(cadata=client.authorities or None)
            self._contexts[client.ca_bundle] = context
        return context


def _meets_conditions(webhook: Webhook, change: Change, request: Object) -> bool:
    """A condition that cannot be told is a failure of the webhook. Raises Refused."""
    try:
        return match_conditions.hold(webhook.match_conditions, request)
    except NotEvaluated as error:
        log.warning("conditions failed", webhook=webhook.name, policy=webhook.failure_policy, error=str(error)[:300])
        if webhook.failure_policy == "Ignore":
            return False
        raise Refused(403, "Forbidden", f'{change.kind.qualified} "{change.name}" is forbidden: {error}') from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Raises aiohttp.ClientError for any answer but 200, and ValueError for one without end."""
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_chunked(65_536):
        size += len(piece)
        if size > _ANSWER_BYTES_MAX:
            raise ValueError(f"its answer is longer than {_ANSWER_BYTES_MAX} bytes")
        pieces.append(piece)
    body = b"".join(pieces)
    if response.status != 200:
        told = body[:200].decode(errors="replace").strip()
        raise aiohttp.ClientPayloadError(f'Post "{response.url}": the answer was {response.status} {told}')
    return body
