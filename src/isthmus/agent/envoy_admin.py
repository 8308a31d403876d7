"""Asks an Envoy about itself, over its admin socket."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from isthmus.envoy.bootstrap import XDS_UPSTREAM

_SECONDS = 3.0


class EnvoyUnavailable(Exception):
    """The admin socket did not answer."""


class EnvoyAdmin:
    """One Envoy's admin interface. Close it when the proxy is forgotten."""

    def __init__(self, socket_path: Path) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(socket_path)), timeout=aiohttp.ClientTimeout(total=_SECONDS)
        )

    async def close(self) -> None:
        await self._session.close()

    async def is_live(self) -> bool:
        """Whether Envoy has finished its start (`/ready`)."""
        if self._session.closed:
            return False
        try:
            async with self._session.get("http://envoy/ready") as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def counter(self, name: str) -> int:
        """A counter or gauge by its whole name; 0 if there is none. Raises EnvoyUnavailable."""
        text = await self._get(f"/stats?filter=^{name}$")
        for line in text.splitlines():
            found, separator, value = line.rpartition(": ")
            if separator and found == name and value.strip().isdigit():
                return int(value)
        return 0

    async def control_plane(self) -> int | None:
        """The priority of the control plane that has its stream; None if none has. Raises EnvoyUnavailable."""
        found: dict[str, dict[str, str]] = {}
        for line in (await self._get(f"/clusters?filter=^{XDS_UPSTREAM}$")).splitlines():
            place, *said = line.rsplit("::", 2)
            if len(said) == 2:
                found.setdefault(place, {})[said[0]] = said[1]
        used = [
            int(each["priority"]) for each in found.values() if each.get("rq_active", "0") != "0" and "priority" in each
        ]
        return max(used, default=None)

    async def configuration(self) -> bytes:
        """All that it has, as JSON. Raises EnvoyUnavailable."""
        return (await self._get("/config_dump?include_eds")).encode()

    async def begin_drain(self) -> None:
        """New connections still work while old ones are told to close. Raises EnvoyUnavailable."""
        self._check_open()
        try:
            async with self._session.post("http://envoy/drain_listeners?graceful&skip_exit") as response:
                await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EnvoyUnavailable(str(error)) from None

    async def _get(self, path: str) -> str:
        self._check_open()
        try:
            async with self._session.get("http://envoy" + path) as response:
                return await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EnvoyUnavailable(str(error)) from None

    def _check_open(self) -> None:
        if self._session.closed:
            raise EnvoyUnavailable("the proxy is not looked after any more")
