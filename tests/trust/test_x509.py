"""What certificates look like, and which ones are refused."""

from __future__ import annotations

import base64
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509 as raw
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from isthmus.model.identity import SpiffeId
from isthmus.trust import x509

HOUR = timedelta(hours=1)
ALICE = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")


def extension(certificate: raw.Certificate, kind: type) -> raw.Extension:
    return certificate.extensions.get_extension_for_class(kind)


def test_a_workloads_certificate_has_exactly_its_identity_and_cannot_sign(root, now):
    leaf = x509.sign_workload(root, x509.new_key().public_key(), ALICE, now, HOUR)

    names = extension(leaf, raw.SubjectAlternativeName)
    assert list(names.value) == [raw.UniformResourceIdentifier(str(ALICE))]
    assert names.critical, "the subject is empty (RFC 5280 section 4.2.1.6)"
    assert not list(leaf.subject)
    assert not extension(leaf, raw.BasicConstraints).value.ca
    usage = extension(leaf, raw.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (True, False, False)
    leaf.verify_directly_issued_by(root.certificate)


def test_a_certificate_is_valid_a_little_earlier_than_now_and_not_beyond_its_issuer(domain, now):
    short = x509.new_root(domain, now, HOUR)

    leaf = x509.sign_workload(short, x509.new_key().public_key(), ALICE, now, 24 * HOUR)
    facts = x509.facts_of(x509.certificate_pem(leaf))

    assert facts.not_before == now - x509.CLOCK_SKEW
    assert facts.not_after == now + HOUR


def test_an_intermediate_signs_leaves_only_and_does_not_outlive_its_root(domain, now):
    root = x509.new_root(domain, now, 24 * HOUR)

    between = x509.new_intermediate(root, "east", now, 1000 * HOUR)

    constraints = extension(between.certificate, raw.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert between.certificate.not_valid_after_utc == now + 24 * HOUR
    assert between.intermediates == (), "the root is not sent along"
    between.certificate.verify_directly_issued_by(root.certificate)


def test_a_serving_certificate_has_dns_names_and_addresses(root, now):
    leaf = x509.sign_server(root, x509.new_key().public_key(), ["istiod.istio-system.svc", "127.0.0.1"], now, HOUR)

    names = extension(leaf, raw.SubjectAlternativeName).value
    assert names.get_values_for_type(raw.DNSName) == ["istiod.istio-system.svc"]
    assert [str(ip) for ip in names.get_values_for_type(raw.IPAddress)] == ["127.0.0.1"]


def test_the_identity_of_a_certificate_is_its_one_uri_name(root, now):
    leaf = x509.sign_workload(root, x509.new_key().public_key(), ALICE, now, HOUR)

    assert x509.identity_of(x509.certificate_pem(leaf)) == ALICE


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (None, "no subject alternative name"),
        ([raw.DNSName("alice")], "0 URI names"),
        ([raw.UniformResourceIdentifier(str(ALICE)), raw.UniformResourceIdentifier("spiffe://x/y")], "2 URI names"),
        ([raw.UniformResourceIdentifier("https://cluster.local/alice")], "scheme is not spiffe://"),
        ([raw.UniformResourceIdentifier("spiffe://cluster.local/ns/../sa/root")], "dot segments"),
    ],
)
def test_a_certificate_without_exactly_one_spiffe_name_is_nobodys(root, now, forge, names, reason):
    pem = forge.certificate(root, now, names=names)

    with pytest.raises(x509.BadCertificate, match=reason):
        x509.identity_of(pem)


def test_the_names_that_a_request_asks_for_are_ignored(authority, now, forge):
    key = x509.new_key()
    request = forge.request(key, uris=["spiffe://cluster.local/ns/kube-system/sa/admin"])

    leaf = authority.sign(request, ALICE, now, HOUR)[0]

    assert x509.identity_of(leaf) == ALICE
    assert not list(x509.parse_certificates(leaf)[0].subject)
    assert x509.matches(x509.parse_certificates(leaf)[0], key)


