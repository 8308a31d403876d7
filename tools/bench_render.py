"""How long `isthmus render` takes for one sidecar of a large mesh, from a cold start: the whole process, as people run it.

python tools/bench_render.py [--services 1000] [--endpoints 10] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def mesh(services: int, endpoints: int) -> dict[str, Any]:
    """A scenario: every service with its Pods, labelled and ready, in one cluster."""
    objects: list[dict[str, Any]] = []
    for number in range(services):
        name, low, high = f"svc-{number}", number % 250, number // 250
        metadata = {"name": name, "namespace": "shop"}
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        spec = {"clusterIP": f"10.96.{high}.{low + 1}", "selector": {"app": name}, "ports": ports}
        objects.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
        addresses = [f"10.{10 + high}.{low}.{index + 1}" for index in range(endpoints)]
        for index, ip in enumerate(addresses):
            labels = {"app": name, "security.istio.io/tlsMode": "istio"}
            pod = {"name": f"{name}-{index}", "namespace": "shop", "labels": labels}
            status = {"podIP": ip, "podIPs": [{"ip": ip}], "phase": "Running"}
            objects.append(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": pod,
                    "spec": {"serviceAccountName": name},
                    "status": status,
                }
            )
        objects.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": metadata | {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                "endpoints": [
                    {
                        "addresses": [ip],
                        "conditions": {"ready": True},
                        "targetRef": {"kind": "Pod", "name": f"{name}-{index}"},
                    }
                    for index, ip in enumerate(addresses)
                ],
            }
        )
    return {"kind": "Scenario", "clusters": [{"id": "east", "objects": objects}]}


def once(command: list[str]) -> tuple[float, float, int]:
    """Seconds of time, seconds of CPU, bytes of answer. Compiled modules may be kept, as where people install it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    taken = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return taken, cpu, len(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        scenario = Path(directory) / "mesh.json"
        scenario.write_text(json.dumps(mesh(said.services, said.endpoints)))
        proxy = ["--proxy", "sidecar/svc-0-0.shop", "--in-cluster", "east"]
        command = [sys.executable, "-m", "isthmus.cli.app", "render", "--scenario", str(scenario), *proxy]
        runs = [once(command) for _ in range(said.runs)]
    seconds, cpu, sizes = zip(*runs, strict=True)
    load = os.getloadavg()[0]
    print(
        f"render of {said.services} services with {said.endpoints} endpoints each, {said.runs} runs, load average {load:.1f}"
    )
    print(f"time    median {statistics.median(seconds):.2f} s, best {min(seconds):.2f} s, worst {max(seconds):.2f} s")
    print(f"CPU     median {statistics.median(cpu):.2f} s, best {min(cpu):.2f} s")
    print(f"answer  {sizes[0] / 1e6:.1f} MB of JSON")


if __name__ == "__main__":
    main()
