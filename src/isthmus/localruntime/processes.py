"""Processes: started inside namespaces, restarted when they die, ended with patience; and every orphan is reaped, because we are PID 1.

No pipes to children: what they print goes to files, so nothing blocks when we are gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field

from isthmus.localruntime.forking import ForkServer
from isthmus.localruntime.programs import Program, command_line

_RESTART_FIRST = 0.1
_RESTART_MAX = 5.0
_STABLE_SECONDS = 10.0


@dataclass(slots=True, eq=False)
class Child:
    """A program that is kept running. `pid` is 0 while it is not."""

    program: Program
    pid: int = 0
    restarts: int = 0
    started_at: float = 0.0
    exit_code: int | None = None
    stopping: bool = False
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while it runs; `ended` is set while it does not."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Processes:
    """All children. `run` must be running for their ends to be noticed, and for the fork server's answers."""

    def __init__(self, fork_server: ForkServer | None = None) -> None:
        self._children: dict[Child, None] = {}
        self._by_pid: dict[int, Child] = {}
        self._exits = asyncio.Event()
        self._fork_server = fork_server
        self._asked: dict[int, Child] = {}
        """Those that the fork server is to fork, by the number of the request."""

    @property
    def children(self) -> list[Child]:
        return list(self._children)

    async def run(self) -> None:
        """Reaps what ends, also what others left behind. Until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._exits.set)
        if self._fork_server is not None:
            loop.add_reader(self._fork_server, self._take_answers)
        while True:
            self._exits.clear()
            self._reap()
            await self._exits.wait()

    def start(self, program: Program) -> Child:
        """Starts it now; one that is forked runs when `started` is set. Raises OSError."""
        child = Child(program)
        self._children[child] = None
        self._spawn(child)
        return child

    async def keep(self, child: Child) -> None:
        """Starts the child again whenever it dies, less eagerly each time. Until it is stopped, or this is cancelled."""
        loop = asyncio.get_running_loop()
        pause = _RESTART_FIRST
        while True:
            await child.ended.wait()
            pause = _RESTART_FIRST if loop.time() - child.started_at > _STABLE_SECONDS else min(pause * 2, _RESTART_MAX)
            await asyncio.sleep(pause)
            if child.stopping:
                return
            child.restarts += 1
            self._spawn(child)

    async def stop(self, child: Child, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL to the whole group when the time is over."""
        child.stopping = True
        if child in self._asked.values():
            await child.started.wait()
        if child.pid:
            _signal(child.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_seconds):
                    await child.ended.wait()
            except TimeoutError:
                pass
            _signal_group(child, signal.SIGKILL)
            if child.pid:
                await child.ended.wait()
        child.ended.set()
        self._children.pop(child, None)

    def _spawn(self, child: Child) -> None:
        child.ended.clear()
        child.exit_code = None
        child.program.log.parent.mkdir(parents=True, exist_ok=True)
        number = self._fork_server.ask(child.program) if self._fork_server is not None else None
        if number is None:
            self._runs(child, _spawned(child.program))
        else:
            self._asked[number] = child

    def _runs(self, child: Child, pid: int) -> None:
        child.pid = pid
        child.started_at = asyncio.get_running_loop().time()
        child.started.set()
        self._by_pid[pid] = child

    def _take_answers(self) -> None:
        """A fork server that is gone leaves its work to us."""
        assert self._fork_server is not None, "it has answered"
        for forked in self._fork_server.answers():
            self._runs(self._asked.pop(forked.number), forked.pid)
        if not self._fork_server.alive:
            asyncio.get_running_loop().remove_reader(self._fork_server)
            self._fork_server = None
            for child in self._asked.values():
                self._runs(child, _spawned(child.program))
            self._asked.clear()

    def _reap(self) -> None:
        """Our children, and orphans. Commands that asyncio runs share our session, and are waited for by asyncio."""
        if self._fork_server is not None:
            # One that has ended already has said before that it runs.
            self._take_answers()
        for pid in list(self._by_pid):
            self._reap_child(pid)
        while (pid := _first_ended()) and (pid in self._by_pid or not _is_a_command(pid)):
            if pid in self._by_pid:
                self._reap_child(pid)
            else:
                os.waitpid(pid, 0)

    def _reap_child(self, pid: int) -> None:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            child = self._by_pid.pop(pid)
            child.pid = 0
            child.started.clear()
            child.exit_code = os.waitstatus_to_exitcode(status)
            child.ended.set()


def _spawned(program: Program) -> int:
    with program.log.open("ab") as log:
        return os.posix_spawn(
            "/usr/bin/env",
            ["env", "--", *command_line(program)],
            dict(program.environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
                *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in program.pass_fds),
            ],
            setsid=True,
        )


def _first_ended() -> int:
    """Any child that has ended and was not waited for yet, ours or one that PID 1 inherited. 0 if there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return found.si_pid if found else 0


def _is_a_command(pid: int) -> bool:
    """Whether asyncio waits for it, or has just done so: one that is nowhere any more was such a one."""
    try:
        return os.getsid(pid) == os.getsid(0)
    except ProcessLookupError:
        return True


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _signal_group(child: Child, number: signal.Signals) -> None:
    """The child leads a session of its own, so its group are its descendants."""
    if child.pid:
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
