"""The two processes of a tunnel. Their certificates are asked for as any workload's, and renewed while connections are open.

Nobody tells them which authorities are trusted, as agents of proxies are told. What they go by is the file of roots: where it changes, and where
the other end does not accept the certificate, there is a new one at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Before gRPC is imported: its fork handlers have lost children's output (measured), and nothing here forks.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import structlog
import uvloop

from isthmus.agent.certificates import Certificate, CertificateHolder, ControlPlanes
from isthmus.agent.roots_file import follow_roots
from isthmus.agent.tunnel import Account, Ends, Inside, Outside
from isthmus.kubernetes.doors import open_door
from isthmus.model.identity import TrustDomain
from isthmus.trust import x509

Work = Callable[[Ends, asyncio.Event], Coroutine[Any, Any, None]]
"""What an end does with its certificate; the event is set with each new one."""

_REFUSED_SECONDS = 10.0
"""How often a certificate is asked for anew at most because the other end accepts none."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelSettings:
    """Of either end. `control_planes` are host:port of token ports."""

    cluster: str
    trust_domain: TrustDomain
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


def _run(settings: TunnelSettings, work: Work) -> int:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_terminated(settings, work))
    return 0


async def _until_terminated(settings: TunnelSettings, work: Work) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keep(settings, work), name="tunnel")
        await stop.wait()
        running.cancel()


async def keep(settings: TunnelSettings, work: Work) -> None:
    """One end, with its certificate. `work` is told of each new one. Until cancelled."""
    renewed, loop = asyncio.Event(), asyncio.get_running_loop()
    asked_at = -_REFUSED_SECONDS
    holder = CertificateHolder(
        ControlPlanes(settings.control_planes, settings.control_plane_name),
        cluster=settings.cluster,
        identity=settings.trust_domain,
        token_file=settings.token_file,
        root_cert_file=settings.roots_file,
        seconds=settings.certificate_seconds,
        changed=lambda _: renewed.set(),
    )

    def newest() -> Certificate:
        assert holder.current is not None, "there is one before there is a tunnel"
        return holder.current

    def refused() -> None:
        nonlocal asked_at
        if loop.time() - asked_at >= _REFUSED_SECONDS:
            asked_at = loop.time()
            holder.renew()

    def other_roots(roots_pem: str) -> None:
        """What came with the certificate is what the other end is judged by."""
        if holder.current is not None and _roots(holder.current.roots_pem) != _roots(roots_pem):
            holder.renew()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(holder.run(), name="certificate")
        tasks.create_task(follow_roots(Path(settings.roots_file), other_roots), name="roots")
        await renewed.wait()
        tasks.create_task(work(Ends(newest, settings.peer, refused), renewed), name="connections")


def _roots(pem: str) -> set[str]:
    return {x509.fingerprint(each) for each in x509.parse_certificates(pem)}


async def _outside(dialled: int, called: Sequence[int], ends: Ends, renewed: asyncio.Event) -> None:
    outside = Outside(ends)
    callers = [
        await asyncio.start_server(partial(outside.serve_caller, port), "0.0.0.0", port, backlog=512) for port in called
    ]
    log.info("tunnel", callers=list(called), inside=dialled)
    try:
        while True:
            renewed.clear()
            # The listener's own certificate and roots are those of its start: it begins anew with each other one, and what is open stays.
            async with open_door(["0.0.0.0"], dialled, outside.inside, tls=ends.context(server=True)):
                await renewed.wait()
    finally:
        for caller in callers:
            caller.close()


async def _inside(
    outside: tuple[str, int], targets: Mapping[int, tuple[str, int]], spare: int, ends: Ends, _: asyncio.Event
) -> None:
    log.info("tunnel", outside=outside, targets=dict(targets))
    await Inside(ends, outside, targets, spare).run()
