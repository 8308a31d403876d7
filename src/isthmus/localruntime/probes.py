"""Probes: asks a container of a Pod how it is, from inside the Pod's network namespace, past its capture.

All clusters of a mesh are asked by one process. Where that is kept from its own work, an answer that seems late says nothing about who was asked: to
take the Pod out for it would make an overloaded machine fail requests, too.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp

from isthmus.agent import namespaces
from isthmus.localruntime.commands import CommandFailed, run

_LOOPBACK = "127.0.0.1"
_LATE_SECONDS = 0.1
"""An event loop that is free comes to what is due within a few milliseconds."""

Object = dict[str, Any]


def session_inside(net_namespace: str) -> aiohttp.ClientSession:
    """A client whose connections are made in that namespace."""

    def opened(_: object) -> socket.socket:
        made = namespaces.open_socket(net_namespace, socket.SOCK_STREAM, _LOOPBACK)
        made.setblocking(False)
        return made

    connector = aiohttp.TCPConnector(socket_factory=opened, force_close=True, use_dns_cache=False)
    return aiohttp.ClientSession(connector=connector, auto_decompress=False)


async def probe(session: aiohttp.ClientSession, spec: Object, container: Object, net_namespace: str) -> str | None:
    """What is wrong; empty if the probe succeeds, None if we were late ourselves. Over the loopback address, which is never captured."""
    seconds = float(spec.get("timeoutSeconds", 1))
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds
    try:
        async with asyncio.timeout(seconds):
            if "httpGet" in spec:
                return await _http(session, spec["httpGet"], container)
            if "tcpSocket" in spec:
                return await _tcp(_number(spec["tcpSocket"]["port"], container), net_namespace)
            if "exec" in spec:
                await run("nsenter", f"--net={net_namespace}", *spec["exec"]["command"])
            return ""
    except TimeoutError:
        return None if loop.time() - due > _LATE_SECONDS else f"no answer in {seconds:g} s"
    except (aiohttp.ClientError, CommandFailed, OSError) as error:
        return str(error) or type(error).__name__


async def _http(session: aiohttp.ClientSession, get: Object, container: Object) -> str:
    url = f"http://{_LOOPBACK}:{_number(get['port'], container)}{get.get('path', '/')}"
    headers = {header["name"]: header["value"] for header in get.get("httpHeaders") or ()}
    async with session.get(url, headers=headers, allow_redirects=False) as response:
        if response.status < 400:
            return ""
        return f"HTTP {response.status}: {(await response.text())[:200]}"


async def _tcp(port: int, net_namespace: str) -> str:
    with namespaces.open_socket(net_namespace, socket.SOCK_STREAM, _LOOPBACK) as connection:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (_LOOPBACK, port))
    return ""


def _number(port: object, container: Object) -> int:
    """A port's number, or the number of the container's port of that name."""
    for known in container.get("ports") or ():
        if known.get("name") == port:
            return int(known["containerPort"])
    return int(str(port))
