"""python -m bench: see `make help` and docs/performance.md."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvloop

from bench import events, mesh, proxies, workloads
from bench.events import Run
from bench.figures import Figure, as_json, as_table, shown, side_by_side
from bench.istiod import istiod
from bench.processes import BenchFailed, Child, Drones, Usage, api_server, control_plane, own_address, reasons, usage_of
from bench.workloads import WORKLOADS, Workload, cluster_of, tenfold
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import load_file

_TOKEN_PORT = 15012
_MUTUAL_TLS_PORT = 15013
_SERVER_NAME = "istiod.istio-system.svc"
_GROWING = ("services", "endpoints", "proxies", "clusters")
_OPEN_FILES = 65_536
_BEGAN = time.monotonic()


_STEPS: dict[str, Callable[[Run], Awaitable[list[Figure]]]] = {
    "endpoints": events.endpoint_changes,
    "rules": events.rule_changes,
    "services": events.services_added,
    "gateways": events.gateway_changes,
    "storm": partial(events.reconnect_storm, what="reconnect storm"),
    "crowd": events.changes_in_a_storm,
    "join": events.remote_cluster_joins,
}
_RESTART = "restart"
_OURS, _THEIRS = "Isthmus", "istiod"
_ORDER = ("endpoints", "rules", "services", "gateways", "storm", "crowd", _RESTART, "join")


class Bench:
    """One run of one workload: everything started, told, measured and ended."""

    def __init__(
        self, options: argparse.Namespace, workload: Workload, who: str, stack: AsyncExitStack, folder: Path
    ) -> None:
        self.options = options
        self.workload = workload
        self._who = who
        self._stack = stack
        self._address = ""
        self._folder = folder
        self._process: Child | None = None

    async def measure(self) -> list[Figure]:
        kubeconfigs = await self._api_servers()
        clients = [await self._stack.enter_async_context(ApiClient(load_file(path))) for path in kubeconfigs]
        for cluster, client in enumerate(clients):
            count = await mesh.write_cluster(client, self.workload, cluster, with_crds=not self.options.kubeconfig)
            _say(f"{cluster_of(cluster)}: {count} objects written")
            if self.options.kubeconfig:
                self._stack.push_async_callback(mesh.remove, client, self.workload)
        await mesh.create(
            clients[0],
            [mesh.remote_secret(cluster_of(n), path) for n, path in enumerate(kubeconfigs) if n > 0],
        )
        target = self._target(kubeconfigs[0])
        drones_of = await self._drones(clients[0], target)
        drones = await asyncio.to_thread(drones_of)
        self._stack.callback(drones.stop)
        run = Run(
            workload=self.workload,
            clients=clients,
            drones=drones,
            others=drones_of,
            usage=self._usage(),
            folder=self._folder,
            changes=self.options.changes,
            every=self.options.every,
            at_once=200,
            cold_seconds=self.options.seconds,
        )
        return await self._happen(run, kubeconfigs[0])

    async def _happen(self, run: Run, kubeconfig: Path) -> list[Figure]:
        found = await events.cold_start(run)
        _say("cold start measured")
        for name in (name for name in _ORDER if name in self.options.steps):
            figures = await self._restart(run, kubeconfig) if name == _RESTART else await _STEPS[name](run)
            found += figures
            for what in dict.fromkeys(figure.what.split(":")[0] for figure in figures):
                _say(f"{what} measured")
        if run.usage:
            usage = run.usage()
            found += [
                Figure("control plane: memory, most", usage.memory_peak, "MB"),
                Figure("control plane: memory now", usage.memory, "MB"),
            ]
        traffic = run.drones.traffic()
        return [*found, Figure("all that was sent to proxies", traffic.received_bytes / 1e6, "MB")]

    async def _restart(self, run: Run, kubeconfig: Path) -> list[Figure]:
        """Another process; the proxies come to it with what they have. Of another's control plane, there is none to restart."""
        if self._process is None:
            return []
        before = usage_of(self._process.process.pid).memory_peak
        self._process.kill()
        self._process = self._start(kubeconfig)
        found = await events.reconnect_storm(run, "control plane killed and started anew")
        return [Figure("control plane: memory, most, until it was killed", before, "MB"), *found]

    async def _api_servers(self) -> list[Path]:
        if self.options.kubeconfig:
            paths = [Path(path) for path in self.options.kubeconfig.split(":")]
            if len(paths) != self.workload.clusters:
                raise BenchFailed(
                    f"workload {self.workload.name} has {self.workload.clusters} clusters and KUBECONFIG names {len(paths)}: "
                    "give one file for each, separated by colons"
                )
            return paths
        found = []
        for cluster in range(self.workload.clusters):
            child, path = await asyncio.to_thread(api_server, cluster_of(cluster), self._folder)
            self._stack.callback(child.stop)
            found.append(path)
        return found

    def _target(self, kubeconfig: Path) -> tuple[str, int]:
        if self.options.target:
            host, _, port = self.options.target.rpartition(":")
            if not host or not port.isdigit():
                raise BenchFailed(f"TARGET is host:port, and not {self.options.target!r}")
            return host, int(port)
        self._address = self._stack.enter_context(own_address())
        self._process = self._start(kubeconfig)
        by_certificate = self._who == _OURS and self.options.credentials == "certificate"
        return self._address, _MUTUAL_TLS_PORT if by_certificate else _TOKEN_PORT

    def _start(self, kubeconfig: Path) -> Child:
        if self._who == _THEIRS:
            child = istiod(Path(self.options.istiod), kubeconfig, cluster_of(0), self._address, self._folder / "istiod")
            self._stack.callback(child.stop)
            return child
        child = control_plane(
            kubeconfig, cluster_of(0), self._address, self._folder / "control-plane.log", self.options.profile
        )
        self._stack.callback(child.stop)
        child.until_logged("serving", 120.0)
        return child

    def _usage(self) -> Callable[[], Usage] | None:
        if self.options.pid:
            return partial(usage_of, self.options.pid)
        if self._process is not None:
            return lambda: usage_of(self._process.process.pid if self._process else 0)
        return None

    async def _drones(self, client: ApiClient, target: tuple[str, int]) -> Callable[[], Drones]:
        """Starts a load generator with all proxies."""
        roots = self._folder / "roots.pem"
        roots.write_text(await mesh.roots_of(client))
        tokens: dict[str, str] = {}
        if self.options.credentials == "token":
            for number in range(self.workload.namespaces):
                namespace = workloads.namespace_of(number)
                tokens[namespace] = await client.request_token(
                    namespace, "default", audiences=("istio-ca",), seconds=3600
                )
        authority = {} if tokens else await mesh.authority_of(client)
        path = await asyncio.to_thread(
            proxies.specification, self.workload, authority, tokens, self._folder, self.options.trust_domain
        )
        return partial(
            Drones,
            target,
            _SERVER_NAME,
            str(roots),
            path,
            delta=self.options.protocol == "delta",
            window=self.options.window,
        )


