"""What became of the requests of a load."""

from __future__ import annotations

from isthmus.localruntime.load import Outcome, summary


def test_a_summary_counts_who_answered_and_how_long_it_failed():
    outcomes = [
        Outcome(1.0, 0.1, "east", ""),
        Outcome(2.0, 0.5, "", "HTTP 503: no"),
        Outcome(3.0, 1.5, "", "HTTP 503: no"),
        Outcome(3.5, 0.3, "west", ""),
    ]

    found = summary(outcomes)

    assert (found.requests, found.failed, found.failing_seconds, found.slowest_seconds) == (4, 2, 2.5, 0.3)
    assert found.by_cluster == {"east": 1, "west": 1}
    assert "2 failed over 2.50 s" in str(found)


def test_without_failures_nothing_is_said_of_them():
    assert "none failed" in str(summary([Outcome(1.0, 0.1, "east", "")]))
