"""Whose word counts for whom: two trust domains that know each other's authorities."""

from __future__ import annotations

from datetime import timedelta

import pytest

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.verification import verified_identity

EAST = TrustDomain.parse("east.example")
WEST = TrustDomain.parse("west.example")
ALICE = SpiffeId(EAST, "/ns/default/sa/alice")
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def east(now):
    return x509.new_root(EAST, now, 100 * HOUR)


@pytest.fixture(scope="module")
def west(now):
    return x509.new_root(WEST, now, 100 * HOUR)


@pytest.fixture(scope="module")
def bundles(east, west):
    return {EAST: [east.certificate], WEST: [west.certificate]}


def chain(issuer: x509.Issuer, identity: SpiffeId, now, *above: x509.Issuer) -> str:
    leaf = x509.sign_workload(issuer, x509.new_key().public_key(), identity, now, HOUR)
    return "".join(x509.certificate_pem(found) for found in (leaf, *(issuer.certificate for issuer in above)))


def test_each_trust_domains_authority_vouches_for_its_own(east, west, bundles, now):
    bob = SpiffeId(WEST, "/ns/default/sa/bob")

    assert verified_identity(chain(east, ALICE, now), bundles, now) == ALICE
    assert verified_identity(chain(west, bob, now), bundles, now) == bob


def test_no_authority_vouches_for_another_trust_domain(west, bundles, now):
    forged = chain(west, ALICE, now)

    with pytest.raises(x509.BadCertificate, match="do not vouch"):
        verified_identity(forged, bundles, now)


def test_intermediates_lead_to_the_root(east, bundles, now):
    between = x509.new_intermediate(east, "one", now, 10 * HOUR)

    assert verified_identity(chain(between, ALICE, now, between), bundles, now) == ALICE
    with pytest.raises(x509.BadCertificate, match="do not vouch"):
        verified_identity(chain(between, ALICE, now), bundles, now)


def test_an_intermediate_that_may_sign_leaves_only_signs_no_authority(east, bundles, now):
    between = x509.new_intermediate(east, "one", now, 10 * HOUR)
    beyond = x509.new_intermediate(between, "two", now, 10 * HOUR)

    with pytest.raises(x509.BadCertificate, match="do not vouch"):
        verified_identity(chain(beyond, ALICE, now, beyond, between), bundles, now)


def test_a_workload_cannot_make_workloads(east, bundles, now, forge):
    thief = forge.signed(east, now, uris=[str(ALICE)])
    forged = forge.signed(thief, now, uris=["spiffe://east.example/ns/default/sa/root"])

    with pytest.raises(x509.BadCertificate, match="CA flag"):
        verified_identity("".join(x509.certificate_pem(i.certificate) for i in (forged, thief)), bundles, now)


def test_both_roots_count_while_one_replaces_the_other(east, now):
    newer = x509.new_root(EAST, now, 100 * HOUR)
    both = {EAST: [east.certificate, newer.certificate]}

    assert {verified_identity(chain(root, ALICE, now), both, now) for root in (east, newer)} == {ALICE}
    with pytest.raises(x509.BadCertificate, match="do not vouch"):
        verified_identity(chain(east, ALICE, now), {EAST: [newer.certificate]}, now)


@pytest.mark.parametrize("away", [-HOUR, HOUR + timedelta(seconds=1)])
def test_a_certificate_counts_in_its_time_only(east, bundles, now, away):
    with pytest.raises(x509.BadCertificate, match="not valid at validation time"):
        verified_identity(chain(east, ALICE, now), bundles, now + away)


def test_a_root_counts_in_its_time_only(east, bundles, now, forge):
    old = x509.new_root(EAST, now - 50 * HOUR, HOUR)
    # Signed with the expired root's key, by one who does not shorten the leaf's life to it.
    leaf = forge.signed(old, now, uris=[str(ALICE)])

    with pytest.raises(x509.BadCertificate, match="not valid at validation time"):
        verified_identity(x509.certificate_pem(leaf.certificate), {EAST: [old.certificate]}, now)


@pytest.mark.parametrize("known", [{}, {EAST: []}, {WEST: "west"}])
def test_a_trust_domain_without_authorities_has_nobody(east, bundles, now, known):
    given = {domain: bundles[domain] if certificates else [] for domain, certificates in known.items()}

    with pytest.raises(x509.BadCertificate, match=r"no authority for trust domain east\.example"):
        verified_identity(chain(east, ALICE, now), given, now)


def test_a_leaf_in_the_bundle_is_not_its_own_authority(east, now, forge):
    leaf = forge.signed(east, now, uris=[str(ALICE)])

    with pytest.raises(x509.BadCertificate, match="may not sign"):
        verified_identity(x509.certificate_pem(leaf.certificate), {EAST: [leaf.certificate]}, now)


def test_a_root_without_key_usage_is_an_anchor_but_one_for_other_uses_is_not(east, now, forge):
    bare = forge.signed(east, now, uris=[], ca=True, usages=None)
    other = forge.signed(east, now, uris=[], ca=True, usages={"digital_signature"})

    assert verified_identity(chain(bare, ALICE, now), {EAST: [bare.certificate]}, now) == ALICE
    with pytest.raises(x509.BadCertificate, match="do not vouch"):
        verified_identity(chain(other, ALICE, now), {EAST: [other.certificate]}, now)


def test_a_constraint_that_is_not_understood_is_not_passed_over(east, now, forge):
    """X509-SVID section 4.2: libraries that know no URI constraints refuse such chains."""
    bound = forge.signed(east, now, uris=[], ca=True, usages={"key_cert_sign"}, constraint="west.example")

    with pytest.raises(x509.BadCertificate, match="do not vouch"):
        verified_identity(chain(bound, ALICE, now), {EAST: [bound.certificate]}, now)
