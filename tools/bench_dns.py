"""What the agent's DNS server does with a question: questions per second, and the CPU time of the server for each. Usage: bench_dns.py [SECONDS]

The server is a process of its own on loopback, with a table of a thousand services. The asking process keeps many questions on their way at once; the
rate is of one server process, so of one core. On a busy machine the CPU time is the figure to compare: a million of them make a core's second.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from isthmus.dns.answers import NameTable
from isthmus.dns.query import question
from isthmus.dns.server import DnsServer
from isthmus.model.views import NameRecord

LOOPBACK = "127.0.0.1"
ON_THEIR_WAY = 48
SERVICES = 1000
PODS = 40
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """Questions that are asked over and over again; `forwards`: the server has a name server behind it."""

    what: str
    questions: list[bytes]
    forwards: bool = False


def loads() -> Iterator[Load]:
    own = [f"svc-{number}.shop" for number in range(SERVICES)]
    searched = [f"{name}.svc.cluster.local.shop.svc.cluster.local" for name in own]
    yield Load("one service", [question(own[0], "A")])
    yield Load(f"{SERVICES} services in turn", [question(name, "A") for name in own])
    yield Load("spelled with a search domain", [question(name, "A") for name in searched])
    yield Load("no address of the family", [question(name, "AAAA") for name in own])
    yield Load(f"a headless one, {PODS} Pods", [question("pods.shop", "A")])
    yield Load("never asked before (a wildcard)", [question(f"{number}.wild.example", "A") for number in range(50_000)])
    yield Load("no such name, nobody behind", [question(f"no-{number}.example", "A") for number in range(100)])
    yield Load("heard a moment ago", [question(f"no-{number}.example", "A") for number in range(100)], forwards=True)
    yield Load("forwarded", [question(f"{number}.new.example", "A") for number in range(2**17)], forwards=True)


def table() -> NameTable:
    def service(name: str, *ips: str) -> NameRecord:
        return NameRecord(
            host=f"{name}.shop.svc.cluster.local", ips=ips, registry="Kubernetes", short_name=name, namespace="shop"
        )

    records = [service(f"svc-{number}", f"10.96.{number // 250}.{number % 250 + 1}") for number in range(SERVICES)]
    records.append(service("pods", *(f"10.10.0.{number + 1}" for number in range(PODS))))
    wild = NameRecord(host="*.wild.example", ips=("240.240.0.1",), registry="External", short_name="", namespace="shop")
    records.append(wild)
    search = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]
    return NameTable.prepare(records, namespace="shop", dns_domain="cluster.local", search_domains=search)


def serve(told: Connection, upstream: int) -> None:
    """The server's process. Says its port, then serves until it is ended."""

    class Redirected(socket.socket):
        def connect(self, address: tuple[str, int]) -> None:  # type: ignore[override]
            super().connect((address[0], upstream))

    async def run() -> None:
        server = DnsServer([LOOPBACK] if upstream else [], lambda kind, _: Redirected(socket.AF_INET, kind))
        server.table = table()
        udp, tcp = bound(socket.SOCK_DGRAM), bound(socket.SOCK_STREAM)
        tcp.listen()
        told.send(udp.getsockname()[1])
        await server.run(udp, tcp)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def echo(told: Connection) -> None:
    """A name server that answers everything at once: no such name, for as long as the zone says."""
    zone = b"\x00\x00\x06\x00\x01" + struct.pack("!IH", 30, 22) + b"\x00\x00" + struct.pack("!5I", 1, 2, 3, 4, 30)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((LOOPBACK, 0))
    told.send(udp.getsockname()[1])
    while True:
        packet, client = udp.recvfrom(4096)
        udp.sendto(packet[:2] + b"\x81\x83" + packet[4:8] + b"\x00\x01" + packet[10:] + zone, client)


def bound(kind: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, kind)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    found.bind((LOOPBACK, 0))
    found.setblocking(False)
    return found


def started(target: object, *arguments: object) -> tuple[multiprocessing.Process, int]:
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=target, args=(theirs, *arguments), daemon=True)  # type: ignore[arg-type]
    process.start()
    theirs.close()  # So that one that dies before it says anything is not waited for.
    return process, int(mine.recv())


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def ask(port: int, questions: list[bytes], seconds: float) -> tuple[int, int]:
    """As many as get an answer in this time, and how many got none."""
    mine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    mine.connect((LOOPBACK, port))
    mine.settimeout(1.0)
    answered = lost = 0
    turn, end = cycle(questions), time.monotonic() + seconds
    while time.monotonic() < end:
        batch = list(islice(turn, ON_THEIR_WAY))
        for packet in batch:
            mine.send(packet)
        for _ in batch:
            try:
                mine.recv(4096)
                answered += 1
            except TimeoutError:
                lost += 1
                break
    mine.close()
    return answered, lost


def main(seconds: float) -> None:
    multiprocessing.set_start_method("spawn")
    upstream, upstream_port = started(echo)
    print(f"{'question':36} {'a second':>10} {'CPU, µs each':>13} {'a second of one core':>22}")
    for load in loads():
        server, port = started(serve, upstream_port if load.forwards else 0)
        assert server.pid is not None, "started"
        ask(port, load.questions, min(0.5, seconds))
        before, begun = cpu_seconds(server.pid), time.monotonic()
        answered, lost = ask(port, load.questions, seconds)
        took, cpu = time.monotonic() - begun, cpu_seconds(server.pid) - before
        note = f"   {lost} lost" if lost else ""
        print(f"{load.what:36} {answered / took:10,.0f} {cpu / answered * 1e6:13.1f} {answered / cpu:22,.0f}{note}")
        server.terminate()
        server.join()
    upstream.terminate()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0)
