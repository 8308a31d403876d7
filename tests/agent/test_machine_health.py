"""How often a machine's application has to answer in one way before the mesh hears of it, and what it hears."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager

import pytest

from isthmus.agent import machine_health
from isthmus.agent.asking import ask
from isthmus.agent.certificates import Credentials
from isthmus.agent.machine_health import Judgement, MachineHealth, Patience
from isthmus.xds.health import HealthReport

GOOD, BAD = HealthReport(healthy=True), HealthReport(healthy=False, message="503: no")


@pytest.mark.parametrize(
    ("probe", "answers", "told"),
    [
        ({}, "+", [GOOD]),
        ({}, "-", [BAD]),
        ({}, "+++", [GOOD, None, None]),
        ({}, "+--+--", [GOOD, None, None, None, None, None]),
        ({}, "+---", [GOOD, None, None, BAD]),
        ({"failureThreshold": 1}, "+-+", [GOOD, BAD, GOOD]),
        ({"successThreshold": 2, "failureThreshold": 1}, "-+-++", [BAD, None, None, None, GOOD]),
    ],
)
def test_what_is_told_of_answers(probe, answers, told):
    judgement = Judgement(Patience.of(probe))

    assert [judgement.learn(is_good=each == "+", message="503: no") for each in answers] == told


def test_what_a_probe_leaves_out_is_as_kubernetes_has_it():
    assert Patience.of({"periodSeconds": 0}) == Patience(
        initial_seconds=0.0, period_seconds=10.0, successes=1, failures=3
    )


@pytest.mark.parametrize(
    ("script", "seconds", "summary"),
    [
        ("print('fine')", 60, "200: fine"),
        ("import sys; print('broken'); sys.exit(3)", 60, "503: exit code 3: broken"),
        ("import time; time.sleep(60)", 0.3, "503: no answer in 0.3 s"),
    ],
)
async def test_a_command_says_by_its_end_how_the_application_is(script, seconds, summary):
    question = {"exec": {"command": [sys.executable, "-S", "-c", script]}, "timeoutSeconds": seconds}

    assert (await ask(question, "127.0.0.1")).summary == summary


async def test_a_command_that_there_is_not_is_an_answer_too():
    answer = await ask({"exec": {"command": ["/no/such/command"]}}, "127.0.0.1")

    assert not answer.is_good
    assert "FileNotFoundError" in answer.summary


async def test_a_question_that_nobody_can_ask_is_an_answer_too():
    answer = await ask({"tcpSocket": {"port": 80}, "timeoutSeconds": "10s"}, "127.0.0.1")

    assert "ValueError" in answer.summary


async def test_what_the_mesh_hears_of_a_machine_until_it_leaves(monkeypatch):
    """Each control plane that is connected to hears the newest; the one that is connected to next hears it again."""
    told: list[HealthReport] = []
    heard, gone = asyncio.Event(), asyncio.Event()

    async def report(channel, node, following, *, metadata):
        assert dict(metadata) == {"authorization": "Bearer token", "clusterid": "east"}
        while True:
            news = asyncio.ensure_future(following())
            ended = asyncio.ensure_future(gone.wait())
            await asyncio.wait((news, ended), return_when=asyncio.FIRST_COMPLETED)
            if gone.is_set():
                news.cancel()
                gone.clear()
                raise ConnectionError("the control plane is gone")
            ended.cancel()
            told.append(news.result())
            heard.set()

    async def hears() -> HealthReport:
        await heard.wait()
        heard.clear()
        return told[-1]

    class Planes:
        @asynccontextmanager
        async def channel(self, roots, certificate):
            yield None

    monkeypatch.setattr(machine_health, "report_health", report)
    monkeypatch.setattr(machine_health, "_BACK_OFF_MAX", 0.05)
    health = MachineHealth(
        {"exec": {"command": [sys.executable, "-S", "-c", ""]}},
        "127.0.0.1",
        Planes(),  # type: ignore[arg-type]
        node={},
        cluster="east",
        root_cert_file="",
        credentials=lambda: Credentials("token"),
    )

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(health.run(), name="health")
        first = await hears()
        gone.set()
        again = await hears()
        health.leave()
        last = await hears()
        running.cancel()

    assert (first, again) == (GOOD, GOOD)
    assert last == HealthReport(healthy=False, message="the machine leaves the mesh")
