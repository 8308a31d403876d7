"""What a request to an external signer may ask for, and what its certificate must be."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509 as raw
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.model.identity import SpiffeId
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority, ServingCertificate
from isthmus.trust.external import ExternalAuthority, check_request, checked_answer

ALICE = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")
ADMIN = SpiffeId.parse("spiffe://cluster.local/ns/kube-system/sa/admin")
HOUR = timedelta(hours=1)
DAY = 24 * HOUR
NAME = raw.UniformResourceIdentifier(str(ALICE))
CA = raw.BasicConstraints(ca=True, path_length=0)


def usage(**said: bool) -> raw.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return raw.KeyUsage(**{name: said.get(name, False) for name in names})


def request(*extensions: raw.ExtensionType, subject: tuple[raw.NameAttribute, ...] = (), names: tuple = (NAME,)) -> str:
    builder = raw.CertificateSigningRequestBuilder().subject_name(raw.Name(subject))
    for extension in (*([raw.SubjectAlternativeName(names)] if names else []), *extensions):
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(x509.new_key(), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def attribute(oid: raw.ObjectIdentifier, text: str) -> raw.NameAttribute:
    return raw.NameAttribute(oid, text, _validate=False)


@pytest.mark.parametrize(
    "asked",
    [
        x509.new_request(x509.new_key(), [str(ALICE)]),
        request(subject=(attribute(NameOID.ORGANIZATION_NAME, ""),)),
        request(usage(digital_signature=True, key_encipherment=True), raw.BasicConstraints(ca=False, path_length=None)),
        request(raw.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])),
    ],
)
def test_a_request_for_ones_own_identity_and_nothing_else_goes_to_the_signer(asked):
    check_request(asked, ALICE)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (request(names=()), "has to name"),
        (request(names=(raw.UniformResourceIdentifier(str(ADMIN)),)), "nothing else"),
        (request(names=(NAME, raw.UniformResourceIdentifier(str(ADMIN)))), "nothing else"),
        (request(names=(NAME, raw.DNSName("istiod.istio-system.svc"))), "nothing else"),
        (request(names=(NAME, raw.RFC822Name("root@example.com"))), "nothing else"),
        (
            request(names=(raw.UniformResourceIdentifier("spiffe://cluster.local/ns/default/sa/%61lice"),)),
            "nothing else",
        ),
        (request(names=(raw.UniformResourceIdentifier("SPIFFE://cluster.local/ns/default/sa/alice"),)), "nothing else"),
        (request(subject=(attribute(NameOID.COMMON_NAME, "admin"),)), "has a subject"),
        (request(subject=(attribute(NameOID.ORGANIZATION_NAME, "system:masters"),)), "has a subject"),
        (request(CA), "2.5.29.19"),
        (request(usage(digital_signature=True, key_cert_sign=True)), "2.5.29.15"),
        (request(usage(crl_sign=True)), "2.5.29.15"),
        (request(raw.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])), "2.5.29.37"),
        (request(raw.NameConstraints([raw.DNSName("example.com")], None)), "2.5.29.30"),
        (request(raw.UnrecognizedExtension(raw.ObjectIdentifier("1.2.3.4"), b"\x05\x00")), "1.2.3.4"),
        ("no request", "cannot be read"),
    ],
)
def test_a_request_for_anything_more_does_not(asked, why):
    """The signer would put it into the certificate."""
    with pytest.raises(x509.BadCertificate, match=why):
        check_request(asked, ALICE)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (rsa.generate_private_key(public_exponent=65537, key_size=1024), "too weak"),
        (ec.generate_private_key(ec.SECP224R1()), "too weak"),
        (ec.generate_private_key(ec.SECP256K1()), "is not one that proxies know"),
    ],
)
def test_a_weak_or_strange_key_does_not_either(key, why):
    with pytest.raises(x509.BadCertificate, match=why):
        check_request(x509.new_request(key, [str(ALICE)]), ALICE)


def test_a_certificate_of_the_signer_is_given_with_what_is_above_it_and_the_configured_roots(domain, root, now):
    between = x509.new_intermediate(root, "signer", now, DAY)
    authority = CertificateAuthority(between, x509.certificate_pem(root.certificate))
    csr = x509.new_request(x509.new_key(), [str(ALICE)])
    chain = "".join(authority.sign(csr, ALICE, now, HOUR))

    answer = checked_answer(chain, csr, ALICE, authority.root_pem, now, DAY)

    assert x509.identity_of(answer[0]) == ALICE
    assert answer[1:] == [x509.certificate_pem(between.certificate), authority.root_pem]


@pytest.mark.parametrize(
    ("identity", "lifetime", "why"),
    [(ADMIN, HOUR, "was asked for"), (ALICE, 2 * DAY, "is the longest that is allowed")],
)
def test_a_certificate_for_more_than_was_asked_is_not_given_on(authority, now, identity, lifetime, why):
    csr = x509.new_request(x509.new_key())
    chain = authority.sign(csr, identity, now, lifetime)[0]

    with pytest.raises(x509.BadCertificate, match=why):
        checked_answer(chain, csr, ALICE, authority.root_pem, now, DAY)


def test_a_certificate_for_another_key_is_not_given_on(authority, now):
    csr, other = x509.new_request(x509.new_key()), x509.new_request(x509.new_key())
    chain = authority.sign(other, ALICE, now, HOUR)[0]

    with pytest.raises(x509.BadCertificate, match="another key"):
        checked_answer(chain, csr, ALICE, authority.root_pem, now, DAY)


def test_a_root_that_comes_with_the_certificate_vouches_for_nothing(authority, domain, now):
    stranger = CertificateAuthority.self_signed(domain, now)
    csr = x509.new_request(x509.new_key())
    chain = stranger.sign(csr, ALICE, now, HOUR)[0] + stranger.root_pem

    with pytest.raises(x509.BadCertificate, match="do not vouch for it"):
        checked_answer(chain, csr, ALICE, authority.root_pem, now, DAY)


def test_an_external_authority_is_known_by_what_it_shows(domain, root, now):
    between = x509.new_intermediate(root, "signer", now, DAY)
    signing = CertificateAuthority(between, x509.certificate_pem(root.certificate))
    key = x509.new_key()
    *chain, _ = signing.sign(x509.new_request(key), ALICE, now, HOUR)
    own = ServingCertificate(x509.key_pem(key), "".join(chain))
    other = x509.certificate_pem(x509.new_root(domain, now, DAY).certificate)

    found = ExternalAuthority(own, other + signing.root_pem)

    assert found.authority_pem == x509.certificate_pem(between.certificate)
    assert found.root == root.certificate
    assert len(found.roots) == 2
    assert found.serving_certificate(["a"], now) == found.own_certificate(ALICE, now, HOUR) == own
