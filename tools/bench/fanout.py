"""What sending costs, by itself: python -m bench.fanout [--proxies 1000] [--bytes 2000] [--pushes 20] [--transport native]

One process serves all proxies with one resource that changes, over each of the transports in turn, with mutual TLS; what is measured is its CPU
time, from the change to the last acknowledgement. No API server, no mesh.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bench import proxies
from bench.figures import Figure, as_table
from bench.processes import BenchFailed, Drones
from bench.workloads import WORKLOADS
from isthmus.controlplane.ports import proxy_ports
from isthmus.controlplane.settings import AdsTransport
from isthmus.controlplane.shown import Shown
from isthmus.envoy.resources import CLUSTER, LISTENER, Changes, Resource, ResourceSet
from isthmus.model.identity import TrustDomain
from isthmus.trust.authority import CertificateAuthority
from isthmus.trust.x509 import certificate_pem, key_pem
from isthmus.xds.directory import CallFacts, Newest, Streams
from isthmus.xds.health import HealthReport
from isthmus.xds.native_tls import ClientCertificate
from isthmus.xds.node import NodeClaims

_NAME = "istiod.istio-system.svc"
_SECONDS = 120.0


class Everybody:
    """Admits all, and gives all the same."""

    def __init__(self, size: int) -> None:
        self.feeds: dict[Newest, None] = {}
        self._size = size
        self._resources = ResourceSet({CLUSTER: {}, LISTENER: {"it": self._resource("first")}})

    async def admit(self, claims: NodeClaims, call: CallFacts) -> Newest:
        feed = Newest()
        feed.put(self._resources)
        self.feeds[feed] = None
        return feed

    def gone(self, feed: Newest) -> None:
        del self.feeds[feed]

    def told(self, feed: Newest, health: HealthReport) -> None:
        """Drones have no applications."""

    def leaves(self, feed: Newest) -> None:
        """Drones have one control plane."""

    def change(self, mark: str) -> None:
        was = self._resources.of_type(LISTENER)["it"].version
        self._resources = ResourceSet({CLUSTER: {}, LISTENER: {"it": self._resource(mark)}})
        changes: Changes = {LISTENER: {"it": was}}
        for feed in self.feeds:
            feed.put(self._resources, changes)

    def _resource(self, mark: str) -> Resource:
        return Resource.of_bytes("it", b"\x0a\x02it\x12" + mark.encode().ljust(self._size, b"x"))


async def measured(transport: AdsTransport, options: argparse.Namespace, folder: Path) -> list[Figure]:
    authority = CertificateAuthority.self_signed(TrustDomain("cluster.local"), datetime.now(UTC))
    shown = Shown([_NAME], authority, lambda: datetime.now(UTC))
    roots = folder / "roots.pem"
    roots.write_text(authority.root_pem)
    workload = replace(WORKLOADS["M"], proxies=options.proxies)
    secret = {
        "ca-cert.pem": certificate_pem(authority.issuer.certificate),
        "ca-key.pem": key_pem(authority.issuer.key),
    }
    path = await asyncio.to_thread(proxies.specification, workload, secret, {}, folder, "cluster.local")
    everybody = Everybody(options.bytes)
    addresses = {ClientCertificate.DEMANDED: ("127.0.0.1", 0)}
    async with proxy_ports(transport, addresses, shown, everybody, {}, Streams()) as ports:
        target = ("127.0.0.1", ports[ClientCertificate.DEMANDED])
        drones = await asyncio.to_thread(
            lambda: Drones(target, _NAME, str(roots), path, delta=True, window=256 * 1024 * 1024)
        )
        try:
            began, cpu = time.monotonic(), time.process_time()
            await asyncio.to_thread(drones.connect, options.proxies, 200, _SECONDS)
            found = [
                Figure(
                    f"{transport.value}: connecting, CPU for each",
                    (time.process_time() - cpu) / options.proxies * 1e6,
                    "us",
                ),
                Figure(f"{transport.value}: connecting, all", time.monotonic() - began, "s"),
            ]
            return found + await _pushes(transport, options, everybody, drones)
        finally:
            drones.stop()


async def _pushes(
    transport: AdsTransport, options: argparse.Namespace, everybody: Everybody, drones: Drones
) -> list[Figure]:
    lasts, costs = [], []
    for number in range(options.pushes):
        mark = f"mark{number}x"
        drones.expect(mark)
        await asyncio.sleep(0.1)
        cpu, began = time.process_time(), time.monotonic_ns()
        everybody.change(mark)
        reached = await asyncio.to_thread(drones.wait, _SECONDS)
        await asyncio.sleep(0.1)  # The last acknowledgements.
        costs.append((time.process_time() - cpu) / options.proxies * 1e6)
        lasts.append((reached.last - began) / 1e6)
        if reached.missing:
            raise BenchFailed(f"{reached.missing} proxies were not reached")
    costs.sort()
    lasts.sort()
    return [
        Figure(f"{transport.value}: push and acknowledgement, CPU for each, median", costs[len(costs) // 2], "us"),
        Figure(f"{transport.value}: push and acknowledgement, CPU for each, least", costs[0], "us"),
        Figure(f"{transport.value}: last proxy, median", lasts[len(lasts) // 2], "ms"),
        Figure(f"{transport.value}: last proxy, least", lasts[0], "ms"),
    ]


def _measured_alone(transport: AdsTransport, options: argparse.Namespace) -> list[Figure]:
    """In a process of its own: what another transport has left in memory is no cost of this one, and a crash is this one's alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_measured_here, transport, options).result()


def _measured_here(transport: AdsTransport, options: argparse.Namespace) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as folder:
        return uvloop.run(measured(transport, options, Path(folder)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.fanout")
    parser.add_argument("--proxies", type=int, default=1000)
    parser.add_argument("--bytes", type=int, default=2000)
    parser.add_argument("--pushes", type=int, default=20)
    parser.add_argument("--transport", choices=[each.value for each in AdsTransport], action="append")
    options = parser.parse_args()
    figures: list[Figure] = []
    failed = ""
    for transport in options.transport or [each.value for each in AdsTransport]:
        try:
            figures += _measured_alone(AdsTransport(transport), options)
        except BenchFailed as error:
            failed = f"{transport}: {error}"
            break
        except BrokenProcessPool:
            failed = f"{transport}: the process that served {options.proxies} proxies crashed; fewer --proxies may do"
            break
    if failed:
        sys.stderr.write(f"bench: {failed}\n")
    print(as_table(f"{options.proxies} proxies, {options.bytes} bytes, mutual TLS", figures))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
