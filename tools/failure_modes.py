"""Breaks a running mesh in every way that we know, under load, and writes what was measured into docs/failure-modes.md.

    python tools/failure_modes.py [PAGE]
    python tools/failure_modes.py --only "a zone of east" "the cluster center"
    python tools/failure_modes.py --renew "a zone of east, killed"

With `--only`, the rows of these losses are printed, and nothing is written; with `--renew` they are written, and the page keeps its others.

The figures depend on the machine, which is named in the page.
"""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import load_file
from isthmus.kubernetes.resources import DEPLOYMENTS, SERVICES, ResourcePath
from isthmus.localruntime.breaking import Breaker
from isthmus.localruntime.load import Load, Summary
from isthmus.localruntime.mesh_client import MeshClient
from isthmus.localruntime.state import StateFolder
from isthmus.localruntime.traffic import clients

_HERE = Path(__file__).parent
_PAGE = _HERE.parent / "docs" / "failure-modes.md"
_BEFORE, _BROKEN, _AFTER = 4.0, 6.0, 2.0
_SETTLE_SECONDS = 60.0
_SYSTEM = "istio-system"
_HEDGE_AFTER = "200ms"
_TARGET_SECONDS = {"killed": 0.05, "hangs": 0.5, "silent": 0.5}
"""What a loss may add to the slowest request, by how it is lost."""
_RULES = {
    "VirtualService": ResourcePath(
        group="networking.istio.io", version="v1", plural="virtualservices", namespaced=True
    ),
    "DestinationRule": ResourcePath(
        group="networking.istio.io", version="v1", plural="destinationrules", namespaced=True
    ),
}


@dataclass(frozen=True)
class Experiment:
    """`breaks` is given what it needs to break the mesh. `clients` are the clusters whose requests are measured."""

    what: str
    how: str
    breaks: Callable[[Breaker, Status], None]
    clients: tuple[str, ...] = ("east", "west")

    @property
    def names(self) -> set[str]:
        """By which it is chosen: with all other ways to lose the same, or alone."""
        return {self.what, f"{self.what}, {self.how}"}


class Status:
    """What runs where."""

    def __init__(self, mesh: MeshClient) -> None:
        self._clusters = {cluster["id"]: cluster for cluster in mesh.status()["clusters"]}

    def pods(self, cluster: str, app: str = "", node: str = "") -> list[tuple[str, str, str]]:
        """(cluster, namespace, name) of Pods by their app and Node."""
        return [
            (cluster, pod["namespace"], pod["name"])
            for pod in self._clusters[cluster]["pods"]
            if app in ("", pod["labels"].get("app")) and node in ("", pod["node"])
        ]

    def node_of(self, cluster: str, app: str) -> str:
        return next(str(pod["node"]) for pod in self._clusters[cluster]["pods"] if pod["labels"].get("app") == app)

    def process(self, cluster: str, name: str) -> int:
        return int(self._clusters[cluster]["processIds"][name])


def _zone(status: Status) -> list[tuple[str, str, str]]:
    """Workloads of the one that east's client is not in: what is measured is its requests."""
    [zone] = {"east-a", "east-b"} - {status.node_of("east", "client")}
    return status.pods("east", "helloworld", zone)


def _zone_silent(breaker: Breaker, status: Status) -> None:
    for where in _zone(status):
        breaker.silence(breaker.pids(*where)[:1])


def _zone_killed(breaker: Breaker, status: Status) -> None:
    for where in _zone(status):
        breaker.kill(breaker.pids(*where))


def _cluster_silent(breaker: Breaker, status: Status) -> None:
    for where in status.pods("center"):
        breaker.silence(breaker.pids(*where)[:1])
    breaker.freeze([status.process("center", "apiserver")])


def _cluster_killed(breaker: Breaker, status: Status) -> None:
    for where in status.pods("center"):
        breaker.kill(breaker.pids(*where))
    breaker.kill([status.process("center", "apiserver")])


def _killed(app: str, cluster: str, *, container: str, all_of_them: bool = False) -> Callable[[Breaker, Status], None]:
    def breaks(breaker: Breaker, status: Status) -> None:
        for where in status.pods(cluster, app)[: None if all_of_them else 1]:
            breaker.kill(breaker.pids(*where, container))

    return breaks


def _silent(app: str, cluster: str, *, all_of_them: bool = False) -> Callable[[Breaker, Status], None]:
    def breaks(breaker: Breaker, status: Status) -> None:
        for where in status.pods(cluster, app)[: None if all_of_them else 1]:
            breaker.silence(breaker.pids(*where)[:1])

    return breaks


def _frozen(app: str, cluster: str, container: str) -> Callable[[Breaker, Status], None]:
    def breaks(breaker: Breaker, status: Status) -> None:
        for where in status.pods(cluster, app):
            breaker.freeze(breaker.pids(*where, container))

    return breaks


