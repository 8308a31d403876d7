"""Which family of addresses one belongs to."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

NONE = 0
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}")
"""Most addresses, in a tenth of the time that it takes to parse one."""


@lru_cache(maxsize=512)
def family_of(address: str) -> int:
    """4 or 6; NONE for what is no IP address."""
    if _IPV4.fullmatch(address):
        return 4
    try:
        return ipaddress.ip_address(address).version
    except ValueError:
        return NONE
