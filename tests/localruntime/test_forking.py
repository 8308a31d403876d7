"""Programs that are forked: they are what they would be if they were started, and whatever happens to the fork server, they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isthmus import __version__

_PID_1 = """
import asyncio, ctypes, json, os, signal, sys
from pathlib import Path
from isthmus.localruntime.forking import ForkServer
from isthmus.localruntime.processes import Processes
from isthmus.localruntime.programs import Program

folder = Path(sys.argv[1])
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
fork_server = ForkServer(folder)
[server] = map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def program(*command, **how):
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH")} | how.pop("environment", {})
    return Program(name="program", command=[sys.executable, *command], log=folder / "log", environment=environment, **how)


def shown(pid):
    return Path(f"/proc/{pid}/cmdline").read_text().split("\\0")


async def within(seconds, event):
    async with asyncio.timeout(seconds):
        await event.wait()


async def main():
    processes = Processes(fork_server)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(processes.run())
        await asyncio.sleep(0)
        try:
            print(json.dumps(await seen(processes, tasks)))
        finally:
            for child in processes.children:
                await processes.stop(child, 0)
            running.cancel()
"""

_RUN = "\nasyncio.run(main())\n"


def seen(tmp_path: Path, body: str) -> Any:
    """What the body of `seen(processes, tasks)` returns, run by a process that takes care of orphans as PID 1 does."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    script = f"{_PID_1}\n\nasync def seen(processes, tasks):\n{lines}{_RUN}"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + (tmp_path / "log").read_text()
    return json.loads(done.stdout)


def test_a_program_has_its_arguments_environment_log_and_exit_code(tmp_path):
    (tmp_path / "told.py").write_text(
        "import os, sys\n"
        "print(sys.argv[1:], __name__, sorted(set(os.environ) - {'PATH', 'PYTHONPATH'}), sys.stdin.read() == '')\n"
        "sys.exit(7)\n"
    )
    found = seen(
        tmp_path,
        """
child = processes.start(program("-m", "told", "one", "two", environment={"NAME": "value"}))
forked = child.pid == 0
await within(60, child.ended)
return [forked, child.exit_code]
""",
    )

    assert found == [True, 7]
    assert (tmp_path / "log").read_text() == "['one', 'two'] __main__ ['NAME'] True\n"


def test_only_what_this_interpreter_would_run_as_it_is_now_is_forked(tmp_path):
    found = seen(
        tmp_path,
        """
others = [program("-c", "pass"), program("-m", "this", environment={"PYTHONHASHSEED": "1"})]
return [processes.start(other).pid != 0 for other in others]
""",
    )

    assert found == [True, True]


def test_it_is_shown_under_its_own_name_and_is_a_child_of_pid_1_in_a_session_of_its_own(tmp_path):
    found = seen(
        tmp_path,
        """
child = processes.start(program("-m", "http.server", "--bind", "127.0.0.1", "0"))
await within(60, child.started)
while shown(child.pid)[1:2] != ["--bind"]:
    await asyncio.sleep(0.01)
stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
return {
    "parent": int(stat[1]) == os.getpid(),
    "session": os.getsid(child.pid) == child.pid,
    "shown": shown(child.pid)[:3],
    "server": shown(server)[:2],
}
""",
    )

    assert found == {
        "parent": True,
        "session": True,
        "shown": ["isthmus", "--bind", "127.0.0.1"],
        "server": ["isthmus", "fork-server"],
    }


def test_it_gets_the_descriptors_that_it_is_told_of_and_no_others(tmp_path):
    found = seen(
        tmp_path,
        """
reading, writing = os.pipe()
other, _ = os.pipe()
child = processes.start(program("-m", "http.server", "--bind", "127.0.0.1", "0", pass_fds=(writing,)))
await within(60, child.started)
while not Path(f"/proc/{child.pid}/fd/{writing}").exists():
    await asyncio.sleep(0.01)
same = os.readlink(f"/proc/{child.pid}/fd/{writing}") == os.readlink(f"/proc/self/fd/{writing}")
links = [os.readlink(entry) for entry in Path(f"/proc/{child.pid}/fd").iterdir()]
return [same, os.readlink(f"/proc/self/fd/{other}") in links]
""",
    )

    assert found == [True, False]


def test_a_killed_one_is_forked_again(tmp_path):
    found = seen(
        tmp_path,
        """
child = processes.start(program("-m", "http.server", "--bind", "127.0.0.1", "0"))
keeping = tasks.create_task(processes.keep(child))
await within(60, child.started)
first = child.pid
os.kill(first, signal.SIGKILL)
await within(60, child.ended)
await within(60, child.started)
keeping.cancel()
return [child.pid not in (0, first), child.restarts]
""",
    )

    assert found == [True, 1]


@pytest.mark.parametrize("asked", ["before", "after"])
def test_without_the_fork_server_programs_are_started_as_others_are(tmp_path, asked):
    kill = 'os.kill(server, signal.SIGKILL)\nchild = processes.start(program("-m", "isthmus.cli.app", "version"))'
    if asked == "before":
        kill = "\n".join(reversed(kill.split("\n")))
    found = seen(tmp_path, f"{kill}\nawait within(60, child.ended)\nreturn child.exit_code")

    assert found == 0
    assert (tmp_path / "log").read_text() == f"{__version__}\n"


def test_one_that_is_stopped_before_it_runs_does_not_run_on(tmp_path):
    found = seen(
        tmp_path,
        """
child = processes.start(program("-m", "http.server", "--bind", "127.0.0.1", "0"))
await processes.stop(child, 0)
return [child.pid, child.exit_code]
""",
    )

    assert found == [0, -15]


def test_what_cannot_be_entered_is_in_its_log(tmp_path):
    found = seen(
        tmp_path,
        """
child = processes.start(program("-m", "isthmus.cli.app", "version", net_namespace="nowhere"))
await within(60, child.ended)
return child.exit_code
""",
    )

    assert found == 1
    assert "/run/netns/nowhere" in (tmp_path / "log").read_text()
