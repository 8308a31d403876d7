"""What the core computes, in this process: python -m bench.engine [--workload M] [--rounds 6] [--only gateway] [--profile FILE]

For each kind of change the CPU time from the object that was read to the names that each proxy is to be told, and which derivations ran how often.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import os
import time
from collections.abc import Callable

from bench.figures import Figure, as_table
from bench.in_process import Mesh, learn_and_settle, tables_of
from bench.processes import usage_of
from bench.workloads import WORKLOADS
from isthmus.controlplane.tables import Tables
from isthmus.incremental.describe import summaries

_YOUNGEST = 50_000

CHANGES: dict[str, Callable[[Mesh], None]] = {
    "an endpoint changes": Mesh.endpoint_comes_or_goes,
    "a network gateway's address": Mesh.gateway_moves,
    "a VirtualService changes": Mesh.route_changes,
    "a DestinationRule changes": Mesh.policy_changes,
    "a Service comes or goes": Mesh.service_comes_or_goes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), default="M")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--only", default="", help="changes with this in their name")
    parser.add_argument("--profile", default="", help="write the profile of the last change here")
    asked = parser.parse_args()

    gc.set_threshold(_YOUNGEST)
    mesh = Mesh(WORKLOADS[asked.workload])
    before = usage_of(os.getpid()).memory
    began = time.process_time()
    mesh.snapshot()
    read = time.process_time()
    tables = tables_of(mesh)
    figures = [
        Figure("snapshot from decoded objects", read - began, "s"),
        Figure("everything for all proxies", time.process_time() - read, "s"),
        Figure("memory for it", usage_of(os.getpid()).memory - before, "MB"),
        Figure("cells", sum(len(node.cells) for node in tables.derivations.graph.nodes.values()), ""),
    ]
    ran: dict[str, dict[str, int]] = {}
    for name, change in CHANGES.items():
        if asked.only in name:
            least = _least(mesh, tables, change, asked.rounds)
            ran[name] = _ran(mesh, tables, change, asked.profile)
            figures.append(Figure(name if least else f"{name}: concerns nobody", 1000 * least, "ms"))
    print(as_table(f"Workload {asked.workload}, {tables.scopes} scopes, {tables.stocks} stocks", figures))
    for name, counts in ran.items():
        print(f"{name}: {', '.join(f'{node} {count}' for node, count in counts.items())}")


def _least(mesh: Mesh, tables: Tables, change: Callable[[Mesh], None], rounds: int) -> float:
    """The least CPU seconds of several: what else runs on the machine only adds to it. 0 where nobody is to be told, as in a mesh of one network
    whose gateway moves.
    """
    found = []
    for _ in range(rounds):
        change(mesh)
        began = time.process_time()
        if not learn_and_settle(mesh, tables):
            return 0.0
        found.append(time.process_time() - began)
    return min(found)


def _ran(mesh: Mesh, tables: Tables, change: Callable[[Mesh], None], profile: str) -> dict[str, int]:
    before = _counts(tables)
    change(mesh)
    if profile:
        with cProfile.Profile() as found:
            learn_and_settle(mesh, tables)
        found.dump_stats(profile)
    else:
        learn_and_settle(mesh, tables)
    return {name: count - before[name] for name, count in _counts(tables).items() if count != before[name]}


def _counts(tables: Tables) -> dict[str, int]:
    found = summaries(tables.derivations.graph)
    return {f"{each.name} patched": each.patched for each in found} | {each.name: each.computed for each in found}


if __name__ == "__main__":
    main()
