"""What is believed as an endpoint is asked again and again: hints, sequences, failures, restarts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.bundles import BundleEndpoint, Profile
from isthmus.model.identity import TrustDomain
from isthmus.trust import federation, x509
from isthmus.trust.federation import Followed, NotFetched, Refusal, State, answered, began, failed, resumed, withdrawn
from isthmus.trust.spiffe_bundle import SpiffeBundle, parse_json_bundle, render_json_bundle

PARTNER = TrustDomain.parse("partner.example")
ENDPOINT = BundleEndpoint.parse(PARTNER, "https://partner.example/", "https_web", "")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOTS = [x509.new_root(PARTNER, NOW, timedelta(days=30)).certificate for _ in range(3)]
REFUSED = NotFetched("fetch it: no answer", Refusal.TIMEOUT)


def bundle(*roots: int, sequence: int | None = 1, hint: int | None = 60) -> SpiffeBundle:
    authorities = tuple(ROOTS[root] for root in roots)
    return SpiffeBundle(
        trust_domain=PARTNER, x509_authorities=authorities, sequence=sequence, refresh_hint_seconds=hint
    )


def after(*steps: SpiffeBundle | NotFetched, apart: timedelta = timedelta(minutes=1)) -> Followed:
    """What is known after these answers, each some time after the one before."""
    known, now = began(ENDPOINT, "", NOW), NOW
    for step in steps:
        known = answered(known, step, now) if isinstance(step, SpiffeBundle) else failed(known, step, now)
        now += apart
    return known


@pytest.mark.parametrize(
    ("hint", "seconds"), [(60, 60), (None, 300), (0, 300), (1, 10), (10**9, 86400), (10**30, 86400)]
)
def test_the_hint_is_honoured_within_bounds(hint: int | None, seconds: int) -> None:
    assert after(bundle(0, hint=hint)).next_at == NOW + timedelta(seconds=seconds)


def test_the_last_good_bundle_goes_on_with_its_age_and_is_asked_for_soon_then_less_often() -> None:
    known = after(bundle(0, hint=3600))
    waits = []
    for _ in range(12):
        known = failed(known, REFUSED, NOW + timedelta(hours=1))
        waits.append((known.next_at - NOW - timedelta(hours=1)).total_seconds())

    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert (known.state, known.fetched_at, known.failing_since) == (State.STALE, NOW, NOW + timedelta(hours=1))
    assert known.authorities == after(bundle(0)).authorities
    assert (known.refusal, known.problem) == ("timeout", "fetch it: no answer")


def test_a_failure_does_not_make_the_next_attempt_later_than_the_hint() -> None:
    assert after(bundle(0, hint=10), *[REFUSED] * 9).next_at == NOW + timedelta(minutes=9, seconds=10)


def test_it_is_current_again_once_it_answers() -> None:
    known = after(bundle(0), REFUSED, bundle(0))

    assert (known.state, known.failures, known.failing_since, known.problem) == (State.CURRENT, 0, None, "")


def test_before_the_first_answer_it_is_pending() -> None:
    assert (after().state, after(REFUSED).state) == (State.PENDING, State.PENDING)


def test_an_older_bundle_is_not_taken() -> None:
    known = after(bundle(0, sequence=5), bundle(1, sequence=3))

    assert (known.state, known.refusal, known.sequence) == (State.STALE, "sequence-went-back", 5)
    assert known.authorities == after(bundle(0)).authorities
    assert "went back from 5 to 3" in known.problem


def test_one_of_several_servers_that_lags_with_the_same_authorities_does_no_harm() -> None:
    known = after(bundle(0, sequence=5), bundle(0, sequence=4))

    assert (known.state, known.sequence) == (State.CURRENT, 5)
    assert known.warnings == ("the same authorities under an older sequence: 4 after 5",)


def test_what_is_odd_about_a_bundle_is_said_and_it_is_taken() -> None:
    assert after(bundle(0), bundle(1)).warnings == ("other authorities under the same sequence, 1",)
    assert after(bundle(0), bundle(0, sequence=None)).warnings == ("no sequence any longer; it was 1",)
    assert after(bundle(0), bundle(0)).warnings == ()
    expired = answered(began(ENDPOINT, "", NOW), bundle(0, 1), NOW + timedelta(days=31))
    assert expired.warnings == ("2 of 2 authorities have expired",)


def test_authorities_that_are_gone_are_named_and_an_empty_bundle_says_that_nobody_vouches() -> None:
    before, now = after(bundle(0, 1)), after(bundle(0, 1), bundle(sequence=2))

    assert withdrawn(before, now) == ["CN=Root CA,O=partner.example"] * 2
    assert (now.authorities, now.state) == ((), State.CURRENT)
    assert now.warnings == ("no authority: nobody of this trust domain is believed",)


def kept(known: Followed) -> str:
    return msgspec.json.encode(federation.record_of(known)).decode()


def test_after_a_restart_everything_goes_on_as_it_was_and_is_asked_at_once() -> None:
    known = after(bundle(0, 1, sequence=7), REFUSED)
    later = NOW + timedelta(days=2)

    again = resumed(ENDPOINT, "", kept(known), later)

    assert again == replace(known, next_at=later, failures=0)
    assert answered(again, bundle(0, sequence=6), later).refusal == "sequence-went-back", "also across the restart"


def test_a_new_address_of_the_same_trust_domain_goes_on_with_what_is_known() -> None:
    moved = BundleEndpoint.parse(PARTNER, "https://elsewhere.example/", "https_web", "")

    again = resumed(moved, "", kept(after(bundle(0))), NOW)

    assert (again.endpoint, again.authorities) == (moved, after(bundle(0)).authorities)


def test_a_bundle_that_is_handed_over_anew_begins_everything_anew() -> None:
    assert resumed(ENDPOINT, "other", kept(after(bundle(0, sequence=9))), NOW) == began(ENDPOINT, "other", NOW)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "current"}', '{"trustDomain": "x"}'])
def test_a_torn_record_is_as_none(text: str) -> None:
    assert resumed(ENDPOINT, "", text, NOW) == began(ENDPOINT, "", NOW)


@pytest.mark.parametrize(
    ("url", "profile", "identity", "said"),
    [
        ("http://a.example/", "https_web", "", "scheme has to be https"),
        ("https://user:word@a.example/", "https_web", "", "user name or a password"),
        ("https://a.example/", "https_odd", "", "neither https_web nor https_spiffe"),
        ("https://a.example/", "https_spiffe", "", "needs the identity"),
        ("https://a.example/", "https_web", "spiffe://a.example/x", "is for the profile https_spiffe"),
        ("https://a.example/", "https_spiffe", "a.example", "not a SPIFFE ID"),
    ],
)
def test_an_endpoint_is_described_as_its_profile_wants(url: str, profile: str, identity: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BundleEndpoint.parse(PARTNER, url, profile, identity)


def test_an_endpoint_may_be_of_another_trust_domain_than_its_bundle() -> None:
    found = BundleEndpoint.parse(PARTNER, "https://a.example/", "https_spiffe", "spiffe://hub.example/bundles")

    assert (found.profile, found.vouching) == (Profile.SPIFFE, TrustDomain.parse("hub.example"))
    trusted = [(TrustDomain.parse("hub.example"), x509.to_der(x509.certificate_pem(ROOTS[0]))), (PARTNER, [])]
    assert federation.vouching(found, trusted, [], TrustDomain.parse("cluster.local")) == [
        x509.certificate_pem(ROOTS[0])
    ]


AUTHORITIES = [x509.new_root(PARTNER, NOW, timedelta(days=30)).certificate for _ in range(4)]
NUMBERS = st.none() | st.integers(min_value=0, max_value=2**63 - 1)


@given(st.lists(st.sampled_from(AUTHORITIES), unique=True), NUMBERS, NUMBERS)
def test_what_is_published_is_what_is_read(found: list, sequence: int | None, hint: int | None) -> None:
    text = render_json_bundle(found, sequence=sequence, refresh_hint_seconds=hint)

    read = parse_json_bundle(PARTNER, text.encode())

    assert (list(read.x509_authorities), read.sequence, read.refresh_hint_seconds, read.ignored) == (
        found,
        sequence,
        hint,
        (),
    )


STEPS = st.lists(st.none() | st.tuples(st.sets(st.integers(0, 2)), st.none() | st.integers(0, 5)), max_size=12)


@given(STEPS)
def test_whatever_happens_no_older_bundle_takes_the_place_of_a_newer_one(steps: list) -> None:
    known = began(ENDPOINT, "", NOW)
    for step in steps:
        before = known
        if step is None:
            known = failed(known, REFUSED, NOW)
            assert known.authorities == before.authorities
            continue
        roots, sequence = step
        given_ = bundle(*sorted(roots), sequence=sequence)
        known = answered(known, given_, NOW)
        older = before.sequence is not None and sequence is not None and sequence < before.sequence
        taken = tuple(sorted(x509.to_der("".join(given_.x509_authorities_pem)))) if roots else ()
        assert known.authorities == (before.authorities if older else taken)
        assert not (older and known.sequence != before.sequence)
