"""A clock that stands, a trust domain, and signing requests and certificates that nobody honest would make."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509 as raw
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from isthmus.model.identity import TrustDomain
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority


@pytest.fixture(scope="session")
def now() -> datetime:
    return datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def domain() -> TrustDomain:
    return TrustDomain.parse("cluster.local")


@pytest.fixture(scope="session")
def root(domain: TrustDomain, now: datetime) -> x509.Issuer:
    return x509.new_root(domain, now, timedelta(days=3650))


@pytest.fixture(scope="session")
def authority(domain: TrustDomain, now: datetime) -> CertificateAuthority:
    return CertificateAuthority.self_signed(domain, now)


class Forge:
    """Makes what the product refuses to make."""

    @staticmethod
    def request(key: Any, *, uris: list[str]) -> str:
        """A signing request that asks for names."""
        names = raw.SubjectAlternativeName([raw.UniformResourceIdentifier(uri) for uri in uris])
        subject = raw.Name([raw.NameAttribute(raw.NameOID.COMMON_NAME, "admin")])
        builder = raw.CertificateSigningRequestBuilder().subject_name(subject).add_extension(names, critical=False)
        digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM).decode()

    @staticmethod
    def stolen_request(victim: x509.SigningKey, thief: x509.SigningKey) -> str:
        """For the victim's public key, signed with another: proves possession of nothing."""
        honest = raw.load_pem_x509_csr(x509.new_request(victim).encode())
        other = raw.load_pem_x509_csr(x509.new_request(thief).encode())
        # SEQUENCE { what is signed, algorithm, signature }: the victim's first part with the thief's others.
        signed = honest.tbs_certrequest_bytes
        rest = other.public_bytes(serialization.Encoding.DER).partition(other.tbs_certrequest_bytes)[2]
        body = signed + rest
        forged = b"\x30\x81" + bytes((len(body),)) + body
        return raw.load_der_x509_csr(forged).public_bytes(serialization.Encoding.PEM).decode()

    @staticmethod
    def of_unknown_version(request: str) -> str:
        """SEQUENCE { SEQUENCE { INTEGER version: ... with 1 as its value, where only 0 is known."""
        der = bytearray(raw.load_pem_x509_csr(request.encode()).public_bytes(serialization.Encoding.DER))
        der[der.index(b"\x02\x01\x00") + 2] = 1
        return f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.b64encode(der).decode()}\n-----END CERTIFICATE REQUEST-----\n"

    @staticmethod
    def crossed(above: x509.Issuer, authority: x509.Issuer, now: datetime) -> str:
        """A certificate for an authority that exists already, signed by another."""
        builder = (
            raw.CertificateBuilder()
            .subject_name(authority.certificate.subject)
            .issuer_name(above.certificate.subject)
            .public_key(authority.key.public_key())
            .serial_number(raw.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=1))
            .add_extension(raw.BasicConstraints(ca=True, path_length=1), critical=True)
        )
        return x509.certificate_pem(builder.sign(above.key, hashes.SHA256()))

    @staticmethod
    def certificate(issuer: x509.Issuer, now: datetime, *, names: list[raw.GeneralName] | None) -> str:
        """A leaf with whatever names; None for no extension of names at all."""
        key = x509.new_key()
        builder = (
            raw.CertificateBuilder()
            .subject_name(raw.Name([]))
            .issuer_name(issuer.certificate.subject)
            .public_key(key.public_key())
            .serial_number(raw.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=1))
        )
        if names is not None:
            builder = builder.add_extension(raw.SubjectAlternativeName(names), critical=True)
        return x509.certificate_pem(builder.sign(issuer.key, hashes.SHA256()))

    @staticmethod
    def signed(
        issuer: x509.Issuer,
        now: datetime,
        *,
        uris: list[str],
        ca: bool | None = False,
        usages: set[str] | None = frozenset({"digital_signature"}),
        constraint: str = "",
    ) -> x509.Issuer:
        """A certificate, with its key, that says of itself whatever is asked; None leaves an extension out."""
        key = x509.new_key()
        builder = (
            raw.CertificateBuilder()
            .subject_name(raw.Name([raw.NameAttribute(raw.NameOID.COMMON_NAME, "forged")]))
            .issuer_name(issuer.certificate.subject)
            .public_key(key.public_key())
            .serial_number(raw.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(hours=1))
        )
        if uris:
            names = raw.SubjectAlternativeName([raw.UniformResourceIdentifier(uri) for uri in uris])
            builder = builder.add_extension(names, critical=False)
        if ca is not None:
            builder = builder.add_extension(raw.BasicConstraints(ca=ca, path_length=None), critical=True)
        if usages is not None:
            builder = builder.add_extension(raw.KeyUsage(**{name: name in usages for name in _USAGES}), critical=True)
        if constraint:
            permitted = raw.NameConstraints([raw.UniformResourceIdentifier(constraint)], None)
            builder = builder.add_extension(permitted, critical=True)
        return x509.Issuer(builder.sign(issuer.key, hashes.SHA256()), key)


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@pytest.fixture(scope="session")
def forge() -> type[Forge]:
    return Forge
