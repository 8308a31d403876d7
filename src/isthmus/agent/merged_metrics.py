"""Metrics of a Pod in one answer (port 15020): the agent's own, Envoy's, and the workload's, for whoever asks each Pod once.

The workload is not trusted: it has so much time and may say so much, and what it says is left out whole where it is no text of Prometheus' (one
bad line has Prometheus refuse the answer) or speaks of the mesh's metrics.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime

import aiohttp
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from isthmus.agent.asking import in_an_address, past_the_proxy
from isthmus.agent.specification import Scraped
from isthmus.envoy.bootstrap import STATISTICS_PORT

STATISTICS_PATH = "/stats/prometheus"
_TEXT = "text/plain;version=0.0.4"
_SECONDS_MAX = 10.0
_SECONDS_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"
_IN_TIME = 0.9
"""Part of the asker's patience that is spent on asking others."""

_WORKLOAD_BYTES_MAX = 16 << 20
_ENVOY_BYTES_MAX = 128 << 20
_AT_ONCE = 2
_LABELS = rb'\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\}'
_LINE = re.compile(
    rb"(?!istio_|envoy_)[A-Za-z_:][A-Za-z0-9_:]*(?:" + _LABELS + rb")?[ \t]+[^\s{}]+(?:[ \t]+-?\d+)?[ \t]*\Z"
)
"""A sample of Prometheus' text that is not the mesh's own."""

log = structlog.get_logger()


class NotScraped(Exception):
    """Why there is nothing of one of them."""


class MergedMetrics:
    """`expires` tells when the workload's certificate does, if there is one."""

    def __init__(self, ip: str, workload: Scraped | None, expires: Callable[[], datetime | None]) -> None:
        self._ip = ip
        self._workload = workload
        self._expires = expires
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._registry = CollectorRegistry()
        self._scrapes = Counter("istio_agent_scrapes", "Answers with all metrics of the Pod.", registry=self._registry)
        self._failures = Counter(
            "istio_agent_scrape_failures", "What one of them did not say.", ["type"], registry=self._registry
        )
        left = Gauge("istio_agent_cert_expiry_seconds", "How long the certificate is good.", registry=self._registry)
        left.set_function(self._seconds_left)

    async def answer(self, request: web.Request) -> web.Response:
        """As long as whoever asks waits for it; what did not come in time is missing, and counted as such."""
        if self._room.locked():
            raise web.HTTPServiceUnavailable(text="asked too often at once: ask again\n", headers={"Retry-After": "1"})
        async with self._room:
            self._scrapes.inc()
            seconds = _patience(request.headers.get(_SECONDS_HEADER, ""))
            envoy, workload = await asyncio.gather(
                self._part("envoy", self._envoy(seconds)), self._part("application", self._application(seconds))
            )
            body = b"".join((generate_latest(self._registry), envoy, workload))
        return web.Response(body=body, headers={"Content-Type": f"{_TEXT}; charset=utf-8"})

    async def _part(self, name: str, asked: Coroutine[None, None, bytes]) -> bytes:
        try:
            return await asked
        except NotScraped as error:
            log.warning("no metrics", of=name, error=str(error))
            self._failures.labels(type=name).inc()
            return b""

    async def _envoy(self, seconds: float) -> bytes:
        return await _read(f"http://127.0.0.1:{STATISTICS_PORT}{STATISTICS_PATH}", None, seconds, _ENVOY_BYTES_MAX)

    async def _application(self, seconds: float) -> bytes:
        if self._workload is None:
            return b""
        url = f"http://{in_an_address(self._ip)}:{self._workload.port}{self._workload.path}"
        text = await _read(url, past_the_proxy(self._ip), seconds, _WORKLOAD_BYTES_MAX)
        return await asyncio.to_thread(checked, text)

    def _seconds_left(self) -> float:
        expires = self._expires()
        return (expires - datetime.now(UTC)).total_seconds() if expires else 0.0


def checked(text: bytes) -> bytes:
    """The workload's metrics, whole lines of them. Raises NotScraped."""
    lines = [line.rstrip(b"\r") for line in text.split(b"\n")]
    for number, line in enumerate(lines, 1):
        if line and not line.startswith(b"#") and not _LINE.match(line):
            raise NotScraped(f"line {number} is no metric, or one of the mesh's own: {line[:80]!r}")
    kept = [line for line in lines if line and not line.startswith((b"# EOF", b"# TYPE istio_", b"# TYPE envoy_"))]
    return b"".join(line + b"\n" for line in kept)


async def _read(url: str, source: tuple[str, int] | None, seconds: float, bytes_max: int) -> bytes:
    """Redirects are not followed, and nothing is unpacked: either would lead further than was said."""
    connector = aiohttp.TCPConnector(local_addr=source, force_close=True)
    headers = {"Accept": _TEXT, "Accept-Encoding": "identity"}
    body = bytearray()
    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise NotScraped(f"{url} answers {response.status}")
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > bytes_max:
                    raise NotScraped(f"{url} says more than {bytes_max} bytes")
    except TimeoutError:
        raise NotScraped(f"{url} has not answered in {seconds:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NotScraped(f"{url}: {type(error).__name__}: {error}") from None
    return bytes(body)


def _patience(said: str) -> float:
    """Prometheus says how long it waits."""
    try:
        seconds = float(said)
    except ValueError:
        return _SECONDS_MAX
    return min(seconds * _IN_TIME, _SECONDS_MAX) if seconds > 0 else _SECONDS_MAX
