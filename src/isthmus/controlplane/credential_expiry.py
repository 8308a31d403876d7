"""When the credentials in a kubeconfig end, as far as they say so themselves. Nothing is verified: the API server does that."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime

import msgspec

from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.trust.x509 import BadCertificate, facts_of


def expiry_of(address: ApiAddress) -> datetime | None:
    """The first of them to end; None where they do not end, or do not say when."""
    ends = [_token_expiry(address.token), _certificate_expiry(address.client_certificate_pem)]
    return min((end for end in ends if end is not None), default=None)


def _token_expiry(token: str) -> datetime | None:
    """The claim `exp` of a JSON Web Token (RFC 7519); other tokens say nothing."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Claims)
        return None if claims.exp is None else datetime.fromtimestamp(claims.exp, UTC)
    except (binascii.Error, msgspec.MsgspecError, ValueError, OverflowError, OSError):
        return None


class _Claims(msgspec.Struct):
    exp: float | None = None


def _certificate_expiry(pem: str) -> datetime | None:
    if not pem:
        return None
    try:
        return facts_of(pem).not_after
    except BadCertificate:
        return None
