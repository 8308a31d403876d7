"""Leadership: does some work only while a Lease is held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import structlog

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, Conflict, KubernetesError, NotFound
from isthmus.kubernetes.leases import Candidate, LeaseTerms, Object
from isthmus.kubernetes.resources import LEASES

_RELEASE_SECONDS = 3.0

log = structlog.get_logger()


class Leadership:
    """One candidate for one Lease."""

    def __init__(
        self, client: ApiClient, namespace: str, name: str, identity: str, terms: LeaseTerms | None = None
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._terms = terms or LeaseTerms()
        self._candidate = Candidate(identity, self._terms)
        self.held = False

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Until cancelled. `work` is begun whenever the Lease is won, and cancelled when it is lost."""
        try:
            while True:
                if await self._claimed():
                    await self._lead(work)
                await asyncio.sleep(self._terms.retry_seconds)
        finally:
            # Also if the Lease was won just now, and the answer has not come yet.
            await self._release()

    async def _lead(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.held = True
        log.info("leading", lease=self._name, identity=self._candidate.identity)
        try:
            async with asyncio.TaskGroup() as tasks:
                doing = tasks.create_task(work(), name=f"work of {self._name}")
                await self._until_lost()
                doing.cancel()
        finally:
            self.held = False
            log.info("leading no longer", lease=self._name, identity=self._candidate.identity)

    async def _until_lost(self) -> None:
        """Returns when the Lease is another's, or could not be renewed for too long: the others are about to take it."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while loop.time() - renewed < self._terms.renew_seconds:
            await asyncio.sleep(self._terms.retry_seconds)
            claimed = await self._claimed()
            if claimed is False:
                return
            if claimed:
                renewed = loop.time()

    async def _claimed(self) -> bool | None:
        """Whether the Lease is ours now. None: nobody has said; the server does not answer, or somebody wrote at the same moment."""
        try:
            async with asyncio.timeout(self._terms.renew_seconds / 2):
                found = await self._found()
                wanted = self._candidate.claim(found, asyncio.get_running_loop().time(), _stamp())
                if wanted is None:
                    return False
                await self._write(found, wanted)
                return True
        except (AlreadyExists, Conflict):
            return None
        except (KubernetesError, TimeoutError) as error:
            log.warning("cannot ask for a lease", lease=self._name, error=str(error) or type(error).__name__)
            return None

    async def _found(self) -> Object | None:
        try:
            return await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            return None

    async def _write(self, found: Object | None, wanted: Object) -> None:
        if found is not None:
            await self._client.replace(LEASES, wanted)
            return
        metadata = {"name": self._name, "namespace": self._namespace}
        body = {"apiVersion": LEASES.api_version, "kind": "Lease", "metadata": metadata, **wanted}
        await self._client.create(LEASES, body, self._namespace)

    async def _release(self) -> None:
        """So that another need not wait. A renewal that was under way may come in between: then once more."""
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                while not await self._given_back():
                    pass
        except (KubernetesError, TimeoutError) as error:
            # Its time runs out by itself.
            log.info("a lease was not given back", lease=self._name, error=str(error) or type(error).__name__)

    async def _given_back(self) -> bool:
        found = await self._found()
        wanted = self._candidate.release(found, _stamp()) if found else None
        try:
            if wanted is not None:
                await self._client.replace(LEASES, wanted)
        except Conflict:
            return False
        return True


def _stamp() -> str:
    """MicroTime, as Leases have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
