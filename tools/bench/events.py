"""What happens to the mesh in a run, and how long it takes until the last proxy knows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import mesh, workloads
from bench.figures import Figure
from bench.processes import BenchFailed, Drones, Reached, Usage, api_server
from bench.workloads import SYSTEM, Workload
from isthmus.api.crds import all_crds
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import load_file

_WAIT_SECONDS = 60.0
_STAYING = 30
_JOINED = "joined"
_JOINED_SERVICES = 100
_JOINED_ENDPOINTS = 100
_JOINED_GATEWAY = "203.0.113.77"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run has. `clients` are of the API servers, the config cluster's first; `usage` is None where it cannot be measured."""

    workload: Workload
    clients: list[ApiClient]
    drones: Drones
    others: Callable[[], Drones]
    """A load generator of its own, with the same proxies: the first of them may connect once more."""
    usage: Callable[[], Usage] | None
    folder: Path
    changes: int
    every: float
    at_once: int
    cold_seconds: float

    def cpu(self) -> float:
        return self.usage().cpu if self.usage else 0.0


Act = Callable[[str, int], Awaitable[object]]
"""Makes one change: the mark by which it is recognized, and its number."""


async def cold_start(run: Run) -> list[Figure]:
    """All proxies connect at once, and get everything."""
    began, cpu = time.monotonic_ns(), run.cpu()
    reached = await asyncio.to_thread(run.drones.connect, run.workload.proxies, run.at_once, run.cold_seconds)
    _complete(reached, "cold start")
    traffic = run.drones.traffic()
    found = [
        Figure("cold start: last proxy complete", (reached.last - began) / 1e9, "s"),
        Figure("cold start: half of them complete", (reached.half - began) / 1e9, "s"),
        Figure("cold start: received by each proxy", traffic.received_bytes / run.workload.proxies / 1e3, "KB"),
    ]
    if run.usage:
        found.append(Figure("cold start: CPU for each proxy", (run.cpu() - cpu) / run.workload.proxies * 1e3, "ms"))
    return found


async def changes(
    run: Run,
    what: str,
    act: Act,
    count: int,
    networks: Collection[int] | None = None,
    seen: Callable[[str], str] = lambda mark: mark,
) -> list[Figure]:
    """Makes changes, each a while after the one before has reached everybody whom it concerns: proxies in these networks, or all. `seen` is the
    text that a proxy is sent then, for a mark.
    """
    concerned = sum(networks is None or place.cluster in networks for place in workloads.proxied(run.workload))
    lasts, halves = [], []
    before, cpu = run.drones.traffic(), run.cpu()
    for number in range(count):
        mark = _mark(what, number)
        await asyncio.sleep(run.every)
        run.drones.expect(seen(mark))
        began = time.monotonic_ns()
        await act(mark, number)
        reached = await asyncio.to_thread(run.drones.wait_for, concerned, _WAIT_SECONDS)
        if (got := reached.wanted - reached.missing) < concerned:
            raise BenchFailed(f"{what}: {concerned - got} of {concerned} proxies were not reached in time")
        lasts.append((reached.last - began) / 1e6)
        halves.append((reached.half - began) / 1e6)
    spent, after = run.cpu() - cpu, run.drones.traffic()
    lasts.sort()
    halves.sort()
    proxies = run.workload.proxies
    found = [
        Figure(f"{what}: proxies that it concerns", concerned, ""),
        Figure(f"{what}: last proxy, p50", _quantile(lasts, 0.5), "ms"),
        Figure(f"{what}: last proxy, p99", _quantile(lasts, 0.99), "ms"),
        Figure(f"{what}: last proxy, most", lasts[-1], "ms"),
        Figure(f"{what}: half of the proxies, p50", _quantile(halves, 0.5), "ms"),
        Figure(
            f"{what}: sent to each proxy", (after.received_bytes - before.received_bytes) / count / proxies / 1e3, "KB"
        ),
    ]
    if run.usage:
        found.append(Figure(f"{what}: CPU for 1000 of them", spent / count * 1e3, "s"))
    return found


