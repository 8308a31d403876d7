"""How loudly an agent says that no control plane answers."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from isthmus.agent.answers import SILENT_SECONDS, FirstAnswer, explained


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def failed(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "10.0.0.1:15012: connection refused")


NOBODY_THERE = failed(grpc.StatusCode.UNAVAILABLE)


def said(first: FirstAnswer, error: Exception) -> list[str]:
    with capture_logs() as logs:
        first.missing(error, token="/a/file")
    return [f"{each['log_level']}: {each['event']}" for each in logs]


def test_a_control_plane_that_starts_later_is_waited_for_silently_and_then_aloud():
    clock = Clock()
    first = FirstAnswer("certificate", clock)

    early = said(first, NOBODY_THERE)
    clock.now += SILENT_SECONDS - 1
    still_early = said(first, NOBODY_THERE)
    clock.now += 1
    with capture_logs() as late:
        first.missing(NOBODY_THERE, token="/a/file")

    assert early == still_early == []
    assert late == [
        {
            "log_level": "warning",
            "event": "no certificate: no control plane has answered yet",
            "seconds": 15,
            "error": explained(NOBODY_THERE),
            "token": "/a/file",
        }
    ]


def test_one_that_has_answered_once_is_missed_at_once():
    first = FirstAnswer("certificate", Clock())
    assert said(first, NOBODY_THERE) == []

    first.came()

    assert said(first, NOBODY_THERE) == ["warning: no certificate"]


@pytest.mark.parametrize("refusal", [failed(grpc.StatusCode.UNAUTHENTICATED), ValueError("holds no token")])
def test_who_is_refused_says_so_at_once(refusal):
    assert said(FirstAnswer("certificate", Clock()), refusal) == ["warning: no certificate"]
