"""Keys that tokens are checked with (JSON Web Key Sets). Envoy refuses a whole listener for a set without a usable key, so this is known before."""

from __future__ import annotations

import base64
import binascii
import json

_FIELDS = {"RSA": ("n", "e"), "EC": ("x", "y"), "oct": ("k",), "OKP": ("x",)}
"""What each type of key has to have (RFC 7518, section 6; RFC 8037)."""


def check_keys(text: str) -> None:
    """Raises ValueError, with the reason, where no key of the set can be used."""
    try:
        document = json.loads(text)
    except ValueError:
        raise ValueError("jwks is not a JSON document") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not keys:
        raise ValueError("jwks has no list of keys, or an empty one")
    if not any(_is_usable(key) for key in keys):
        raise ValueError(f"jwks has no key of type {', '.join(_FIELDS)} with all of its fields")


def _is_usable(key: object) -> bool:
    if not isinstance(key, dict) or key.get("kty") not in _FIELDS:
        return False
    return all(_is_encoded(key.get(field)) for field in _FIELDS[key["kty"]])


def _is_encoded(value: object) -> bool:
    if not isinstance(value, str) or not value:
        return False
    try:
        base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return False
    return True
