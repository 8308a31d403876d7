"""What becomes of a cluster's endpoints as what is known of them ages."""

from __future__ import annotations

import pytest

from isthmus.controlplane.staleness import HOLD, StalePolicy
from isthmus.model.topology import Standing

FULL, DEMOTED, WITHDRAWN = Standing.FULL, Standing.DEMOTED, Standing.WITHDRAWN


@pytest.mark.parametrize(
    ("policy", "standings"),
    [
        (HOLD, [FULL, FULL, FULL, FULL]),
        (StalePolicy(demote_after=10), [FULL, DEMOTED, DEMOTED, DEMOTED]),
        (StalePolicy(demote_after=10, withdraw_after=20), [FULL, DEMOTED, WITHDRAWN, WITHDRAWN]),
        (StalePolicy(withdraw_after=20), [FULL, FULL, WITHDRAWN, WITHDRAWN]),
    ],
)
def test_the_standing_falls_with_age(policy, standings):
    assert [policy.standing(age) for age in (9.9, 10, 20, 1e9)] == standings
