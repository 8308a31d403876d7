"""What an agent itself is told: the name table, the authorities of other trust domains, and what to do about those of its own. One stream for
each proxy.

The last good of each goes on counting for as long as the control plane is away. Who is refused before anything has come gets none.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from isthmus.agent.answers import FirstAnswer, explained, nobody_answered
from isthmus.agent.certificates import ControlPlanes, Credentials
from isthmus.envoy import bundles, name_table, own_trust, resources
from isthmus.envoy.bundles import Bundles
from isthmus.envoy.resources import BUNDLES, NAME_TABLE, OWN_TRUST
from isthmus.model.trust import NOTHING_ASKED, OwnTrust
from isthmus.model.views import NameRecord
from isthmus.xds.client import follow

_BACK_OFF_FIRST = 0.1
_BACK_OFF_MAX = 2.0


class Subscription:
    """`named` is called with each new name table, if `wants_names`; `trusted` with the bundles of other trust domains, all of them each time;
    `asked` with what to do about the own trust domain's authorities, and how to acknowledge it.
    """

    def __init__(
        self,
        control_planes: ControlPlanes,
        *,
        node: dict[str, Any],
        cluster: str,
        credentials: Callable[[], Credentials],
        root_cert_file: str,
        wants_names: bool,
        named: Callable[[tuple[NameRecord, ...]], None],
        trusted: Callable[[Bundles], None],
        asked: Callable[[OwnTrust, Callable[[str], Awaitable[None]]], None],
        last_names: Callable[[], tuple[NameRecord, ...] | None],
        last_peers: Callable[[], Bundles | None],
    ) -> None:
        self._last_names, self._last_peers = last_names, last_peers
        self._control_planes = control_planes
        self._node = node
        self._cluster = cluster
        self._credentials = credentials
        self._root_cert_file = root_cert_file
        self._wanted = dict.fromkeys((BUNDLES, OWN_TRUST, *((NAME_TABLE,) if wants_names else ())), ())
        self._named = named
        self._trusted = trusted
        self._asked = asked
        self._first = FirstAnswer("stream from the control plane")
        self.last_error = ""
        self.received_at: float | None = None
        self.rank: int | None = None
        """Of the control plane that it has a stream to, in order of preference. None while there is none."""

    async def run(self) -> None:
        """Until cancelled; a broken stream is opened again."""
        back_off = _BACK_OFF_FIRST
        own = asyncio.current_task()
        assert own is not None, "a coroutine runs in a task"
        while True:
            before = self.received_at
            self.rank = None
            try:
                await self._follow()
            except (grpc.aio.AioRpcError, OSError, ValueError, DecodeError) as error:
                self.last_error = explained(error)
                self._first.missing(error, node=str(self._node["id"]))
                self._make_do(error)
            if own.cancelling():
                return  # A cancellation that meets the end of a call comes out of grpc.aio as that call's error.
            back_off = _BACK_OFF_FIRST if self.received_at != before else min(back_off * 2, _BACK_OFF_MAX)
            await asyncio.sleep(back_off * random.uniform(0.5, 1.5))

    def _make_do(self, error: Exception) -> None:
        """With the last good ones, before anything has come, and only where nobody answered."""
        if self.received_at is not None or not nobody_answered(error):
            return
        names = self._last_names() if NAME_TABLE in self._wanted else None
        peers = self._last_peers()
        if names is not None or peers is not None:
            self.received_at = asyncio.get_running_loop().time()
        if peers is not None:
            self._trusted(peers)
        if names is not None:
            self._named(names)

    async def _follow(self) -> None:
        shown = self._credentials()
        metadata = shown.metadata(self._cluster)
        rank = self._control_planes.rank
        async with self._control_planes.channel(self._root_cert_file, shown.certificate) as channel:
            news = follow(channel, self._node, self._wanted, metadata=metadata, answered_later={OWN_TRUST})
            async for told in news:
                match told.type_url:
                    case resources.BUNDLES:
                        # Without the resource nobody is trusted any longer, also when it went while no stream was open.
                        body = told.changed.get(bundles.NAME)
                        self._trusted({} if body is None else bundles.decode(body))
                    case resources.OWN_TRUST:
                        body = told.changed.get(own_trust.NAME)
                        self._asked(NOTHING_ASKED if body is None else own_trust.decode(body), told.answer)
                    case resources.NAME_TABLE:
                        for body in told.changed.values():
                            self._named(name_table.decode(body))
                self.received_at = asyncio.get_running_loop().time()
                self.last_error, self.rank = "", rank
                self._first.came()
