"""Random identifiers, of objects and of audit events (RFC 9562, version 4). Text from the beginning: nobody looks into them, and a
`uuid.UUID` that is only printed costs eight times as much."""

from __future__ import annotations

import os

_RANDOM = (1 << 128) - 1 ^ (0xF000 << 64) ^ (0xC000 << 48)
_VERSION_4 = 0x4000 << 64 | 0x8000 << 48


def new_uid() -> str:
    digits = f"{int.from_bytes(os.urandom(16)) & _RANDOM | _VERSION_4:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
