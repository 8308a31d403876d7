"""The fork server: a process that has imported what Isthmus's own programs need, and becomes one of them by forking.

Importing costs each of them a second or two of CPU and tens of megabytes, and these are the same for all. Here they are paid once. It is forked
from PID 1 itself, as soon as that has imported what it needs, and imports the rest. A program that it forks is a child of PID 1, as one that
PID 1 starts; it says which number it has before it does anything else. There is one thread here and no event loop: whatever is made here,
each program would have, too.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import os
import runpy
import select
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from isthmus.agent import namespaces

_IMPORTED_FOR = (
    ("apiserver", ("isthmus.cli.processes", "isthmus.apiserver.process", "uvloop")),
    ("agent", ("isthmus.agent.process", "grpc.aio")),
    ("control-plane", ("isthmus.controlplane.process",)),
)
"""In the order in which a mesh that boots needs them."""

_REQUEST_BYTES = 1 << 17
_REQUEST_FDS = 16
_OUT_OF_THE_WAY = 512
"""Inherited descriptors wait above this number until those below are free."""

_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_ARGUMENTS_BEGIN, _ARGUMENTS_END = 45, 46
"""Of what follows the name in /proc/PID/stat: proc_pid_stat(5)."""

_libc = ctypes.CDLL(None, use_errno=True)


class Request(msgspec.Struct, frozen=True):
    """A program to become: `python -m MODULE ARGUMENTS`. Its inherited descriptors, sent beside, get the numbers `fds`."""

    number: int
    module: str
    arguments: list[str]
    log: str
    environment: dict[str, str]
    net_namespace: str
    resolv_conf: str
    fds: list[int]


class Forked(msgspec.Struct, frozen=True):
    """The answer: the process that a request has become."""

    number: int
    pid: int


def run(connection: socket.socket, shown_as: list[str]) -> None:
    """Forks what is asked for over the socket, until nobody asks any more. Returns in the server alone; a forked program exits."""
    os.setsid()
    os.closerange(3, connection.fileno())
    os.closerange(connection.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    _be_shown_as(shown_as)
    found = _serve(connection)
    if found is not None:
        _become(*found)
        sys.exit()


def _serve(connection: socket.socket) -> tuple[Request, list[int]] | None:
    """In each forked process: what it is to be, with its descriptors. In the server, None when there is nobody any more who asks."""
    importing, waiting = list(_IMPORTED_FOR), list[tuple[Request, list[int]]]()
    while True:
        if not importing or select.select([connection], [], [], 0)[0]:
            body, descriptors, _, _ = socket.recv_fds(connection, _REQUEST_BYTES, _REQUEST_FDS)
            if not body:
                return None
            waiting.append((msgspec.json.decode(body, type=Request), descriptors))
        else:
            _import_all(importing.pop(0)[1])
        later = {name for name, _ in importing}
        now = [asked for asked in waiting if not later.intersection(asked[0].arguments[:1])]
        for request, descriptors in now:
            if _forks():
                connection.send(msgspec.json.encode(Forked(request.number, os.getpid())))
                connection.close()
                return request, descriptors
            for descriptor in descriptors:
                os.close(descriptor)
        waiting = [asked for asked in waiting if asked not in now]


def _import_all(modules: Iterable[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    gc.freeze()


def _forks() -> bool:
    """True in the new process, once it is PID 1's child: its parent ends at once."""
    forked = os.fork()
    if forked:
        os.waitpid(forked, 0)
        return False
    between = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == between:
        # PID 1 could not wait for it yet.
        os.sched_yield()
    os.setsid()
    return True


def _become(request: Request, descriptors: list[int]) -> None:
    """Enters the program's places, and runs it. What goes wrong is in its log."""
    _open_standard_streams(request.log)
    _give_numbers(descriptors, request.fds)
    os.environ.clear()
    os.environ.update(request.environment)
    if request.net_namespace:
        namespaces.enter(f"/run/netns/{request.net_namespace}")
    if request.resolv_conf:
        _lay_over(os.path.realpath("/etc/resolv.conf"), request.resolv_conf)
    sys.argv = [request.module, *request.arguments]
    _be_shown_as(["isthmus", *request.arguments])
    gc.enable()
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


def _open_standard_streams(log: str) -> None:
    for path, flags, numbers in (
        (os.devnull, os.O_RDONLY, (0,)),
        (log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, (1, 2)),
    ):
        opened = os.open(path, flags, 0o666)
        for number in numbers:
            os.dup2(opened, number)
        os.close(opened)


def _give_numbers(descriptors: list[int], wanted: list[int]) -> None:
    """One may have the number that another one wants, so all go out of the way first."""
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, number in zip(moved, wanted, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _lay_over(path: str, other: str) -> None:
    """For this process alone, in a mount namespace of its own. Raises OSError."""
    _tried("have mounts of its own", _libc.unshare(_CLONE_NEWNS))
    _tried("keep its mounts to itself", _libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    _tried(f"lay {other} over {path}", _libc.mount(os.fsencode(other), os.fsencode(path), None, _MS_BIND, None))


def _tried(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot {what}: {os.strerror(number)}")


def _be_shown_as(command: list[str]) -> None:
    """In lists of processes, instead of the fork server's own command line: written over that, as far as there is room."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[_ARGUMENTS_BEGIN]), int(fields[_ARGUMENTS_END])
    text = b"\0".join(map(os.fsencode, command))[: end - begin - 1]
    ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)
