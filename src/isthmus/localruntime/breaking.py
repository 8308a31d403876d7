"""Breaking: what can happen to a running mesh, done on purpose, and undone.

Two ways of failing are worlds apart for a caller: a process that is killed has its connections ended by the kernel, and new ones refused; one that
is frozen, or whose network swallows its packets, says nothing, and only time tells.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable

from isthmus.localruntime.entering import command_inside, host_pid
from isthmus.localruntime.launch import supervisor_of
from isthmus.localruntime.mesh_client import MeshClient

_SILENT = """
table inet isthmus_silent {
 chain input { type filter hook input priority -300; policy accept; iifname != "lo" drop; }
 chain output { type filter hook output priority -300; policy accept; oifname != "lo" drop; }
}
"""
_CUT = """
table inet isthmus_silent {
 chain forward { type filter hook forward priority -300; policy accept; iifname "transit" drop; oifname "transit" drop; }
 chain input { type filter hook input priority -300; policy accept; iifname "transit" drop; }
 chain output { type filter hook output priority -300; policy accept; oifname "transit" drop; }
}
"""


class Breaker:
    """`undo` ends everything that was begun and can be ended; a killed process is started again by the runtime itself."""

    def __init__(self, mesh: MeshClient) -> None:
        self._mesh = mesh
        self._silent: list[int] = []
        self._frozen: list[int] = []

    def kill(self, inner_pids: Iterable[int]) -> None:
        """Connections are ended, new ones refused, until it is started again."""
        for pid in inner_pids:
            os.kill(self._pid(pid), signal.SIGKILL)

    def freeze(self, inner_pids: Iterable[int]) -> None:
        """It keeps its connections and takes new ones, and says nothing."""
        for inner in inner_pids:
            pid = self._pid(inner)
            os.kill(pid, signal.SIGSTOP)
            self._frozen.append(pid)

    def silence(self, inner_pids: Iterable[int]) -> None:
        """The network namespaces of these processes lose all packets that come or go."""
        for inner in inner_pids:
            self._rules(self._pid(inner), _SILENT)

    def cut_off(self, agent: int) -> None:
        """The network whose router this agent's process is in loses every packet to and from other networks."""
        self._rules(self._pid(agent), _CUT)

    def undo(self) -> None:
        for pid in self._frozen:
            os.kill(pid, signal.SIGCONT)
        for pid in self._silent:
            _nft(pid, "delete table inet isthmus_silent")
        self._frozen.clear()
        self._silent.clear()

    def pids(self, cluster: str, namespace: str, pod: str, container: str = "") -> list[int]:
        """Of a Pod's containers, or of one."""
        found = self._mesh.pod(cluster, namespace, pod)["containers"]
        return [int(each["pid"]) for each in found if container in ("", each["name"])]

    def _rules(self, pid: int, text: str) -> None:
        _nft(pid, text)
        self._silent.append(pid)

    def _pid(self, inner: int) -> int:
        running = self._mesh.state.running()
        return host_pid(supervisor_of(running) if running else 0, inner)


def _nft(pid: int, text: str) -> None:
    """Raises CalledProcessError."""
    command, environment = command_inside(pid, ["nft", "-f", "-"])
    path = f"{environment.get('PATH', '')}:/usr/sbin:/sbin"
    subprocess.run(command, env=environment | {"PATH": path}, input=text, text=True, check=True, capture_output=True)
