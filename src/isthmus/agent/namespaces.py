"""Sockets inside other network namespaces.

A socket stays in the namespace in which it was made, so a process enters one only for the moment of making it. Entering is a thread's
affair: there must be no other thread that makes sockets meanwhile, and there is none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_SO_MARK = 36
SIDECAR_MARK = 1337

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(net_namespace: str) -> Iterator[None]:
    """The calling thread is in the namespace at this path (empty: stays where it is). Raises OSError."""
    if not net_namespace:
        yield
        return
    with Path("/proc/thread-self/ns/net").open("rb") as own, Path(net_namespace).open("rb") as other:
        _enter(other.fileno(), net_namespace)
        try:
            yield
        finally:
            _enter(own.fileno(), "its own namespace")


def enter(net_namespace: str) -> None:
    """For good, and for all that this process makes from now on. Raises OSError."""
    with Path(net_namespace).open("rb") as other:
        _enter(other.fileno(), net_namespace)


def open_socket(net_namespace: str, kind: int, to: str, *, marked: bool = False) -> socket.socket:
    """A socket in that namespace, of the family of the address that it is for; with the sidecar's mark, capture there leaves it alone."""
    with inside(net_namespace):
        opened = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, kind)
    if marked:
        opened.setsockopt(socket.SOL_SOCKET, _SO_MARK, SIDECAR_MARK)
    return opened


def bound_socket(net_namespace: str, kind: int, address: str, port: int) -> socket.socket:
    """A socket in that namespace, bound (and listening, if a stream socket) on the address."""
    bound = open_socket(net_namespace, kind, address)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setblocking(False)
    try:
        bound.bind((address, port))
        if kind == socket.SOCK_STREAM:
            bound.listen(128)
    except OSError:
        bound.close()
        raise
    return bound


def _enter(descriptor: int, what: str) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter {what}: {os.strerror(number)}")
