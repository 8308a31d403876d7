"""Revocation lists as an authority signs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509 as raw
from cryptography.hazmat.primitives import hashes, serialization

from isthmus.trust import x509

_HOUR = timedelta(hours=1)


def revoking(
    issuer: x509.Issuer, *certificates: str | int, now: datetime | None = None, until: timedelta = _HOUR
) -> str:
    """With the first certificate of each text (PEM), or with serial numbers. It is two hours old, and good for an hour from now."""
    now = now or datetime.now(UTC)
    builder = (
        raw.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - 2 * _HOUR)
        .next_update(now + until)
    )
    for each in certificates:
        number = x509.parse_certificates(each)[0].serial_number if isinstance(each, str) else each
        entry = raw.RevokedCertificateBuilder().serial_number(number).revocation_date(now - _HOUR).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
