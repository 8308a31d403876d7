"""ForkServer: what PID 1 knows of the fork server, which runs Isthmus's own programs by forking."""

from __future__ import annotations

import gc
import itertools
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from isthmus.localruntime import fork_server
from isthmus.localruntime.fork_server import Forked, Request
from isthmus.localruntime.programs import Program

_ANSWER_BYTES = 1 << 10


class ForkServer:
    """A running one. It ends with PID 1, whose child it is; what it does not do, PID 1 does itself."""

    def __init__(self, folder: Path) -> None:
        """Forks it from this process, which must have neither threads nor an event loop yet. `folder` is the mesh's, for lists of processes.

        Each program that is forked comes out of here, too, with SystemExit.
        """
        self.alive = True
        self._numbers = itertools.count(1)
        self._socket, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Everything that was imported stays; and a page that nobody writes to is one page for all.
        gc.disable()
        gc.freeze()
        if os.fork() == 0:
            self._socket.close()
            fork_server.run(others, ["isthmus", "fork-server", str(folder)])
            os._exit(0)
        gc.enable()
        others.close()
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def ask(self, program: Program) -> int | None:
        """The number under which the answer comes; None if the program is to be started as any other one is."""
        interpreter, *rest = program.command
        if interpreter != sys.executable or rest[:1] != ["-m"] or not _is_as_ours(program.environment):
            return None
        number = next(self._numbers)
        request = Request(
            number=number,
            module=rest[1],
            arguments=list(rest[2:]),
            log=str(program.log),
            environment=dict(program.environment),
            net_namespace=program.net_namespace,
            resolv_conf=program.resolv_conf,
            fds=list(program.pass_fds),
        )
        try:
            socket.send_fds(self._socket, [msgspec.json.encode(request)], program.pass_fds)
        except OSError:
            # It is full of requests, or gone: a program that waits is worse than one that costs more.
            return None
        return number

    def answers(self) -> list[Forked]:
        """What has been forked since it was asked last; whether there will be more says `alive`."""
        found = []
        try:
            while body := self._socket.recv(_ANSWER_BYTES):
                found.append(msgspec.json.decode(body, type=Forked))
            self.alive = False
        except BlockingIOError:
            pass
        except OSError:
            self.alive = False
        return found


def _is_as_ours(environment: Mapping[str, str]) -> bool:
    """Whether what the interpreter reads when it starts is as it was when ours started."""
    return all(os.environ.get(name) == value for name, value in environment.items() if name.startswith("PYTHON"))
