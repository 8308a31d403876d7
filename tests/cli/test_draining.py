"""What is shown of drains: those that are not over, how far each is, and who follows it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from isthmus.cli.draining import drained

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def entry(since: datetime, until: datetime) -> str:
    return json.dumps({"since": since.isoformat(), "until": until.isoformat(), "overSeconds": 10})


@pytest.mark.parametrize(
    ("seconds", "percent"),
    [(0, 90), (5, 40), (60, 0), (3600, 10), (3605, 60)],
    ids=["begins", "half", "away", "returns", "half-back"],
)
def test_how_far_a_drain_is(seconds, percent):
    told = {"west": entry(NOON, NOON + HOUR)}

    [row] = drained({"east": told, "west": told}, NOON + timedelta(seconds=seconds))

    assert row == {
        "cluster": "west",
        "percent": percent,
        "until": "2026-01-02T13:00:00+00:00",
        "wrong": "",
        "told": ["east", "west"],
        "notTold": [],
    }


def test_one_that_is_over_is_none():
    assert drained({"east": {"west": entry(NOON, NOON + HOUR)}}, NOON + 2 * HOUR) == []


def test_who_was_not_told_or_told_something_else_is_named():
    """One control plane that was away when the drain was written sends traffic there all the same."""
    first, second = entry(NOON, NOON + HOUR), entry(NOON, NOON + 2 * HOUR)

    found = drained({"east": {"west": first}, "west": {"west": second}, "center": {}}, NOON + timedelta(minutes=1))

    assert [(row["until"][11:16], row["told"], row["notTold"]) for row in found] == [
        ("13:00", ["east"], ["west", "center"]),
        ("14:00", ["west"], ["east", "center"]),
    ]


def test_an_entry_that_cannot_be_read_drains_nothing_and_is_shown():
    [row] = drained({"east": {"west": "soon"}}, NOON)

    assert (row["percent"], row["until"]) == (100, "")
    assert "JSON is malformed" in row["wrong"]