_GATEWAY = "istio-eastwestgateway"
EXPERIMENTS = (
    Experiment("a workload", "killed", _killed("helloworld", "east", container="helloworld", all_of_them=True)),
    Experiment("a workload", "hangs", _frozen("helloworld", "center", "helloworld")),
    Experiment("a workload's proxy", "killed", _killed("helloworld", "center", container="istio-proxy")),
    Experiment("a zone of east", "killed", _zone_killed),
    Experiment("a zone of east", "silent", _zone_silent),
    Experiment("the cluster center", "killed", _cluster_killed),
    Experiment("the cluster center", "silent", _cluster_silent),
    Experiment("center's API server", "killed", lambda b, s: b.kill([s.process("center", "apiserver")])),
    Experiment("center's API server", "hangs", lambda b, s: b.freeze([s.process("center", "apiserver")])),
    Experiment("east's control plane", "killed", _killed("istiod", "east", container="discovery")),
    Experiment("east's control plane", "hangs", _frozen("istiod", "east", "discovery")),
    Experiment("one of west's two gateways", "killed", _killed(_GATEWAY, "west", container="istio-proxy")),
    Experiment("one of west's two gateways", "silent", _silent(_GATEWAY, "west")),
    Experiment(
        "all of west's gateways", "killed", _killed(_GATEWAY, "west", container="istio-proxy", all_of_them=True)
    ),
    Experiment("all of west's gateways", "silent", _silent(_GATEWAY, "west", all_of_them=True)),
    Experiment("the network between n1 and n2", "silent", lambda b, s: b.cut_off(s.process("west", "agent"))),
)


