"""Starts and stops the runtime from the host: prerequisites, the host's ports, the namespaces, and an end that leaves nothing behind."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from isthmus.localruntime.plan import Plan, encode_plan
from isthmus.localruntime.state import Running, StateFolder, root, started_at

_STOP_SECONDS = 15.0
_PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
}


class CannotStart(Exception):
    """A prerequisite that is missing: what, and what to do."""


def start(plan: Plan, topology: Path, *, rootless: bool) -> StateFolder:
    """Starts the runtime in the background, `rootless` inside a user namespace. Its progress is asked over the control socket.

    Raises CannotStart.
    """
    state = StateFolder(root() / plan.name)
    check_prerequisites(state, rootless=rootless)
    if state.running() is not None:
        raise CannotStart(
            f"the mesh {state.name} runs already: look with `isthmus status`, stop it with `isthmus down`"
        )
    plan, listeners = _open_host_ports(plan)
    try:
        _make_room(state)
        state.plan_file.write_bytes(encode_plan(plan))
        _spawn(state, listeners, topology, rootless=rootless)
    except BaseException:
        stop(state)
        raise
    finally:
        for listener in listeners.values():
            listener.close()
    return state


def stop(state: StateFolder) -> None:
    """Ends the runtime, first by asking it, then by force, and removes its folder. For one that is not running, only the latter."""
    running = state.running()
    if running is not None:
        asked = supervisor_of(running)
        if asked:
            os.kill(asked, signal.SIGTERM)
        if not _wait_for_end(running):
            os.kill(running.pid, signal.SIGKILL)
            _wait_for_end(running)
    shutil.rmtree(state.path, ignore_errors=True)


def supervisor_of(running: Running) -> int:
    """The host's number for the runtime's PID 1, which is the only child of the process that made its namespaces. 0 if it has none."""
    try:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    except OSError:
        return 0
    return int(children[0]) if children else 0


def check_prerequisites(state: StateFolder, *, rootless: bool) -> None:
    """Raises CannotStart for the first that is missing."""
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            raise CannotStart(
                f"the program `{program}` is missing: install it, on Debian with `apt-get install {package}`"
            )
    if state.path.resolve().is_relative_to("/run"):
        raise CannotStart(f"the state folder {state.path} is inside /run: set ISTHMUS_STATE to another place")
    if len(bytes(state.control_socket)) > 100:
        raise CannotStart(
            f"the state folder's path {state.path} is too long for a socket: set ISTHMUS_STATE to a shorter one"
        )
    tried = subprocess.run([*_unshare(rootless=rootless), "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise CannotStart(
            f"this machine does not allow namespaces: {tried.stderr.strip()}; run as root, or allow them with "
            "`sysctl kernel.unprivileged_userns_clone=1` (Ubuntu: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`)"
        )


def _make_room(state: StateFolder) -> None:
    """What is left of a runtime that died is removed; one that lives is not touched."""
    if state.running() is not None:
        raise CannotStart(
            f"the mesh {state.name} runs already: look with `isthmus status`, stop it with `isthmus down`"
        )
    try:
        shutil.rmtree(state.path, ignore_errors=True)
        state.logs.mkdir(parents=True)
        state.path.chmod(0o700)
    except OSError as error:
        raise CannotStart(f"cannot write the state folder: {error}; set ISTHMUS_STATE to a folder of yours") from None


def _open_host_ports(plan: Plan) -> tuple[Plan, dict[str, socket.socket]]:
    """One listening socket for each API server, opened on the host's side of the namespaces; and the plan with the ports taken."""
    listeners: dict[str, socket.socket] = {}
    clusters = []
    for cluster in plan.clusters:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", cluster.host_port))
            listener.listen(128)
        except OSError as error:
            for opened in (listener, *listeners.values()):
                opened.close()
            taken = "is taken" if error.errno == errno.EADDRINUSE else str(error)
            raise CannotStart(
                f"cluster {cluster.id}: port {cluster.host_port} of 127.0.0.1 {taken}: choose another hostPort, or leave it out"
            ) from None
        listeners[cluster.id] = listener
        clusters.append(replace(cluster, host_port=listener.getsockname()[1]))
    return replace(plan, clusters=tuple(clusters)), listeners


def _unshare(*, rootless: bool) -> list[str]:
    """Namespaces for mounts, networks and processes. The child dies with its parent."""
    mine = ["--user", "--map-root-user"] if rootless else []
    return ["unshare", *mine, "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]


def _spawn(state: StateFolder, listeners: dict[str, socket.socket], topology: Path, *, rootless: bool) -> None:
    fds = [f"{cluster}={listener.fileno()}" for cluster, listener in listeners.items()]
    command = [
        *_unshare(rootless=rootless),
        sys.executable,
        "-m",
        "isthmus.localruntime.supervisor",
        str(state.path),
        *fds,
    ]
    with state.runtime_log.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno() for listener in listeners.values()],
            start_new_session=True,
        )
    running = Running(process.pid, started_at(process.pid), str(topology))
    state.running_file.write_bytes(msgspec.json.encode(running))


def _wait_for_end(running: Running) -> bool:
    """Whether the process ended in time. It need not be our child."""
    try:
        descriptor = os.pidfd_open(running.pid)
    except ProcessLookupError:
        return True
    try:
        ended = bool(select.select([descriptor], [], [], _STOP_SECONDS)[0])
    finally:
        os.close(descriptor)
    return ended or started_at(running.pid) != running.started