async def measured(options: argparse.Namespace, workload: Workload, who: str = _OURS) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as folder:
        async with AsyncExitStack() as stack:
            return await Bench(options, workload, who, stack, Path(folder)).measure()


def compared(options: argparse.Namespace, workload: Workload) -> dict[str, list[list[Figure]]]:
    """Both control planes by turns, so that what else the machine does meets both: the figures of each one's runs."""
    found: dict[str, list[list[Figure]]] = {_OURS: [], _THEIRS: []}
    for number in range(options.rounds):
        for who, runs in found.items():
            _say(f"{who}, run {number + 1} of {options.rounds}; load average {os.getloadavg()[0]:.1f}")
            runs.append(uvloop.run(measured(options, workload, who)))
            # So that nothing is lost when a later run fails.
            sys.stderr.write(as_table(f"{who}, run {number + 1}", runs[-1]) + "\n")
    return found


def growth(runs: dict[str, list[Figure]], base: str) -> str:
    """How each figure of the runs compares with the first's."""
    lines = [f"growth, against {base}:"]
    first = {figure.what: figure.value for figure in runs[base]}
    for name, figures in runs.items():
        if name == base:
            continue
        lines.append(f"  {name}")
        lines += [
            f"    {figure.what:<50}  x {shown(figure.value / first[figure.what])}"
            for figure in figures
            if first.get(figure.what)
        ]
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stderr.write(f"  {time.monotonic() - _BEGAN:6.1f} s  {text}\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measures a control plane under simulated proxies.")
    parser.add_argument("--workload", choices=sorted(WORKLOADS), default="S")
    parser.add_argument(
        "--growth", action="store_true", help="the workload, then ten times services, endpoints, proxies, clusters"
    )
    everything = list(_ORDER)
    parser.add_argument(
        "--steps", type=lambda text: text.split(","), default=everything, help=f"what happens: {','.join(everything)}"
    )
    parser.add_argument("--profile", default="", help="a file for cProfile's statistics of the control plane")
    parser.add_argument("--proxies", type=int, help="another number of proxies than the workload's")
    parser.add_argument("--clusters", type=int, help="another number of clusters than the workload's")
    parser.add_argument(
        "--changes", type=int, default=10, help="how often the endpoint changes; rules change half as often"
    )
    parser.add_argument("--every", type=float, default=0.3, help="seconds from one change to the next")
    parser.add_argument("--protocol", choices=("delta", "sotw"), default="delta")
    parser.add_argument("--credentials", choices=("certificate", "token"), default="certificate")
    parser.add_argument("--trust-domain", default="cluster.local")
    parser.add_argument("--window", type=int, default=256 * 1024 * 1024, help="HTTP/2 window of each proxy")
    parser.add_argument("--seconds", type=float, default=120.0, help="the longest that all proxies may take to connect")
    parser.add_argument("--target", default=os.environ.get("TARGET", ""), help="another control plane: host:port")
    parser.add_argument("--kubeconfig", default="", help="API servers of your own: a file for each cluster")
    parser.add_argument("--istiod", default="", help="Istio's pilot-discovery, to be compared with")
    parser.add_argument("--rounds", type=int, default=2, help="how often each of the two that are compared is run")
    parser.add_argument("--pid", type=int, default=0, help="the other control plane's process, to measure it")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    return parser.parse_args()


def main() -> int:
    options = _options()
    if options.growth:
        options.steps = ["endpoints"]
    if options.target and not options.kubeconfig:
        sys.stderr.write("bench: TARGET needs KUBECONFIG: where the other control plane reads its objects\n")
        return 1
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_OPEN_FILES, most), most))
    base = WORKLOADS[options.workload]
    base = replace(base, proxies=options.proxies or base.proxies, clusters=options.clusters or base.clusters)
    runs: dict[str, list[Figure]] = {}
    try:
        if options.istiod:
            both = compared(options, base)
            named = {f"{who}, run {n}": run for who, found in both.items() for n, run in enumerate(found, 1)}
            print(as_json(named) if options.output == "json" else side_by_side(f"workload {base.name}", both))
            return 0
        for workload in [base, *(tenfold(base, what) for what in _GROWING if options.growth)]:
            figures = uvloop.run(measured(options, workload))
            runs[workload.name] = figures
            if options.output == "table":
                print(as_table(f"workload {workload.name}", figures))
    except (BenchFailed, ExceptionGroup) as error:
        sys.stderr.write(f"bench: {reasons(error)}\n")
        return 1
    if options.output == "json":
        print(as_json(runs))
    elif options.growth:
        print(growth(runs, base.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
