"""Runs a command of the host's user inside a container of the running mesh, as `kubectl exec` would."""

from __future__ import annotations

import os
from pathlib import Path


class NotInside(Exception):
    """The container's process cannot be found from here."""


def host_pid(supervisor: int, inner: int) -> int:
    """The host's number for a process of the runtime. Raises NotInside."""
    mine = _pid_namespace(supervisor)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _inner_pid(entry) == inner and _pid_namespace(int(entry.name)) == mine:
            return int(entry.name)
    raise NotInside("the container does not run")


def command_inside(pid: int, command: list[str]) -> tuple[list[str], dict[str, str]]:
    """The command line that enters all namespaces of a process, and the process's own environment. Raises NotInside."""
    user = [] if os.geteuid() == 0 and _shares_user_namespace(pid) else ["--user", "--preserve-credentials"]
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError as error:
        raise NotInside(f"the container's environment cannot be read: {error}") from None
    environment = dict(entry.decode().partition("=")[::2] for entry in raw.split(b"\0") if entry)
    if "TERM" in os.environ:
        environment["TERM"] = os.environ["TERM"]
    return ["nsenter", "--target", str(pid), *user, "--mount", "--net", "--pid", "--", *command], environment


def _inner_pid(entry: Path) -> int:
    """The number in the innermost namespace (NSpid in proc_pid_status(5))."""
    try:
        for line in (entry / "status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    except OSError:
        pass
    return 0


def _pid_namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def _shares_user_namespace(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/user").readlink() == Path("/proc/self/ns/user").readlink()
