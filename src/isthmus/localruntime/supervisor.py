"""The supervisor: PID 1 of the runtime's namespaces. It runs the mesh, and everything ends with it.

Started by `launch`, with the state folder and the listening sockets for the host. It never imports gRPC.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import structlog

from isthmus.localruntime.commands import CommandFailed, run
from isthmus.localruntime.control import ControlServer
from isthmus.localruntime.forking import ForkServer
from isthmus.localruntime.plan import Plan, decode_plan
from isthmus.localruntime.processes import Processes
from isthmus.localruntime.running_mesh import RunningMesh
from isthmus.localruntime.state import StateFolder


async def prepare() -> None:
    """What the new mount namespace needs: a /run of our own, for namespaces' names and for sockets. Raises CommandFailed."""
    resolv = Path("/etc/resolv.conf").resolve()
    await run("mount", "--make-rprivate", "/")
    await run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run")
    if resolv.is_relative_to("/run"):
        # So that each Pod's own can be laid over it.
        resolv.parent.mkdir(parents=True)
        resolv.touch()
    Path("/run/netns").mkdir()


def main(arguments: list[str]) -> int:
    """`FOLDER CLUSTER=FD…`."""
    fork_server = ForkServer(Path(arguments[0]))
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False)
    structlog.configure(
        processors=[structlog.processors.add_log_level, stamp, plain],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    state = StateFolder(Path(arguments[0]))
    plan = decode_plan(state.plan_file.read_bytes())
    fds = {cluster: int(fd) for cluster, _, fd in (argument.partition("=") for argument in arguments[1:])}

    try:
        asyncio.run(_serve(plan, state, fds, fork_server))
    except CommandFailed as error:
        sys.stderr.write(f"isthmus: {error}\n")
        return 1
    return 0


async def _serve(plan: Plan, state: StateFolder, host_fds: dict[str, int], fork_server: ForkServer) -> None:
    await prepare()
    mesh = RunningMesh(plan, state, host_fds, Processes(fork_server))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, mesh.stopping.set)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ControlServer(mesh).run(), name="control socket")
        tasks.create_task(mesh.processes.run(), name="processes")
        tasks.create_task(mesh.run(), name="mesh")
        await mesh.stopping.wait()
        # The end of PID 1 is everybody's: the kernel ends every process here, then the namespaces with all that is in them.
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
