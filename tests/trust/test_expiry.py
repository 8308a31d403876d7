"""Until when certificates are good: what each is, which ends first, and what is alarming."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from revocation_lists import revoking

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.expiry import Horizon, Kind, alarming, nearest_first, of_certificates, of_revocations, unreadable

DAY = timedelta(days=1)


def horizon(name: str, ends: datetime | None, kind: Kind = Kind.TOKEN) -> Horizon:
    return Horizon(cluster="east", kind=kind, name=name, where="here", ends=ends)


def test_each_certificate_of_a_chain_is_told_for_what_it_is(root: x509.Issuer, now: datetime) -> None:
    issuer = x509.new_intermediate(root, "east", now, 100 * DAY)
    identity = SpiffeId.parse("spiffe://cluster.local/ns/sample/sa/client")
    workload = x509.sign_workload(issuer, x509.new_key().public_key(), identity, now, DAY)
    server = x509.sign_server(issuer, x509.new_key().public_key(), ["istiod.istio-system.svc"], now, 10 * DAY)
    chain = "".join(map(x509.certificate_pem, (workload, server, issuer.certificate, root.certificate)))

    found = list(of_certificates("east", "here", chain))

    assert [(each.kind, each.ends - now) for each in found if each.ends] == [
        (Kind.WORKLOAD, DAY),
        (Kind.SERVING, 10 * DAY),
        (Kind.INTERMEDIATE, 100 * DAY),
        (Kind.ROOT, 3650 * DAY),
    ]
    assert [each.name for each in found[:2]] == [str(identity), "istiod.istio-system.svc"]


def test_the_nearest_end_comes_first_and_what_never_ends_last(now: datetime) -> None:
    given = [horizon("never", None), horizon("later", now + DAY), horizon("sooner", now), horizon("sooner", now)]

    rows = nearest_first([*given, unreadable("east", "there", "no certificate can be read")])

    assert [row.name or row.problem for row in rows] == ["no certificate can be read", "sooner", "later", "never"]


@pytest.mark.parametrize(
    ("left", "alarms"), [(-DAY, True), (6 * DAY, True), (7 * DAY, True), (8 * DAY, False), (None, False)]
)
def test_what_ends_by_then_is_alarming(now: datetime, left: timedelta | None, alarms: bool) -> None:
    given = horizon("it", None if left is None else now + left)

    assert alarming([given], now + 7 * DAY) == ([given] if alarms else [])


def test_what_cannot_be_read_is_alarming_and_says_why(now: datetime) -> None:
    found = list(of_certificates("east", "Secret istio-system/cacerts ca-cert.pem", "not a certificate"))

    assert alarming(found, now) == found
    assert found[0].kind is Kind.UNREADABLE
    assert "no certificate can be read" in found[0].problem


def test_a_root_without_other_names_is_called_by_its_subject(root: x509.Issuer) -> None:
    assert x509.called(root.certificate) == f"CN=Root CA,O={TrustDomain.parse('cluster.local')}"


def test_revocation_lists_end_too(root, now):
    pem = revoking(root, now=now, until=timedelta(days=7))

    [found] = of_revocations("east", "here", pem)
    [torn] = of_revocations("east", "here", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----")

    assert (found.kind, found.name, found.ends) == (
        Kind.REVOCATIONS,
        "CN=Root CA,O=cluster.local",
        now + timedelta(days=7),
    )
    assert "cannot be read" in torn.problem
