"""Which family of addresses one belongs to."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

NONE = 0


@lru_cache(maxsize=2**16)
def family_of(address: str) -> int:
    """4 or 6; NONE for what is no IP address."""
    try:
        return ipaddress.ip_address(address).version
    except ValueError:
        return NONE
