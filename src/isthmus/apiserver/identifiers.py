"""Identifiers that nobody else has given out: an object's `uid`, an event's `auditID`."""

from __future__ import annotations

import os


def fresh() -> str:
    """A random UUID (RFC 9562, version 4), as text at once: each write needs two."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
