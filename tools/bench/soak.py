"""Everything comes, changes and goes, for a long time; memory must end where it began: python -m bench.soak [--seconds 300]

After ten rounds, which fill what is kept for good, the control plane's memory is sampled after each round. The run fails when
the last quarter's median is more than a tenth above the first quarter's.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import uvloop

from bench import mesh, proxies, workloads
from bench.processes import BenchFailed, Drones, api_server, control_plane, own_address, reasons, usage_of
from bench.workloads import SYSTEM, WORKLOADS, Workload, cluster_of
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import load_file

_PORT = 15013
_GROWTH_MAX = 1.1
_EACH_ROUND = 20
_WARM_ROUNDS = 10


async def _round(client: ApiClient, workload: Workload, number: int) -> None:
    """Services with endpoints and Pods, and rules for them, are created, changed and deleted."""
    namespace = workloads.namespace_of(number % workload.namespaces)
    names = [f"soak-{number}-{index}" for index in range(_EACH_ROUND)]
    here = {
        name: [workloads.ProxyPlace(index, 0, namespace, name, f"10.251.0.{index + 1}")]
        for index, name in enumerate(names)
    }
    objects = [workloads.service(namespace, name) for name in names]
    objects += [workloads.pod(place) for places in here.values() for place in places]
    objects += [workloads.endpoint_slice(namespace, name, places) for name, places in here.items()]
    await mesh.create(client, objects)
    for index, name in enumerate(names):
        more = workloads.endpoint_slice(namespace, name, here[name], more=f"10.252.0.{index + 1}")["endpoints"]
        await client.patch(mesh.path_of("EndpointSlice"), f"{name}-1", {"endpoints": more}, namespace)
    for kind, body in (
        ("VirtualService", workloads.virtual_service(workload, 0, f"mark{number}")),
        ("DestinationRule", workloads.destination_rule(workload, 1, f"mark{number}")),
    ):
        metadata = body["metadata"]
        await client.patch(mesh.path_of(kind), metadata["name"], {"spec": body["spec"]}, metadata["namespace"])
    for body in reversed(objects):
        await client.delete(mesh.path_of(body["kind"]), body["metadata"]["name"], namespace, grace_seconds=0)


async def soaked(seconds: float, folder: Path) -> list[float]:
    """Megabytes after each round."""
    workload = replace(WORKLOADS["S"], proxies=50)
    found: list[float] = []
    async with AsyncExitStack() as stack:
        server, kubeconfig = await asyncio.to_thread(api_server, cluster_of(0), folder)
        stack.callback(server.stop)
        client = await stack.enter_async_context(ApiClient(load_file(kubeconfig)))
        await mesh.write_cluster(client, workload, 0, with_crds=True)
        address = stack.enter_context(own_address())
        process = control_plane(kubeconfig, cluster_of(0), address, folder / "control-plane.log", "")
        stack.callback(process.stop)
        await asyncio.to_thread(process.until_logged, "serving", 120.0)
        roots = folder / "roots.pem"
        roots.write_text(await mesh.roots_of(client))
        authority = await mesh.authority_of(client)
        path = await asyncio.to_thread(proxies.specification, workload, authority, {}, folder, "cluster.local")
        drones = Drones(
            (address, _PORT), f"istiod.{SYSTEM}.svc", str(roots), path, delta=True, window=256 * 1024 * 1024
        )
        stack.callback(drones.stop)
        await asyncio.to_thread(drones.connect, workload.proxies, 50, 120.0)
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end or len(found) < 8:
            await _round(client, workload, number)
            await asyncio.to_thread(drones.storm, 50, 60.0)
            number += 1
            if number > _WARM_ROUNDS:
                found.append(usage_of(process.process.pid).memory)
            if number % 10 == 0:
                sys.stderr.write(f"  round {number}: {usage_of(process.process.pid).memory:.0f} MB\n")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.soak")
    parser.add_argument("--seconds", type=float, default=300.0)
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="isthmus-soak-") as folder:
            found = uvloop.run(soaked(options.seconds, Path(folder)))
    except (BenchFailed, ExceptionGroup) as error:
        sys.stderr.write(f"soak: {reasons(error)}\n")
        return 1
    quarter = max(1, len(found) // 4)
    before, after = statistics.median(found[:quarter]), statistics.median(found[-quarter:])
    print(f"{len(found)} rounds of {_EACH_ROUND} services: {before:.1f} MB at first, {after:.1f} MB in the end")
    return 0 if after <= before * _GROWTH_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
