"""How often a machine's application has to answer in one way before the mesh hears of it."""

from __future__ import annotations

import sys

import pytest

from isthmus.agent.asking import ask
from isthmus.agent.machine_health import Judgement, Patience
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
        ("print('fine')", 5, "200: fine"),
        ("import sys; print('broken'); sys.exit(3)", 5, "503: exit code 3: broken"),
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
