"""The two processes of a tunnel. Their certificates are asked for as any workload's, and renewed while connections are open."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

# Before gRPC is imported: its fork handlers have lost children's output (measured), and nothing here forks.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import structlog
import uvloop

from isthmus.agent.certificates import Certificate, CertificateHolder, ControlPlanes
from isthmus.agent.tunnel import Account, Ends, Inside, Outside

_RENEW_SECONDS = 3600.0
"""How long the outside's listener shows one certificate before it takes the newest."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelSettings:
    """Of either end. `control_planes` are host:port of token ports."""

    cluster: str
    control_planes: Sequence[str]
    control_plane_name: str
    token_file: str
    roots_file: str
    peer: Account
    certificate_seconds: int = 86400


def run_outside(settings: TunnelSettings, *, dialled: int, called: Sequence[int]) -> int:
    """Listens for the inside on `dialled`, and for callers on the others. Until SIGTERM."""
    return _run(settings, partial(_outside, dialled, called))


def run_inside(
    settings: TunnelSettings, *, outside: tuple[str, int], targets: Mapping[int, tuple[str, int]], spare: int
) -> int:
    """Keeps `spare` connections to the outside ready. Until SIGTERM."""
    return _run(settings, partial(_inside, outside, targets, spare))


def _run(settings: TunnelSettings, work: Callable[[Ends], Coroutine[Any, Any, None]]) -> int:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_terminated(settings, work))
    return 0


async def _until_terminated(settings: TunnelSettings, work: Callable[[Ends], Coroutine[Any, Any, None]]) -> None:
    stop, certified = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    holder = CertificateHolder(
        ControlPlanes(settings.control_planes, settings.control_plane_name),
        cluster=settings.cluster,
        token_file=settings.token_file,
        root_cert_file=settings.roots_file,
        seconds=settings.certificate_seconds,
        changed=lambda _: certified.set(),
    )

    def newest() -> Certificate:
        assert holder.current is not None, "there is one before there is a tunnel"
        return holder.current

    async def go() -> None:
        await certified.wait()
        await work(Ends(newest, settings.peer))

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(holder.run(), name="certificate"), tasks.create_task(go(), name="tunnel")]
        await stop.wait()
        for task in running:
            task.cancel()


async def _outside(dialled: int, called: Sequence[int], ends: Ends) -> None:
    outside = Outside(ends)
    callers = [
        await asyncio.start_server(partial(outside.serve_caller, port), "0.0.0.0", port, backlog=512) for port in called
    ]
    log.info("tunnel", callers=list(called), inside=dialled)
    try:
        while True:
            # The listener's own certificate is that of its start: now and then it begins anew, and what is open stays.
            server = await asyncio.start_server(
                outside.serve_inside, "0.0.0.0", dialled, ssl=ends.context(server=True), backlog=512
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RENEW_SECONDS):
                    await asyncio.Event().wait()
            server.close()
    finally:
        for caller in callers:
            caller.close()


async def _inside(outside: tuple[str, int], targets: Mapping[int, tuple[str, int]], spare: int, ends: Ends) -> None:
    log.info("tunnel", outside=outside, targets=dict(targets))
    await Inside(ends, outside, targets, spare).run()
