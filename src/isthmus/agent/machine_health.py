"""How a machine's application is: asked again and again, and told to the control plane whenever it is otherwise than before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc.aio
import structlog

from isthmus.agent.answers import FirstAnswer
from isthmus.agent.asking import ask
from isthmus.agent.certificates import ControlPlanes, Credentials
from isthmus.xds.client import report_health
from isthmus.xds.health import HealthReport

_BACK_OFF_FIRST, _BACK_OFF_MAX = 0.1, 2.0
_MESSAGE_MAX = 200

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often it is asked, and how many answers of one kind in a row count."""

    initial_seconds: float = 0.0
    period_seconds: float = 10.0
    successes: int = 1
    failures: int = 3

    @staticmethod
    def of(probe: Mapping[str, Any]) -> Patience:
        """As a WorkloadGroup's probe has it; what is 0 or absent is as by default."""
        return Patience(
            initial_seconds=float(probe.get("initialDelaySeconds") or 0),
            period_seconds=float(probe.get("periodSeconds") or 10),
            successes=int(probe.get("successThreshold") or 1),
            failures=int(probe.get("failureThreshold") or 3),
        )


class Judgement:
    """What the answers until now amount to. No I/O."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._last: bool | None = None
        self._in_a_row = 0
        self.healthy: bool | None = None

    def learn(self, *, is_good: bool, message: str) -> HealthReport | None:
        """What is to be told, if it is otherwise than before. The first answer that is good counts at once, and so does the first that is not."""
        self._in_a_row = self._in_a_row + 1 if is_good == self._last else 1
        self._last = is_good
        enough = self._patience.successes if is_good else self._patience.failures
        if is_good == self.healthy or (self._in_a_row < enough and self.healthy is not None):
            return None
        self.healthy = is_good
        return HealthReport(healthy=is_good, message="" if is_good else message[:_MESSAGE_MAX])


class MachineHealth:
    """`run` until cancelled; `leave` when the machine leaves the mesh."""

    def __init__(
        self,
        probe: Mapping[str, Any],
        ip: str,
        control_planes: ControlPlanes,
        *,
        node: dict[str, Any],
        cluster: str,
        root_cert_file: str,
        credentials: Callable[[], Credentials],
    ) -> None:
        self._probe = probe
        self._ip = ip
        self._control_planes = control_planes
        self._node = node
        self._cluster = cluster
        self._root_cert_file = root_cert_file
        self._credentials = credentials
        self._newest: HealthReport | None = None
        self._news = asyncio.Event()
        self._leaving = False

    def leave(self) -> None:
        """From now on the machine is not healthy, whatever its application says."""
        self._leaving = True
        self._say(HealthReport(healthy=False, message="the machine leaves the mesh"))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(), name="health of the application")
            tasks.create_task(self._report(), name="reports of health")

    async def _watch(self) -> None:
        patience = Patience.of(self._probe)
        judgement = Judgement(patience)
        await asyncio.sleep(patience.initial_seconds)
        while not self._leaving:
            answer = await ask(dict(self._probe), self._ip)
            report = judgement.learn(is_good=answer.is_good, message=answer.summary)
            if report is not None and not self._leaving:
                log.info("health", healthy=report.healthy, message=report.message)
                self._say(report)
            await asyncio.sleep(patience.period_seconds)

    def _say(self, report: HealthReport) -> None:
        self._newest = report
        self._news.set()

    async def _report(self) -> None:
        """The newest is said again to each control plane that is connected to."""
        back_off, first = _BACK_OFF_FIRST, FirstAnswer("stream for health")
        while True:
            began = asyncio.get_running_loop().time()
            try:
                shown = self._credentials()
                if self._newest is not None:
                    self._news.set()
                async with self._control_planes.channel(self._root_cert_file, shown.certificate) as channel:
                    await report_health(channel, self._node, self._next, metadata=shown.metadata(self._cluster))
            except (grpc.aio.AioRpcError, OSError, ValueError) as error:
                first.missing(error)
            lasted = asyncio.get_running_loop().time() - began > _BACK_OFF_MAX
            if lasted:
                first.came()
            back_off = _BACK_OFF_FIRST if lasted else min(back_off * 2, _BACK_OFF_MAX)
            await asyncio.sleep(back_off * random.uniform(0.5, 1.5))

    async def _next(self) -> HealthReport:
        await self._news.wait()
        self._news.clear()
        assert self._newest is not None, "set together with the event"
        return self._newest
