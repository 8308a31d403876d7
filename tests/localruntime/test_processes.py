"""Real processes: started, restarted, ended, and none unnoticed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from isthmus.localruntime.processes import Processes
from isthmus.localruntime.programs import Program, command_line
from isthmus.localruntime.state import started_at


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    made = Processes()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.run())
        await asyncio.sleep(0)
        yield made
        for child in made.children:
            await made.stop(child, 0)
        running.cancel()


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Program]:
    def make(script: str) -> Program:
        return Program(
            name="a program",
            command=["sh", "-c", script],
            log=tmp_path / "log",
            environment={"PATH": os.environ["PATH"]},
        )

    return make


async def test_what_it_prints_is_in_its_log(processes, program, tmp_path):
    child = processes.start(program("echo hello; exit 3"))

    await child.ended.wait()

    assert child.exit_code == 3
    assert (tmp_path / "log").read_text() == "hello\n"


async def test_many_that_end_at_once_are_all_noticed(processes, program):
    """Also those that end while others are being counted."""
    children = [processes.start(program("exit 7")) for _ in range(60)]

    async with asyncio.timeout(60):
        for child in children:
            await child.ended.wait()

    assert {child.exit_code for child in children} == {7}


async def test_a_command_that_asyncio_has_waited_for_in_between_ends_nothing(monkeypatch, program):
    """Its thread may be quicker than we are: what has just been found to have ended is nowhere any more."""
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    found = iter([gone.pid, 0, 0])
    monkeypatch.setattr("isthmus.localruntime.processes._first_ended", lambda: next(found, 0))
    processes = Processes()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(processes.run())
        child = processes.start(program("exit 3"))
        async with asyncio.timeout(60):
            await child.ended.wait()
        running.cancel()

    assert child.exit_code == 3


async def test_a_killed_program_is_started_again(processes, program):
    child = processes.start(program("exec sleep 60"))
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(processes.keep(child))
        first = child.pid

        os.kill(first, signal.SIGKILL)
        await child.ended.wait()
        async with asyncio.timeout(60):
            await child.started.wait()

        assert child.pid not in (0, first)
        assert child.restarts == 1
        keeping.cancel()


async def test_one_that_ignores_sigterm_is_killed_with_its_children(processes, program, tmp_path):
    child = processes.start(program(f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/inner; echo ready; wait; wait"))
    async with asyncio.timeout(60):
        while "ready" not in (tmp_path / "log").read_text():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
    inner = int((tmp_path / "inner").read_text())

    await processes.stop(child, 0.1)

    assert child.exit_code == -signal.SIGKILL
    async with asyncio.timeout(20):
        while started_at(inner):  # noqa: ASYNC110 - nobody tells us of another's child
            await asyncio.sleep(0.01)


def test_no_process_stays_between_a_program_and_its_namespaces():
    line = command_line(
        Program(
            name="x",
            command=["serve", "--port", "1"],
            log=Path("/log"),
            environment={},
            net_namespace="pod",
            resolv_conf="/r",
        )
    )

    assert line[:2] == ["nsenter", "--net=/run/netns/pod"]
    assert line[-4:] == ["/r", "serve", "--port", "1"]
    assert 'exec "$@"' in line[-5]
