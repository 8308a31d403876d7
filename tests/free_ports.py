"""Ports for servers that cannot be given a socket: nobody else on this machine takes them before the server does."""

from __future__ import annotations

import os
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
_COUNT = 8000
_kept: list[socket.socket] = []
"""What says that a port is ours, until this process ends: names of unix sockets, which the kernel gives to one process alone."""


def free_port() -> int:
    """Outgoing connections are not given it, and other tests do not find it, whichever process they run in."""
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]
    below = max(int(ephemeral), 1024 + _COUNT)
    # Whoever begins elsewhere seldom meets others.
    offset = len(_kept) + os.getpid() * 37
    for number in range(_COUNT):
        port = below - 1 - (offset + number) % _COUNT
        if _is_ours(port) and _is_free(port):
            return port
    raise AssertionError(f"no port from {below - _COUNT} to {below - 1} is free")


def _is_ours(port: int) -> bool:
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0isthmus test port {port}")
    except OSError:
        name.close()
        return False
    _kept.append(name)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # Connections that are over do not keep servers out.
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
