"""Who is issued what, for how long: the whole table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust.issuance import Grant, Refusal, decide

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DOMAIN = TrustDomain.parse("cluster.local")
ALICE = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")
STRANGER = SpiffeId.parse("spiffe://elsewhere/ns/default/sa/alice")

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
YEAR = timedelta(days=365)


@pytest.mark.parametrize(
    ("caller", "asked", "authority_left", "answer"),
    [
        pytest.param(ALICE, HOUR, YEAR, HOUR, id="what is asked for"),
        pytest.param(ALICE, timedelta(0), YEAR, DAY, id="a day if nothing is asked for"),
        pytest.param(ALICE, -HOUR, YEAR, DAY, id="a day if nonsense is asked for"),
        pytest.param(ALICE, 90 * DAY, YEAR, 90 * DAY, id="ninety days at most"),
        pytest.param(ALICE, 90 * DAY + timedelta(seconds=1), YEAR, "INVALID_ARGUMENT", id="not a second more"),
        pytest.param(ALICE, timedelta(seconds=2**33), YEAR, "INVALID_ARGUMENT", id="nor centuries"),
        pytest.param(ALICE, DAY, HOUR, HOUR, id="no longer than the authority"),
        pytest.param(ALICE, DAY, timedelta(0), "UNAVAILABLE", id="nothing from an authority that has ended"),
        pytest.param(ALICE, DAY, -HOUR, "UNAVAILABLE", id="nothing from one that ended an hour ago"),
        pytest.param(STRANGER, HOUR, YEAR, "UNAUTHENTICATED", id="nothing for another trust domain"),
        pytest.param(STRANGER, YEAR, -HOUR, "UNAUTHENTICATED", id="a stranger learns nothing else"),
    ],
)
def test_a_caller_gets_its_own_identity_for_as_long_as_is_right(caller, asked, authority_left, answer):
    decision = decide(caller, DOMAIN, int(asked.total_seconds()), NOW + authority_left, NOW)

    if isinstance(answer, str):
        assert isinstance(decision, Refusal)
        assert decision.code == answer
    else:
        assert decision == Grant(caller, answer)


@pytest.mark.parametrize("seconds", [2**63 - 1, -(2**63)])
def test_the_extremes_that_the_wire_allows_are_decided_as_well(seconds):
    assert isinstance(decide(ALICE, DOMAIN, seconds, NOW + YEAR, NOW), Refusal | Grant)
