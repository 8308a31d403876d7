"""AgentClient: tells a cluster's agent about the Envoys that it is to look after."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import msgspec

from isthmus.agent.specification import ProxyReady, ProxySpec

_SECONDS = 90.0
_ASK_SECONDS = 0.05


class AgentRefused(Exception):
    """The agent does not answer, or answers with a reason."""


class AgentClient:
    """Over the agent's unix socket."""

    def __init__(self, socket_path: Path) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(socket_path)), timeout=aiohttp.ClientTimeout(total=_SECONDS)
        )

    async def close(self) -> None:
        await self._session.close()

    async def put(self, spec: ProxySpec) -> ProxyReady:
        """Waits until the Envoy can be started. The same again changes nothing. Raises AgentRefused."""
        body = await self._request("PUT", f"/proxies/{spec.namespace}/{spec.name}", msgspec.json.encode(spec))
        return msgspec.json.decode(body, type=ProxyReady)

    async def drain(self, namespace: str, name: str) -> None:
        """Raises AgentRefused."""
        await self._request("POST", f"/proxies/{namespace}/{name}/drain")

    async def forget(self, namespace: str, name: str) -> None:
        """Raises AgentRefused."""
        await self._request("DELETE", f"/proxies/{namespace}/{name}")

    async def until_alive(self) -> None:
        """Waits for the agent to answer: it may be starting."""
        while True:
            try:
                await self._request("GET", "/healthz")
                return
            except AgentRefused:
                await asyncio.sleep(_ASK_SECONDS)

    async def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            async with self._session.request(method, f"http://agent{path}", data=body) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AgentRefused(f"the agent does not answer: {error}") from None
        if response.status >= 400:
            raise AgentRefused(_reason(answer))
        return answer


def _reason(answer: bytes) -> str:
    try:
        return str(msgspec.json.decode(answer)["error"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return answer.decode(errors="replace").strip()
