"""Who may hold a Lease, told by what a candidate has seen of it. No clock is read here."""

from __future__ import annotations

import pytest

from isthmus.kubernetes.leases import Candidate, LeaseTerms

TERMS = LeaseTerms(duration_seconds=15)


def lease(holder: str, renewed: str = "t0", lasts: int = 15, transitions: int = 3) -> dict:
    spec = {
        "holderIdentity": holder,
        "renewTime": renewed,
        "acquireTime": "a",
        "leaseDurationSeconds": lasts,
        "leaseTransitions": transitions,
    }
    return {"metadata": {"name": "l", "resourceVersion": "7"}, "spec": spec}


def test_a_lease_that_nobody_has_made_is_made():
    made = Candidate("a", TERMS).claim(None, 0.0, "now")

    assert made == {
        "spec": {
            "holderIdentity": "a",
            "leaseDurationSeconds": 15,
            "acquireTime": "now",
            "renewTime": "now",
            "leaseTransitions": 0,
        }
    }


def test_the_holder_renews_and_keeps_when_it_began():
    renewed = Candidate("a", TERMS).claim(lease("a"), 0.0, "now")

    assert renewed is not None
    assert renewed["metadata"]["resourceVersion"] == "7", "written onto the version that was read"
    assert renewed["spec"] | {"acquireTime": "a", "leaseTransitions": 3, "renewTime": "now"} == renewed["spec"]


@pytest.mark.parametrize(("waited", "won"), [(0.0, False), (14.9, False), (15.0, True)])
def test_anothers_lease_is_left_alone_for_as_long_as_it_says_counted_from_when_it_was_first_seen_so(waited, won):
    candidate = Candidate("b", TERMS)
    assert candidate.claim(lease("a"), 1000.0, "now") is None

    taken = candidate.claim(lease("a"), 1000.0 + waited, "now")

    assert (taken is not None) is won
    if taken is not None:
        assert (taken["spec"]["holderIdentity"], taken["spec"]["leaseTransitions"]) == ("b", 4)


def test_each_renewal_begins_the_wait_anew():
    candidate = Candidate("b", TERMS)

    assert candidate.claim(lease("a", "t0"), 0.0, "now") is None
    assert candidate.claim(lease("a", "t1"), 14.0, "now") is None
    assert candidate.claim(lease("a", "t1"), 28.0, "now") is None
    assert candidate.claim(lease("a", "t1"), 29.0, "now") is not None


def test_a_lease_that_is_given_back_is_free_at_once():
    given_back = Candidate("a", TERMS).release(lease("a"), "now")

    assert given_back is not None
    assert Candidate("b", TERMS).claim(given_back, 0.0, "now") is not None
    assert Candidate("b", TERMS).release(lease("a"), "now") is None, "nobody gives back what is another's"


def test_a_lease_with_nonsense_in_it_is_still_one():
    strange = {"metadata": {}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": None, "leaseTransitions": None}}

    candidate = Candidate("b", TERMS)
    assert candidate.claim(strange, 0.0, "now") is None
    assert candidate.claim(strange, 15.0, "now") is not None