def _mark(what: str, number: int) -> str:
    """An address, as short and as unique as a change needs; or a name."""
    if what in ("endpoint change", "gateway address changed"):
        return f"192.0.{number >> 8 & 0xFF}.{number & 0xFF}" if what == "endpoint change" else f"198.18.0.{number + 1}"
    return f"mark{number}x"


async def endpoint_changes(run: Run) -> list[Figure]:
    """One endpoint of one service comes and goes. Its address is seen in its own network only."""
    return await changes(run, "endpoint change", _endpoint_comes(run), run.changes, networks=[0])


def _endpoint_comes(run: Run) -> Act:
    namespace, name = workloads.service_of(run.workload, 0)
    here = [p for p in workloads.places(run.workload) if p.service == name and p.cluster == 0]

    async def act(mark: str, number: int) -> None:
        body = workloads.endpoint_slice(namespace, name, here, more=mark)
        await run.clients[0].patch(
            mesh.path_of("EndpointSlice"), f"{name}-1", {"endpoints": body["endpoints"]}, namespace
        )

    return act


async def rule_changes(run: Run) -> list[Figure]:
    """A route's header, then a subset's name."""

    async def route(mark: str, number: int) -> None:
        body = workloads.virtual_service(run.workload, 0, mark)
        metadata = body["metadata"]
        await run.clients[0].patch(
            mesh.path_of("VirtualService"), metadata["name"], {"spec": body["spec"]}, metadata["namespace"]
        )

    async def subset(mark: str, number: int) -> None:
        body = workloads.destination_rule(run.workload, 1, mark)
        metadata = body["metadata"]
        await run.clients[0].patch(
            mesh.path_of("DestinationRule"), metadata["name"], {"spec": body["spec"]}, metadata["namespace"]
        )

    count = max(1, run.changes // 2)
    found = await changes(run, "VirtualService change", route, count)
    return found + await changes(run, "DestinationRule change", subset, count)


async def services_added(run: Run) -> list[Figure]:
    """Until there are routes to it. Its cluster, which comes before them, does not count: nobody can call it by that."""
    namespace = workloads.namespace_of(0)

    async def act(mark: str, number: int) -> None:
        await mesh.create(run.clients[0], [workloads.service(namespace, f"new-{mark}")])

    def route(mark: str) -> str:
        return f"new-{mark}.{namespace}.svc.cluster.local:80"

    return await changes(run, "service added", act, max(1, run.changes // 2), seen=route)


async def gateway_changes(run: Run) -> list[Figure]:
    """The address of another network's gateway; proxies in that network itself learn nothing."""
    if run.workload.clusters == 1:
        return []
    last = run.workload.clusters - 1

    async def act(mark: str, number: int) -> None:
        body = workloads.gateway(last, mark)
        await run.clients[last].patch(
            mesh.path_of("Service"), "istio-eastwestgateway", {"status": body["status"]}, SYSTEM, subresource="status"
        )

    return await changes(run, "gateway address changed", act, max(1, run.changes // 4), networks=range(last))


async def remote_cluster_joins(run: Run) -> list[Figure]:
    """A cluster with 10,000 endpoints of the first hundred services. It has been there; now the control plane is told of it."""
    flat = run.workload.clusters == 1
    server, kubeconfig = await asyncio.to_thread(api_server, _JOINED, run.folder)
    try:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(ApiClient(load_file(kubeconfig)))
            await _fill(client, run.workload, flat=flat)
            mark = "10.250.0.1" if flat else _JOINED_GATEWAY
            run.drones.expect(mark)
            began, cpu = time.monotonic_ns(), run.cpu()
            await mesh.create(run.clients[0], [mesh.remote_secret(_JOINED, kubeconfig)])
            reached = await asyncio.to_thread(run.drones.wait, _WAIT_SECONDS * 2)
            _complete(reached, "remote cluster joined")
            spent = run.cpu() - cpu
            await run.clients[0].delete(mesh.path_of("Secret"), f"istio-remote-secret-{_JOINED}", SYSTEM)
    finally:
        await asyncio.to_thread(server.stop)
    found = [Figure("remote cluster with 10,000 endpoints joined: last proxy", (reached.last - began) / 1e6, "ms")]
    if run.usage:
        found.append(Figure("remote cluster with 10,000 endpoints joined: CPU", spent, "s"))
    return found


async def _fill(client: ApiClient, workload: Workload, *, flat: bool) -> None:
    spaces = list(workloads.namespaces(workload, 0))
    if not flat:
        spaces[0]["metadata"]["labels"] = {"topology.istio.io/network": _JOINED}
    await mesh.create(client, all_crds())
    await mesh.create(client, (body for body in spaces if body["kind"] == "Namespace"))
    await mesh.create(client, (body for body in spaces if body["kind"] != "Namespace"))
    await mesh.create(client, workloads.joined(workload, _JOINED_SERVICES, _JOINED_ENDPOINTS, with_pods=not flat))
    if not flat:
        body = workloads.gateway(0, _JOINED_GATEWAY)
        body["metadata"]["labels"]["topology.istio.io/network"] = _JOINED
        await mesh.create(client, [body])


async def reconnect_storm(run: Run, what: str) -> list[Figure]:
    """All proxies lose their connections at once and come back, with the versions of what they have."""
    before, cpu = run.drones.traffic(), run.cpu()
    began = time.monotonic_ns()
    reached = await asyncio.to_thread(run.drones.storm, run.at_once, run.cold_seconds)
    _complete(reached, what)
    after = run.drones.traffic()
    received = (after.received_bytes - before.received_bytes) / run.workload.proxies / 1e3
    found = [
        Figure(f"{what}: last proxy complete", (reached.last - began) / 1e9, "s"),
        Figure(f"{what}: received by each proxy", received, "KB"),
    ]
    if run.usage and run.cpu() > cpu:
        found.append(Figure(f"{what}: CPU for each proxy", (run.cpu() - cpu) / run.workload.proxies * 1e3, "ms"))
    return found


async def changes_in_a_storm(run: Run) -> list[Figure]:
    """What those who stay connected notice of a storm: how long an endpoint's change takes to the last of them, before it and meanwhile."""
    staying = await asyncio.to_thread(run.others)
    places = sorted(workloads.proxied(run.workload), key=lambda place: (place.namespace, place.number))[:_STAYING]
    concerned = sum(place.cluster == 0 for place in places)
    act = _endpoint_comes(run)
    took: dict[bool, list[float]] = {False: [], True: []}

    async def change(number: int, *, stormy: bool) -> None:
        mark = f"192.1.{number >> 8 & 0xFF}.{number & 0xFF}"
        staying.expect(mark)
        began = time.monotonic_ns()
        await act(mark, number)
        reached = await asyncio.to_thread(staying.wait_for, concerned, _WAIT_SECONDS)
        if reached.wanted - reached.missing < concerned:
            raise BenchFailed("endpoint change in a storm: proxies that stay connected were not reached in time")
        took[stormy].append((reached.last - began) / 1e6)
        await asyncio.sleep(run.every)

    try:
        _complete(await asyncio.to_thread(staying.connect, _STAYING, _STAYING, run.cold_seconds), "those who stay")
        for number in range(run.changes):
            await change(number, stormy=False)
        async with asyncio.TaskGroup() as tasks:
            storm = tasks.create_task(asyncio.to_thread(run.drones.storm, run.at_once, run.cold_seconds), name="storm")
            while not storm.done():
                await change(run.changes + len(took[True]), stormy=True)
        _complete(storm.result(), "reconnect storm")
    finally:
        staying.stop()
    found = []
    for when, stormy in (("before a storm", False), ("in a storm", True)):
        found += [
            Figure(
                f"endpoint change {when}: last of {concerned} that stay, p50",
                _quantile(sorted(took[stormy]), 0.5),
                "ms",
            ),
            Figure(f"endpoint change {when}: last of {concerned} that stay, most", max(took[stormy]), "ms"),
        ]
    return [*found, Figure("endpoint change in a storm: changes", len(took[True]), "")]


def _complete(reached: Reached, what: str) -> None:
    if reached.missing:
        raise BenchFailed(f"{what}: {reached.missing} of {reached.wanted} proxies were not reached in time")


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
