"""Which certificates are X.509-SVIDs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from isthmus.model.identity import SpiffeId
from isthmus.trust import x509
from isthmus.trust.svid import parse_svid

ALICE = "spiffe://cluster.local/ns/default/sa/alice"


def pem(*issuers: x509.Issuer) -> str:
    return "".join(x509.certificate_pem(issuer.certificate) for issuer in issuers)


def test_what_the_mesh_signs_is_an_svid(root, domain, now):
    between = x509.new_intermediate(root, "east", now, timedelta(days=1))
    leaf = x509.sign_workload(between, x509.new_key().public_key(), SpiffeId.parse(ALICE), now, timedelta(hours=1))

    svid = parse_svid(x509.certificate_pem(leaf) + pem(between))

    assert (svid.identity, svid.leaf, svid.intermediates) == (SpiffeId.parse(ALICE), leaf, (between.certificate,))


@pytest.mark.parametrize(
    ("leaf", "rule"),
    [
        ({"uris": []}, "no URI SAN"),
        ({"uris": [ALICE, ALICE]}, "2 URI SANs"),
        ({"uris": ["https://cluster.local/alice"]}, "scheme"),
        ({"uris": ["spiffe://cluster.local"]}, "names a trust domain"),
        ({"ca": True}, "CA flag"),
        ({"usages": None}, "digitalSignature"),
        ({"usages": {"key_agreement"}}, "digitalSignature"),
        ({"usages": {"digital_signature", "key_cert_sign"}}, "keyCertSign"),
        ({"usages": {"digital_signature", "crl_sign"}}, "cRLSign"),
    ],
)
def test_a_leaf_that_breaks_a_rule_names_nobody(root, now, forge, leaf, rule):
    forged = forge.signed(root, now, **{"uris": [ALICE], **leaf})

    with pytest.raises(x509.BadCertificate, match=rule):
        parse_svid(pem(forged))


@pytest.mark.parametrize(
    ("between", "rule"),
    [
        ({"ca": False, "usages": {"key_cert_sign"}}, "intermediate 1 does not have the CA flag"),
        ({"ca": None, "usages": {"key_cert_sign"}}, "intermediate 1 does not have the CA flag"),
        ({"ca": True, "usages": {"digital_signature"}}, "intermediate 1 does not have 'keyCertSign'"),
        ({"ca": True, "usages": None}, "intermediate 1 does not have 'keyCertSign'"),
    ],
)
def test_an_intermediate_that_may_not_sign_spoils_the_chain(root, now, forge, between, rule):
    intermediate = forge.signed(root, now, uris=[], **between)
    leaf = forge.signed(intermediate, now, uris=[ALICE])

    with pytest.raises(x509.BadCertificate, match=rule):
        parse_svid(pem(leaf, intermediate))


@pytest.mark.parametrize("chain", ["", "hello", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_said_to_be_malformed(chain):
    with pytest.raises(x509.BadCertificate, match="the chain is malformed"):
        parse_svid(chain)
