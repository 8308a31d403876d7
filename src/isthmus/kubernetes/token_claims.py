"""What a JSON Web Token (RFC 7519) says of itself. Nothing is verified: whoever is shown it does that."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime

import msgspec

_ACCOUNT = "system:serviceaccount:"


class _Claims(msgspec.Struct, frozen=True):
    exp: float | None = None
    sub: str = ""


def expiry_of(token: str) -> datetime | None:
    """None for one that says nothing of its end."""
    try:
        said = _claims(token).exp
        return None if said is None else datetime.fromtimestamp(said, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def account_of(token: str) -> tuple[str, str] | None:
    """Namespace and name of the service account that it is for; None if it does not say so."""
    subject = _claims(token).sub
    namespace, colon, name = subject.removeprefix(_ACCOUNT).partition(":")
    return (namespace, name) if subject.startswith(_ACCOUNT) and namespace and colon and name else None


def _claims(token: str) -> _Claims:
    parts = token.split(".")
    try:
        body = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)) if len(parts) == 3 else b"{}"
        return msgspec.json.decode(body, type=_Claims)
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        return _Claims()