def main(arguments: list[str]) -> int:
    only = arguments[1:] if arguments[:1] in (["--only"], ["--renew"]) else []
    page = Path(arguments[0]) if arguments and not only else _PAGE
    known = {name for each in EXPERIMENTS for name in each.names}
    if unknown := set(only) - known:
        sys.exit(f"no loss {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
    chosen = [each for each in EXPERIMENTS if not only or each.names & set(only)]
    with tempfile.TemporaryDirectory(prefix="isthmus-") as home:
        os.environ["ISTHMUS_STATE"] = home
        command = [sys.executable, "-m", "isthmus.cli.app"]
        try:
            # Also one that did not come up in time runs, and is taken down.
            subprocess.run([*command, "up", str(_HERE / "failure-modes.yaml"), "--no-traffic"], check=True)
            mesh = MeshClient(StateFolder(Path(home) / "failure-modes"))
            asyncio.run(_scale(mesh, "east", "helloworld-v1", 2))
            plain = list(_all(mesh, chosen))
            hedged = list(_hedged(mesh, chosen))
            for cluster in ("east", "west"):
                asyncio.run(_apply(mesh, cluster))
            ruled = list(_all(mesh, chosen))
        finally:
            subprocess.run([*command, "down"], check=True, capture_output=True)
    if arguments[:1] == ["--only"]:
        return 0
    before = _rows_of(page) if only else [{}, {}, {}]
    page.write_text(_page(*map(_table, before, (plain, hedged, ruled))))
    print(f"written: {page}")
    return 0


def _hedged(mesh: MeshClient, experiments: Sequence[Experiment]) -> Iterator[Measured]:
    for cluster in ("east", "center", "west"):
        asyncio.run(_hedge(mesh, cluster, _HEDGE_AFTER))
    yield from _all(mesh, experiments)
    for cluster in ("east", "center", "west"):
        asyncio.run(_hedge(mesh, cluster, None))


@dataclass(frozen=True)
class Measured:
    """What one client saw: `undisturbed` until it was broken, `broken` from then on."""

    experiment: Experiment
    cluster: str
    undisturbed: Summary
    broken: Summary

    @property
    def verdict(self) -> str:
        """`met`, or what was asked for and what was added to what the slowest request took before."""
        target = _TARGET_SECONDS[self.experiment.how]
        added = max(0.0, self.broken.slowest_seconds - self.undisturbed.slowest_seconds)
        if not self.broken.failed and added <= target:
            return "met"
        return f"{1000 * target:.0f} ms missed: {1000 * added:.0f} ms more"

    def __str__(self) -> str:
        before = f"before, the slowest took {1000 * self.undisturbed.slowest_seconds:.0f} ms"
        who = f"{self.experiment.what}, {self.experiment.how}; client in {self.cluster}"
        return f"{who}: {self.broken}; {before}; {self.verdict}"


def _all(mesh: MeshClient, experiments: Sequence[Experiment]) -> Iterator[Measured]:
    for experiment in experiments:
        _settle(mesh)
        for measured in _measure(mesh, experiment):
            print(measured, flush=True)
            yield measured


def _measure(mesh: MeshClient, experiment: Experiment) -> list[Measured]:
    wait = threading.Event().wait
    where = {found[0]: found for found in clients(mesh.status())}
    breaker, status = Breaker(mesh), Status(mesh)
    loads = {cluster: Load(mesh, where[cluster], threads=8) for cluster in experiment.clients}
    for load in loads.values():
        load.__enter__()
    try:
        wait(_BEFORE)
        began = time.time()
        experiment.breaks(breaker, status)
        wait(_BROKEN)
    finally:
        breaker.undo()
        wait(_AFTER)
        for load in loads.values():
            load.__exit__(None, None, None)
    return [
        Measured(experiment, cluster, load.until(began), load.since(began)) for cluster, load in sorted(loads.items())
    ]


def _settle(mesh: MeshClient) -> None:
    """Until all is ready, and every client is answered from both networks. Raises TimeoutError.

    Not by each cluster: a gateway leads a connection to one of its network's workloads, and keeps it there.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < deadline:
        status = mesh.status()
        if not status["waitingFor"]:
            seen = []
            for where in clients(status):
                with Load(mesh, where, threads=4, per_second=200) as load:
                    load.goes_on(60)
                seen.append(load.summary)
            if all(
                "west" in summary.by_cluster and len(summary.by_cluster) > 1 and not summary.failed for summary in seen
            ):
                return
        threading.Event().wait(0.5)
    raise TimeoutError("the mesh did not come back")


async def _scale(mesh: MeshClient, cluster: str, name: str, replicas: int) -> None:
    async with ApiClient(load_file(mesh.state.kubeconfig, cluster)) as client:
        await client.patch(DEPLOYMENTS, name, {"spec": {"replicas": replicas}}, "sample")


async def _apply(mesh: MeshClient, cluster: str) -> None:
    async with ApiClient(load_file(mesh.state.kubeconfig, cluster)) as client:
        for rule in yaml.safe_load_all((_HERE / "failure-modes-rules.yaml").read_text()):
            await client.create(_RULES[rule["kind"]], rule, rule["metadata"]["namespace"])


async def _hedge(mesh: MeshClient, cluster: str, after: str | None) -> None:
    async with ApiClient(load_file(mesh.state.kubeconfig, cluster)) as client:
        annotated = {"metadata": {"annotations": {"isthmus.io/hedge-after": after}}}
        await client.patch(SERVICES, "helloworld", annotated, "sample")


def _page(plain: str, hedged: str, ruled: str) -> str:
    machine = f"{os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, Python {'.'.join(platform.python_version_tuple()[:2])}"
    return f"""# What breaks when

Written by `make failure-modes`, which boots a mesh, breaks it under load, and measures. Not a promise: figures of one machine ({machine},
shared with other work).

The mesh is `tools/failure-modes.yaml`: east and center on one network, west on another, with two gateways; helloworld in all three, twice in east;
two control planes that all proxies can use. Clients in east and west send about 80 requests a second each, from eight connections. What is broken
stays so for {_BROKEN:g} s, unless the runtime starts it again before.

- *killed*: the kernel ends its connections, and new ones are refused.
- *hangs*: it is stopped; its connections stay open, and nothing is answered.
- *silent*: every packet to and from it is lost.

`failed` are requests that the client got an error for; `for` is from the first failure to the end of the last; `slowest` is of those that succeeded,
and `before` the same for the {_BEFORE:g} s before anything was broken: what the machine itself adds. The `target`: no failed request, and at
most 50 ms more than before for what is killed, 500 ms more for what hangs or falls silent.

## Without any rule

What Isthmus does by itself: idempotent requests are tried again elsewhere when a connection fails or is reset.

{plain}

## With a second try for what is slow

The annotation `isthmus.io/hedge-after: {_HEDGE_AFTER}` on the Service: an idempotent request without an answer by then is sent elsewhere, too, and
the first answer counts ([why it is no default](decisions/0088-gateways-connect-within-a-third-of-a-second.md)). Nothing is cut off: what is only
slow is answered late. A request that meets two such places in a row waits twice.

{hedged}

## With a limit for each try

The rules in `tools/failure-modes-rules.yaml`: a quarter of a second for each try and for each connection, and what does not answer is left alone for
a while. Envoy counts a try's time from when it has a connection, so the first limit alone is not enough. Without limits, or a second try, a request
to what hangs waits for as long as the caller does: nobody else can know how long an answer may take.

{ruled}
"""


Row = tuple[str, str, str]
"""What was broken, how, and where the client was: the cells by which a table's row is known."""


def _rows_of(page: Path) -> list[dict[Row, str]]:
    """Those that the page has, of each of its tables."""
    tables: list[dict[Row, str]] = []
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "What":
            tables.append({})
        elif line.startswith("| ") and not cells[0].startswith("---"):
            tables[-1][cells[0], cells[1], cells[2]] = line
    return tables


def _table(kept: dict[Row, str], measured: list[Measured]) -> str:
    rows = kept | {(each.experiment.what, each.experiment.how, each.cluster): _line(each) for each in measured}
    order = [(each.what, each.how, cluster) for each in EXPERIMENTS for cluster in each.clients]
    head = [
        "| What | How | Client in | Requests | Failed | For | Slowest | Before | Target |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *(rows[each] for each in order if each in rows)])


def _line(row: Measured) -> str:
    found = row.broken
    lasted = f"{found.failing_seconds:.2f} s" if found.failed else ""
    return (
        f"| {row.experiment.what} | {row.experiment.how} | {row.cluster} | {found.requests} | {found.failed} | {lasted} | "
        f"{1000 * found.slowest_seconds:.0f} ms | {1000 * row.undisturbed.slowest_seconds:.0f} ms | {row.verdict} |"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
