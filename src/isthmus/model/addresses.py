"""Addresses and ports as texts that somebody wrote."""

from __future__ import annotations

import ipaddress


def is_ip(text: str) -> bool:
    """Whether it is an IP address, and no host name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_port(text: str) -> bool:
    """Whether it is a port's number, in ASCII digits. It does not raise, however long the text."""
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536
