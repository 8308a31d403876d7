"""Asks a workload how it is, past its proxy: over HTTP, TCP, gRPC, or by a command. What it is asked is written as in a probe of Kubernetes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc.aio

Object = dict[str, Any]

_PAST_THE_PROXY = {False: ("127.0.0.6", 0), True: ("::6", 0)}
"""Capture leaves connections from these addresses alone, by whether they are of IPv6."""

_BODY_BYTES_MAX = 10 * 1024
_SERVING = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` as HTTP has it, also of other ways to ask."""

    status: int
    text: bytes

    @property
    def summary(self) -> str:
        """In one line."""
        first = next((line.strip() for line in self.text.decode(errors="replace").splitlines() if line.strip()), "")
        return f"{self.status}: {first}"

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 400


def past_the_proxy(ip: str) -> tuple[str, int]:
    """From where the workload at this address is asked past its proxy."""
    return _PAST_THE_PROXY[":" in ip]


def in_an_address(ip: str) -> str:
    """As it stands before a port."""
    return f"[{ip}]" if ":" in ip else ip


async def ask(question: Object, ip: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Whatever goes wrong is an answer, too. `headers` are passed on, where HTTP is spoken."""
    seconds = 1.0
    try:
        seconds = float(question.get("timeoutSeconds") or seconds)
        async with asyncio.timeout(seconds):
            if "httpGet" in question:
                return await _http(question["httpGet"], ip, headers or {})
            if "tcpSocket" in question:
                return await _tcp(int(question["tcpSocket"]["port"]), ip)
            if "exec" in question:
                return await _command(question["exec"]["command"])
            return await _grpc(question["grpc"], ip)
    except TimeoutError:
        return Answer(503, f"no answer in {seconds:g} s\n".encode())
    except (aiohttp.ClientError, OSError, grpc.aio.AioRpcError, KeyError, ValueError) as error:
        return Answer(503, f"{type(error).__name__}: {error}\n".encode())


async def _http(get: Object, ip: str, headers: Mapping[str, str]) -> Answer:
    """The workload's own answer, without its body's end if that is long: who asks shows a little of it."""
    scheme = str(get.get("scheme") or "http").lower()
    path = "/" + str(get.get("path") or "/").lstrip("/")
    said = {header["name"]: header["value"] for header in get.get("httpHeaders") or ()}
    connector = aiohttp.TCPConnector(local_addr=past_the_proxy(ip), ssl=False, force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
        session.get(
            f"{scheme}://{in_an_address(ip)}:{get['port']}{path}", headers={**headers, **said}, allow_redirects=False
        ) as response,
    ):
        return Answer(response.status, await response.content.read(_BODY_BYTES_MAX))


async def _tcp(port: int, ip: str) -> Answer:
    _, writer = await asyncio.open_connection(ip, port, local_addr=past_the_proxy(ip))
    writer.close()
    return Answer(200, b"connected\n")


async def _grpc(said: Object, ip: str) -> Answer:
    """grpc.health.v1.Health/Check, of two fields: the service's name; the status, first field of the answer."""
    service = str(said.get("service") or "").encode()
    asked = b"\n" + bytes([len(service)]) + service if 0 < len(service) < 128 else b""
    async with grpc.aio.insecure_channel(
        f"{in_an_address(ip)}:{said['port']}", options=[("grpc.enable_http_proxy", 0)]
    ) as channel:
        answer = await channel.unary_unary("/grpc.health.v1.Health/Check")(asked)
    if answer[:2] == bytes([8, _SERVING]):
        return Answer(200, b"SERVING\n")
    return Answer(503, b"not serving\n")


async def _command(command: list[str]) -> Answer:
    """Good if it ends with 0. One that takes too long is ended."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == 0:
        return Answer(200, output[:_BODY_BYTES_MAX])
    return Answer(503, f"exit code {process.returncode}: ".encode() + output[:_BODY_BYTES_MAX])