def test_a_request_for_somebody_elses_key_is_refused(forge):
    stolen = forge.stolen_request(x509.new_key(), x509.new_key())

    with pytest.raises(x509.BadCertificate, match="not signed by its own key"):
        x509.requested_key(stolen)


def test_a_weak_key_is_refused():
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)

    with pytest.raises(x509.BadCertificate, match="1024 bits is too weak"):
        x509.requested_key(x509.new_request(weak))


def test_an_rsa_key_of_usual_size_is_certified():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    assert x509.requested_key(x509.new_request(key)) == key.public_key()


def test_a_request_that_is_too_large_is_not_even_read():
    with pytest.raises(x509.BadCertificate, match="larger than"):
        x509.requested_key(x509.new_request(x509.new_key()) + "\n" * 20_000)


PEM = "-----BEGIN {0}-----\n{1}\n-----END {0}-----\n"


@given(st.one_of(st.text(), st.binary().map(lambda raw: PEM.format("CERTIFICATE REQUEST", raw.hex()))))
@example("\ud800")
@example("")
def test_garbage_is_refused_as_a_request_and_never_breaks_anything(text):
    with pytest.raises(x509.BadCertificate):
        x509.requested_key(text)


@given(st.text())
@example("\ud800")
@example(PEM.format("CERTIFICATE", "AAAA"))
@example(PEM.format("EC PRIVATE KEY", "AAAA"))
def test_garbage_is_refused_as_certificate_and_as_key(text):
    with pytest.raises(x509.BadCertificate):
        x509.parse_certificates(text)
    with pytest.raises(x509.BadCertificate):
        x509.identity_of(text)
    with pytest.raises(x509.BadCertificate):
        x509.parse_key(text)


KEY = x509.new_key()
REQUEST = ssl.PEM_cert_to_DER_cert(x509.new_request(KEY).replace("CERTIFICATE REQUEST", "CERTIFICATE"))
DAY = datetime(2026, 3, 1, tzinfo=UTC)
LEAF = x509.to_der(
    x509.certificate_pem(
        x509.sign_workload(x509.new_root(ALICE.trust_domain, DAY, HOUR), x509.new_key().public_key(), ALICE, DAY, HOUR)
    )
)[0]


def damaged(der: bytes, position: int, value: int, label: str) -> str:
    position %= len(der)
    body = der[:position] + bytes((value,)) + der[position + 1 :]
    return PEM.format(label, base64.b64encode(body).decode())


@settings(max_examples=300)
@given(st.integers(0, 1000), st.integers(0, 255))
def test_a_request_with_any_byte_changed_is_refused_or_still_proves_the_same_key(position, value):
    try:
        found = x509.requested_key(damaged(REQUEST, position, value, "CERTIFICATE REQUEST"))
    except x509.BadCertificate:
        return
    assert found == KEY.public_key()


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=300)
@given(st.integers(0, 1000), st.integers(0, 255))
def test_a_certificate_with_any_byte_changed_has_an_identity_or_is_refused(position, value):
    try:
        x509.identity_of(damaged(LEAF, position, value, "CERTIFICATE"))
    except x509.BadCertificate:
        return


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP192R1()), ed25519.Ed25519PrivateKey.generate()])
def test_a_key_that_envoy_could_not_use_is_refused(forge, key):
    with pytest.raises(x509.BadCertificate, match="use P-256"):
        x509.requested_key(forge.request(key, uris=[str(ALICE)]))


def test_keys_and_certificates_survive_being_written_down(root):
    key = x509.parse_key(x509.key_pem(root.key))
    (certificate,) = x509.parse_certificates(x509.certificate_pem(root.certificate))

    assert certificate == root.certificate
    assert x509.matches(certificate, key)
    assert not x509.matches(certificate, x509.new_key())


def test_a_key_that_is_encrypted_is_refused():
    encrypted = x509.new_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )

    with pytest.raises(x509.BadCertificate, match="cannot be read"):
        x509.parse_key(encrypted.decode())
