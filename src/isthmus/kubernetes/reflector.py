"""Reflector: keeps a collection current. The shell around `watch.ListThenWatch`: connections, time-outs, back-off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Generic, TypeVar
from urllib.parse import urlencode

import structlog

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import ApiError, ApiUnavailable, Forbidden, KubernetesError, NotFound, NotNow
from isthmus.kubernetes.resources import ResourcePath
from isthmus.kubernetes.watch import AskList, Change, ListThenWatch, Name, WatchEnded

T = TypeVar("T")

_BACK_OFF_FIRST = 0.1
_BACK_OFF_MAX = 10.0
_LATE_SECONDS = 15.0
"""Where clusters start together a server may come later than who reads it."""
_WATCH_SECONDS = (300, 600)
_IDLE_SECONDS = 150.0
"""Bookmarks come about once a minute: silence for longer than two of them means a dead connection."""

log = structlog.get_logger()


class Reflector(Generic[T]):
    """`run` until cancelled.

    `changed` is called with each batch of changes, once for the first list even if it is empty, and with none if only `malformed` has
    changed. `refusal` says that the server does not let us read the kind. `optional`: then there is none of it for us; otherwise it is waited for.
    `older`: versions that are read where the server does not have the first one.
    """

    def __init__(
        self,
        client: ApiClient,
        resource: ResourcePath,
        decode: Callable[[bytes], T],
        changed: Callable[[list[Change[T]]], None],
        *,
        namespace: str = "",
        selector: Mapping[str, str] | None = None,
        idle_seconds: float = _IDLE_SECONDS,
        optional: bool = False,
        older: Sequence[ResourcePath] = (),
    ) -> None:
        self._client = client
        self._idle_seconds = idle_seconds
        self._paths = [each.collection(namespace) for each in (resource, *older)]
        self._path = self._paths[0]
        self._state = ListThenWatch(decode, selector=selector)
        self._changed = changed
        self._named: dict[Name, str] = {}
        self.synced = asyncio.Event()
        self.last_contact: float | None = None
        self.last_error = ""
        self.refusal = ""
        self._warned_of = ""
        self._began = 0.0
        self._optional = optional

    @property
    def values(self) -> dict[Name, T]:
        return self._state.values

    @property
    def malformed(self) -> Mapping[Name, str]:
        """Objects that could not be decoded, with the reason."""
        return self._state.malformed

    async def run(self) -> None:
        """Never returns; a server that is away is tried again for ever."""
        back_off = _BACK_OFF_FIRST
        self._began = asyncio.get_running_loop().time()
        while True:
            try:
                heard = await self._once()
                self.last_error = ""
            except WatchEnded as end:
                # Whatever the reason: a server that says so each time is not asked in a hot loop.
                heard = False
                if end.expired:
                    log.debug("watch ended", path=self._path, reason=str(end))
                else:
                    self._note(end)
            except NotFound:
                self.last_error = ""
                if self._goes_on_to_older():
                    continue
                # The server does not know the kind (yet): there are no objects of it.
                self._contact(self._state.absent(), listed=True)
                heard = False
            except Forbidden as error:
                heard = False
                if self._optional and (self.refusal or not self.synced.is_set()):
                    self.refusal, self.last_error = str(error), ""
                    self._contact(self._state.absent(), listed=True)
                else:
                    self.refusal = str(error)
                    self._note(error)
            except ApiError as error:
                self._state.refused(error.status)
                heard = False
                self._note(error)
            except KubernetesError as error:
                heard = False
                self._note(error)
            back_off = _BACK_OFF_FIRST if heard else min(back_off * 2, _BACK_OFF_MAX)
            if not heard:
                await asyncio.sleep(back_off * random.uniform(0.5, 1.0))

    def _goes_on_to_older(self) -> bool:
        """Turns to the next version of the kind; behind the oldest one comes the newest again, which is asked later."""
        turn = (self._paths.index(self._path) + 1) % len(self._paths)
        self._path = self._paths[turn]
        if turn:
            self._state.expired()
        return turn > 0

    async def _once(self) -> bool:
        """One request. Whether the server said something; one that closes every watch at once is not asked in a hot loop."""
        request = self._state.next_request(random.randint(*_WATCH_SECONDS))
        if isinstance(request, AskList):
            changes = self._state.page(await self._client.read(f"{self._path}?{urlencode(request.parameters)}"))
            self.refusal = ""
            self._contact(changes, listed=self._state.synced)
            return True
        heard = False
        lines = self._client.lines(self._path, dict(request.parameters), idle_seconds=self._idle_seconds)
        async with aclosing(lines) as batches:
            async for batch in batches:
                heard = heard or bool(batch)
                self._take(batch)
        return heard

    def _take(self, batch: list[bytes]) -> None:
        """Changes before a line that ends the watch still count."""
        changes: list[Change[T]] = []
        try:
            for line in batch:
                changes += self._state.line(line)
            # A watch lasts for minutes: what was wrong before it is not wrong any longer.
            self.last_error = self.refusal = ""
        finally:
            self._contact(changes, listed=self._state.synced)

    def _contact(self, changes: list[Change[T]], *, listed: bool) -> None:
        self.last_contact = asyncio.get_running_loop().time()
        first = listed and not self.synced.is_set()
        named, self._named = self._named, dict(self._state.malformed)
        if changes or first or named != self._named:
            self._changed(changes)
        if first:
            self.synced.set()

    def _note(self, error: Exception) -> None:
        """What is new of it is said; that nobody answers from the beginning, after a while."""
        said, before = str(error), self.last_error
        self.last_error = said
        if not before:
            self._warned_of = ""
        if isinstance(error, NotNow):
            # Nothing is wrong: a kind is served a moment after its definition was made.
            if said != before:
                log.info("asked to come again", path=self._path, answer=said)
        elif said != self._warned_of and not (isinstance(error, ApiUnavailable) and self._may_be_starting()):
            log.warning("cannot watch", path=self._path, error=said)
            self._warned_of = said

    def _may_be_starting(self) -> bool:
        return self.last_contact is None and asyncio.get_running_loop().time() - self._began < _LATE_SECONDS
