"""How much traffic a drained cluster keeps, by the clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.ingest.drains import Drain, asked

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


HOUR = Drain(since=NOON, until=at(3600), over_seconds=10)


@pytest.mark.parametrize(
    ("seconds", "share"),
    [
        (-1, 100),
        (0, 90),
        (0.9, 90),
        (1, 80),
        (8.9, 10),
        (9, 0),
        (3599, 0),
        (3600, 10),
        (3608.9, 90),
        (3609, 100),
        (9999, 100),
    ],
)
def test_it_goes_down_in_steps_and_comes_back_in_steps(seconds, share):
    assert HOUR.share(at(seconds)) == share


def test_a_drain_that_is_ended_on_its_way_down_turns_round_where_it_is():
    ended = Drain(since=NOON, until=at(3), over_seconds=10)

    assert [ended.share(at(seconds)) for seconds in (2, 3, 5, 9)] == [70, 70, 90, 100]


@given(st.floats(-100, 5000), st.floats(0.1, 600))
def test_between_two_steps_nothing_changes(seconds, over):
    drain = Drain(since=NOON, until=at(3600), over_seconds=over)
    now = at(seconds)
    step = drain.next_step(now)

    assert 0 <= drain.share(now) <= 100
    assert drain.share(now if step is None else step - timedelta(microseconds=1)) == drain.share(now)
    if step is None:
        assert drain.share(now) == 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        json.dumps({"since": "2026-11-25T12:00:00", "until": "2026-11-25T13:00:00Z"}),
        json.dumps({"since": "2026-11-25T12:00:00Z", "until": "2026-11-25T11:00:00Z"}),
        json.dumps({"since": "2026-11-25T12:00:00Z", "until": "2026-11-25T13:00:00Z", "share": 3}),
    ],
)
def test_an_entry_that_cannot_be_read_drains_nothing_and_touches_no_other(text):
    good = json.dumps({"since": "2026-11-25T12:00:00Z", "until": "2026-11-25T13:00:00Z"})

    found = asked({"west": text, "east": good})

    assert list(found.drains) == ["east"]
    assert list(found.wrong) == ["west"]
