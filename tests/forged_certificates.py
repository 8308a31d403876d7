"""Certificates that no honest authority signs, with their keys: for attacks on whoever asks for a certificate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509 as raw
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from isthmus.trust import x509

HOUR = timedelta(hours=1)
CLIENT, SERVER, CODE = (
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CODE_SIGNING,
)

_SIGNS = raw.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
"""Envoy refuses a leaf that does not say it: to it such a one may sign certificates."""


def forged(
    issuer: x509.Issuer,
    *uris: str,
    begins: timedelta = -HOUR,
    ends: timedelta = HOUR,
    usages: tuple[raw.ObjectIdentifier, ...] = (CLIENT, SERVER),
) -> tuple[str, str]:
    """A leaf (PEM) and its key. `begins` and `ends` are counted from now."""
    key, now = x509.new_key(), datetime.now(UTC)
    builder = (
        raw.CertificateBuilder()
        .subject_name(raw.Name([]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(raw.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(raw.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_SIGNS, critical=True)
        .add_extension(raw.ExtendedKeyUsage(usages), critical=False)
    )
    if uris:
        names = raw.SubjectAlternativeName([raw.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=True)
    return x509.certificate_pem(builder.sign(issuer.key, hashes.SHA256())), x509.key_pem(key)
