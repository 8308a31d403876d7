"""Of which families of addresses a proxy is: 4, 6 or both, IPv4 first. They decide what is captured, and where it listens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

LOOPBACKS = {4: "127.0.0.1", 6: "::1"}
_INTERFACE_ADDRESSES = Path("/proc/net/if_inet6")
_GLOBAL = "00"


def families_of(ips: Sequence[str]) -> tuple[int, ...]:
    """IPv4 where there is no address."""
    return tuple(sorted({6 if ":" in ip else 4 for ip in ips if ip})) or (4,)


def families_here() -> tuple[int, ...]:
    """Of this network namespace: a kernel without IPv6 has no such file."""
    return families_in(_INTERFACE_ADDRESSES.read_text() if _INTERFACE_ADDRESSES.exists() else "")


def families_in(if_inet6: str) -> tuple[int, ...]:
    """As the kernel's /proc/net/if_inet6 says: IPv6, too, where an interface has an address that others may call."""
    found = [words for line in if_inet6.splitlines() if len(words := line.split()) == 6]
    return (4, 6) if any(scope == _GLOBAL and name != "lo" for *_, scope, _, name in found) else (4,)
