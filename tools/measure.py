"""Boots a topology and prints what it costs: seconds to ready and to the first cross-network request, memory of all parts, processes.

    python tools/measure.py examples/two-shores.yaml [RUNS]

Not a test: the figures depend on the machine, which is printed with them. Memory is the proportional set size (proc_pid_smaps(5)) of every
process of the mesh, so pages that several share count once in all.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from isthmus.localruntime.mesh_client import MeshClient
from isthmus.localruntime.state import StateFolder
from isthmus.localruntime.traffic import ask, clients

_RUNS = 5


def main(arguments: list[str]) -> int:
    topology = arguments[0] if arguments else "examples/two-shores.yaml"
    runs = int(arguments[1]) if len(arguments) > 1 else _RUNS
    print(f"{topology} on {_machine()}, {runs} runs\n")
    print(f"{'run':>4} {'ready s':>8} {'first answer from each cluster s':>33} {'PSS MB':>7} {'processes':>10}")
    rows = []
    for run in range(1, runs + 1):
        rows.append(_measure(topology))
        print(f"{run:>4} {rows[-1][0]:>8.2f} {rows[-1][1]:>33.2f} {rows[-1][2]:>7.0f} {rows[-1][3]:>10}")
    print(f"{'mid':>4} " + " ".join(
        f"{statistics.median(column):>{width}.{digits}f}"
        for column, width, digits in zip(zip(*rows, strict=True), (8, 33, 7, 10), (2, 2, 0, 0), strict=True)
    ))  # fmt: skip
    return 0


def _measure(topology: str) -> tuple[float, float, float, int]:
    with tempfile.TemporaryDirectory(prefix="isthmus-") as home:
        environment = os.environ | {"ISTHMUS_STATE": home}
        command = [sys.executable, "-m", "isthmus.cli.app"]
        began = time.monotonic()
        subprocess.run([*command, "up", topology, "--no-traffic"], env=environment, check=True, capture_output=True)
        ready = time.monotonic() - began
        try:
            mesh = MeshClient(StateFolder(next(Path(home).iterdir())))
            crossed = _until_every_cluster_answered(mesh, began)
            memory = mesh.memory()
            return ready, crossed, sum(entry["pss"] for entry in memory) / 1e6, len(memory)
        finally:
            subprocess.run([*command, "down"], env=environment, check=True, capture_output=True)


def _until_every_cluster_answered(mesh: MeshClient, began: float) -> float:
    """Seconds from `up` until the first client was answered by Pods of all clusters."""
    status = mesh.status()
    wanted = {entry["id"] for entry in status["clusters"]}
    where = next(clients(status))
    answered: set[str] = set()
    while answered != wanted:
        answered |= {answer.get("cluster", "") for answer in ask(mesh, *where, count=4)} & wanted
    return time.monotonic() - began


def _machine() -> str:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = models[0].partition(":")[2].strip() if models else platform.machine()
    return f"{os.cpu_count()} cores ({name}), {memory:.0f} GB, Linux {platform.release()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
