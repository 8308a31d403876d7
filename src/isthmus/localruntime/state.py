"""Where a running mesh is found from the host: one folder for each, with its control socket, its kubeconfig and its logs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec


class NoSuchMesh(Exception):
    """No mesh of that name runs, or it is not clear which one is meant."""


class Running(msgspec.Struct, frozen=True, rename="camel"):
    """The runtime's process as the host sees it. `started` (clock ticks since boot) tells it from a later one with its number."""

    pid: int
    started: int
    topology: str


@dataclass(frozen=True, slots=True)
class StateFolder:
    """The files of one mesh. Mode 0700: the kubeconfig in it holds tokens."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def control_socket(self) -> Path:
        return self.path / "control.sock"

    @property
    def running_file(self) -> Path:
        return self.path / "running.json"

    @property
    def plan_file(self) -> Path:
        return self.path / "plan.json"

    @property
    def kubeconfig(self) -> Path:
        return self.path / "kubeconfig"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def runtime_log(self) -> Path:
        return self.logs / "runtime.log"

    def cluster(self, cluster: str) -> Path:
        """What one cluster's API server keeps."""
        return self.path / "clusters" / cluster

    def running(self) -> Running | None:
        """The runtime's process, if it is alive."""
        try:
            found = msgspec.json.decode(self.running_file.read_bytes(), type=Running)
        except (OSError, msgspec.MsgspecError):
            return None
        return found if started_at(found.pid) == found.started else None


def root(environment: Mapping[str, str] | None = None) -> Path:
    """The folder of all meshes: ISTHMUS_STATE, else isthmus in XDG_STATE_HOME, else in ~/.local/state."""
    environment = os.environ if environment is None else environment
    if environment.get("ISTHMUS_STATE"):
        return Path(environment["ISTHMUS_STATE"])
    return Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "isthmus"


def folders() -> Iterator[StateFolder]:
    """Of every mesh that was started here and not taken down."""
    if root().is_dir():
        yield from (StateFolder(path) for path in sorted(root().iterdir()) if path.is_dir())


def find(name: str = "") -> StateFolder:
    """The mesh of that name; without one, the only one. Raises NoSuchMesh, saying what there is."""
    known = {folder.name: folder for folder in folders()}
    if name in known:
        return known[name]
    if not name and len(known) == 1:
        return next(iter(known.values()))
    if not known:
        raise NoSuchMesh("no mesh runs here: start one with `isthmus up TOPOLOGY`")
    if name:
        raise NoSuchMesh(f"no mesh {name!r} runs here; there is: {', '.join(known)}")
    raise NoSuchMesh(f"several meshes run here: say which with --name: {', '.join(known)}")


def started_at(pid: int) -> int:
    """Field 22 of /proc/PID/stat (proc(5)): clock ticks after boot. 0 if there is no such process, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])
