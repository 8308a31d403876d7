"""Programs of the local runtime: what to run, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run and where. `resolv_conf` becomes the process's /etc/resolv.conf. An empty `net_namespace` is the runtime's own."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    net_namespace: str = ""
    resolv_conf: str = ""
    pass_fds: tuple[int, ...] = ()
    directory: str = "/"


def command_line(program: Program) -> list[str]:
    """Enters the namespace, and replaces itself with the program: no process stays in between."""
    command = list(program.command)
    if program.resolv_conf:
        script = 'mount --bind "$0" "$(readlink -f /etc/resolv.conf)" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, program.resolv_conf, *command]
    if program.net_namespace:
        command = ["nsenter", f"--net=/run/netns/{program.net_namespace}", *command]
    return command
