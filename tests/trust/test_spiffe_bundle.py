"""Bundles as trust domains publish them, and documents that only look like it."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.identity import TrustDomain
from isthmus.trust import x509
from isthmus.trust.spiffe_bundle import DOCUMENT_BYTES_MAX, BadBundle, parse_bundle

EAST = TrustDomain.parse("east.example")


def number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8)).rstrip(b"=").decode()


def coordinates(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {"kty": "EC", "crv": f"P-{key.key_size}", "x": number(numbers.x), "y": number(numbers.y)}


def authority(issuer: x509.Issuer, **changes) -> dict:
    der = x509.to_der(x509.certificate_pem(issuer.certificate))[0]
    key = {**coordinates(issuer.key.public_key()), "use": "x509-svid", "x5c": [base64.b64encode(der).decode()]}
    return {**key, **changes}


def signer(name: str, **changes) -> dict:
    return {**coordinates(x509.new_key().public_key()), "use": "jwt-svid", "kid": name, **changes}


def parsed(*keys: dict, **more):
    return parse_bundle(EAST, json.dumps({"keys": keys, **more}).encode())


def test_a_bundle_has_authorities_of_both_kinds_a_sequence_and_a_hint(root, domain, now):
    other = x509.new_root(domain, now, timedelta(days=1))
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    numbers = rsa_key.public_numbers()
    rsa_signer = {"kty": "RSA", "use": "jwt-svid", "kid": "b", "n": number(numbers.n), "e": number(numbers.e)}

    bundle = parsed(
        authority(root), signer("a"), authority(other), rsa_signer, spiffe_sequence=7, spiffe_refresh_hint=300
    )

    assert bundle.trust_domain == EAST
    assert bundle.x509_authorities == (root.certificate, other.certificate)
    assert bundle.x509_authorities_pem == [x509.certificate_pem(i.certificate) for i in (root, other)]
    assert [found.key_id for found in bundle.jwt_authorities] == ["a", "b"]
    assert bundle.jwt_authorities[1].key == rsa_key
    assert (bundle.sequence, bundle.refresh_hint_seconds, bundle.ignored) == (7, 300, ())


def test_the_same_authority_twice_is_one(root):
    assert parsed(authority(root), authority(root)).x509_authorities == (root.certificate,)


def test_a_certificate_needs_no_key_beside_it(root):
    bare = {name: value for name, value in authority(root).items() if name not in ("crv", "x", "y")}

    assert parsed(bare).x509_authorities == (root.certificate,)


def test_no_keys_left_means_that_all_were_revoked():
    assert parsed().x509_authorities == ()


@pytest.mark.parametrize(
    "unknown",
    [
        {"kty": "EC", "use": "wit-svid", "x": 1},
        {"kty": "EC"},
        {"kty": "EC", "use": "JWT-SVID"},
        {"kty": "OKP", "use": "jwt-svid", "x": ["of", "another", "form"]},
        {},
    ],
)
def test_entries_of_unknown_use_or_type_are_left_out_and_said_to_be(root, unknown):
    bundle = parsed(unknown, authority(root))

    assert bundle.x509_authorities == (root.certificate,)
    assert [reason.partition(":")[0] for reason in bundle.ignored] == ["entry 0"]


def test_pem_is_a_bundle_of_certificates_alone(root, domain, now):
    other = x509.new_root(domain, now, timedelta(days=1))
    pem = "".join(x509.certificate_pem(issuer.certificate) for issuer in (root, other, root))

    bundle = parse_bundle(EAST, b"# authorities of the east\n" + pem.encode())

    assert bundle.x509_authorities == (root.certificate, other.certificate)
    assert (bundle.jwt_authorities, bundle.sequence) == ((), None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"x5c": []}, "expected 1 certificate in x509-svid entry 0; got 0"),
        ({"x5c": ["AAAA", "AAAA"]}, "expected 1 certificate in x509-svid entry 0; got 2"),
        ({"x5c": ["AAAA"]}, "x509-svid entry 0 cannot be read"),
        ({"x5c": ["not base64"]}, "x509-svid entry 0 cannot be read"),
        ({"x5c": "AAAA"}, r"cannot decode entry 0: .*x5c"),
        (coordinates(x509.new_key().public_key()), "the certificate is not for the key beside it"),
    ],
)
def test_an_authority_that_cannot_be_used_refuses_the_bundle(root, changes, reason):
    with pytest.raises(BadBundle, match=reason):
        parsed(authority(root, **changes), signer("a"))


def test_a_certificate_that_may_not_sign_is_no_authority(root, now, forge):
    leaf = forge.signed(root, now, uris=["spiffe://east.example/web"])

    with pytest.raises(BadBundle, match="CA flag"):
        parsed(authority(leaf))
    with pytest.raises(BadBundle, match=r"certificate 1: .*CA flag"):
        parse_bundle(EAST, "".join(x509.certificate_pem(i.certificate) for i in (root, leaf)).encode())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kid": ""}, "keyID cannot be empty"),
        ({"kid": "first"}, "'first' stands for another key already"),
        ({"crv": "P-224"}, "curve 'P-224'"),
        ({"x": number(1)}, "jwt-svid entry 1 cannot be read"),
        ({"y": ""}, "a part of the key is missing"),
        ({"y": "+/+/"}, "jwt-svid entry 1 cannot be read"),
        ({"kty": "RSA", "n": number(15), "e": number(3)}, "RSA key of 4 bits is too weak"),
    ],
)
def test_a_signer_that_cannot_be_used_refuses_the_bundle(changes, reason):
    with pytest.raises(BadBundle, match=reason):
        parsed(signer("first"), signer("second", **changes))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "cannot decode"),
        (b"hello", "cannot decode"),
        (b"[]", "cannot decode"),
        (b'{"keys": {}}', "cannot decode"),
        (b'{"keys": ["a"]}', "cannot decode entry 0"),
        (b"{}", "no authorities found"),
        (b'{"keys": null}', "no authorities found"),
        (b'{"keys": [], "spiffe_sequence": "1"}', "spiffe_sequence"),
        (b'{"keys": [], "spiffe_refresh_hint": -1}', "spiffe_refresh_hint"),
        (b'{"keys": []}' + b" " * DOCUMENT_BYTES_MAX, "larger than"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot decode"),
        (b"-----BEGIN CERTIFICATE-----\n\xff", "cannot decode"),
    ],
)
def test_what_is_no_bundle_is_refused_with_the_reason(document, reason):
    with pytest.raises(BadBundle, match=reason):
        parse_bundle(EAST, document)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)))
def test_no_entry_whatever_it_holds_breaks_the_reader(value):
    keys = [
        {"kty": kind, "use": use, "x5c": value, "x": value, "n": value}
        for kind in ("EC", "RSA")
        for use in ("x509-svid", "jwt-svid")
    ]

    for key in keys:
        with pytest.raises(BadBundle):
            parsed(key)
