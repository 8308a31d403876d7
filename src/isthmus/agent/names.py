"""The name table: one subscription for each proxy, and the last good table for as long as the control plane is away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from isthmus.agent.certificates import ControlPlanes, read_token
from isthmus.envoy.name_table import decode
from isthmus.envoy.resources import NAME_TABLE
from isthmus.model.views import NameRecord
from isthmus.xds.client import subscribe

_BACK_OFF_FIRST = 0.1
_BACK_OFF_MAX = 2.0

log = structlog.get_logger()


class NameSubscription:
    """`changed` is called with each new table."""

    def __init__(
        self,
        control_planes: ControlPlanes,
        *,
        node: dict[str, Any],
        cluster: str,
        token_file: str,
        root_cert_file: str,
        changed: Callable[[tuple[NameRecord, ...]], None],
        last_good: Callable[[], bytes | None] = lambda: None,
    ) -> None:
        self._last_good = last_good
        self._control_planes = control_planes
        self._node = node
        self._cluster = cluster
        self._token_file = token_file
        self._root_cert_file = root_cert_file
        self._changed = changed
        self.last_error = ""
        self.received_at: float | None = None

    async def run(self) -> None:
        """Until cancelled; a broken stream is opened again."""
        back_off = _BACK_OFF_FIRST
        while True:
            before = self.received_at
            try:
                await self._follow()
            except (grpc.aio.AioRpcError, OSError, ValueError, DecodeError) as error:
                self.last_error = _explained(error)
                log.warning("no name table", error=self.last_error)
                self._make_do()
            back_off = _BACK_OFF_FIRST if self.received_at != before else min(back_off * 2, _BACK_OFF_MAX)
            await asyncio.sleep(back_off * random.uniform(0.5, 1.5))

    def _make_do(self) -> None:
        """With the last good table, before the first."""
        kept = self._last_good() if self.received_at is None else None
        if kept is not None:
            self.received_at = asyncio.get_running_loop().time()
            self._changed(decode(kept))

    async def _follow(self) -> None:
        token = read_token(self._token_file)
        metadata = (("authorization", f"Bearer {token}"), ("clusterid", self._cluster))
        async with self._control_planes.channel(self._root_cert_file) as channel:
            async for changed, _removed in subscribe(channel, self._node, NAME_TABLE, metadata=metadata):
                for body in changed.values():
                    self._changed(decode(body))
                    self.received_at = asyncio.get_running_loop().time()
                    self.last_error = ""


def _explained(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
