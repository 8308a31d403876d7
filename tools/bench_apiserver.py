"""Measures the embedded API server as its users meet it: a process of its own, TLS, the durable store.

    python tools/bench_apiserver.py [-o table|json] [--objects 10000] [--watchers 1000] [--events 50] [--real]

`--real` asks the same of a real kube-apiserver and its etcd (tools/real_kubernetes), whose CPU time and memory are counted together.

Not a test: the figures depend on the machine, which is printed with them. CPU time and memory are those of the server's process alone, from
/proc. The client is as lean as Python can be (requests are prepared beforehand, answers are not parsed), but shares the machine, so wall times
are those of both together. Every server has a folder of its own, and ends with this program.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from isthmus.apiserver.settings import ApiServerSettings

_SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
_MAPS = "/api/v1/namespaces/default/configmaps"
_PROGRAM = "import sys; from isthmus.apiserver.process import main; sys.exit(main(sys.argv[1]))"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CONCURRENT = 64
_WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value; `target` is what it should be at most (or at least, for a rate), None where there is none."""

    what: str
    value: float
    unit: str
    target: float | None = None

    @property
    def met(self) -> bool:
        if self.target is None:
            return True
        return self.value >= self.target if self.unit.endswith("/s") else self.value <= self.target


class ServerProcess:
    """One API server over a folder; it may be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "state"
        self._settings = directory / "settings.json"
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        settings = ApiServerSettings(
            cluster_id="bench", directory=str(self._directory), inherited_fds=[self._listener.fileno()]
        )
        self._settings.write_bytes(msgspec.json.encode(settings))
        self._process: subprocess.Popen[str] | None = None
        self._counted: list[int] = []
        """Processes whose CPU time and memory are the server's."""
        self._inherited = [self._listener.fileno()]

    def start(self) -> float:
        """Seconds until it serves."""
        began = time.perf_counter()
        self._begin([sys.executable, "-c", _PROGRAM, str(self._settings)], os.environ)
        assert self._process is not None, "begun"
        self._counted = [self._process.pid]
        return time.perf_counter() - began

    def _begin(self, command: list[str], environment: Mapping[str, str]) -> str:
        """The line in which it says that it serves."""
        process = subprocess.Popen(
            command, env=environment, pass_fds=self._inherited, stderr=subprocess.PIPE, text=True
        )
        self._process = process
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "serving" in line:
                return line
        raise RuntimeError(f"the API server did not start: {''.join(said)}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None

    def close(self) -> None:
        self.stop()
        self._listener.close()

    @property
    def cpu(self) -> float:
        """Seconds, of all its threads, since its start."""
        times = [self._proc(pid, "stat").rpartition(")")[2].split() for pid in self._counted]
        return sum(int(fields[11]) + int(fields[12]) for fields in times) / _TICKS

    @property
    def megabytes(self) -> float:
        return sum(int(self._proc(pid, "statm").split()[1]) for pid in self._counted) * _PAGE / 1e6

    def _proc(self, pid: int, name: str) -> str:
        return Path(f"/proc/{pid}/{name}").read_text()

    def head(self, method: str, path: str, more: str = "") -> str:
        token = (self._directory / "admin-token").read_text().strip()
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n{more}"

    def creation(self, path: str, body: object) -> bytes:
        raw = msgspec.json.encode(body)
        more = f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        return self.head("POST", path, more).encode() + raw

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._directory / "ca.crt")

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls().wrap_socket(plain, server_hostname="127.0.0.1")


class RealServerProcess(ServerProcess):
    """kube-apiserver and its etcd; their controllers run beside them and are not counted."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._listener.close()
        self._inherited = []
        settings = ApiServerSettings(
            cluster_id="bench", directory=str(self._directory), bind=[f"127.0.0.1:{self.port}"]
        )
        self._settings.write_bytes(msgspec.json.encode(settings))

    def start(self) -> float:
        began = time.perf_counter()
        command = [sys.executable, "-m", "real_kubernetes.server", "--settings", str(self._settings)]
        said = self._begin(command, os.environ | {"PYTHONPATH": str(Path(__file__).parent)})
        self._counted = [int(pid) for pid in re.findall(r"(?:etcd|kube-apiserver)=(\d+)", said)]
        return time.perf_counter() - began


@contextmanager
def running(kind: type[ServerProcess]) -> Iterator[ServerProcess]:
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as folder:
        server = kind(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.close()


def endpoint_slice(name: str) -> dict[str, object]:
    """3.2 KB as stored: eight endpoints, labels, and who manages what."""
    endpoint = {
        "addresses": ["10.244.13.201"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": "node-eu-west-1a-0007.internal.example",
        "targetRef": {
            "kind": "Pod",
            "name": "checkout-7d9c5b8f6d-x2x9k",
            "namespace": "default",
            "uid": "5f3c1f3e-0b65-4f35-9a3c-6a8b7f1f8a11",
        },
        "zone": "eu-west-1a",
    }
    labels = {f"example.com/label-{number}": "x" * 24 for number in range(8)}
    return {
        "metadata": {"name": name, "labels": labels | {"kubernetes.io/service-name": "checkout"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}],
        "endpoints": [endpoint] * 8,
    }


def config_map(name: str) -> dict[str, object]:
    """0.9 KB as stored."""
    return {"metadata": {"name": name}, "data": {"value": "x" * 640}}


def answer(connection: ssl.SSLSocket) -> tuple[int, int]:
    """The code, and the length of the body, of one answer with a Content-Length, or in chunks."""
    data = bytearray(connection.recv(262144))
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += connection.recv(262144)
    if data.find(b"Transfer-Encoding: chunked", 0, end) >= 0:
        length, tail = len(data) - end - 4, bytes(data[-5:])
        while tail != b"0\r\n\r\n":
            more = connection.recv(262144)
            length, tail = length + len(more), (tail + more)[-5:]
        return int(data[9:12]), length
    start = data.find(b"Content-Length: ") + 16
    length = int(data[start : data.find(b"\r\n", start)])
    left = end + 4 + length - len(data)
    while left > 0:
        left -= len(connection.recv(262144))
    return int(data[9:12]), length


def sequential_creates(server: ServerProcess, count: int) -> list[Figure]:
    requests = [server.creation(_SLICES, endpoint_slice(f"one-{number}")) for number in range(count)]
    with server.connect() as connection:
        connection.sendall(server.creation(_SLICES, endpoint_slice("first")))
        _code, size = answer(connection)
        mine, theirs, began = time.process_time(), server.cpu, time.perf_counter()
        waited = []
        for request in requests:
            sent = time.perf_counter()
            connection.sendall(request)
            code, _ = answer(connection)
            waited.append(time.perf_counter() - sent)
            if code != 201:
                raise RuntimeError(f"a create was answered with {code}")
        seconds, cpu, mine = time.perf_counter() - began, server.cpu - theirs, time.process_time() - mine
    waited.sort()
    return [
        Figure(what="size of an object", value=size / 1e3, unit="KB"),
        Figure(what="creates, one after another", value=count / seconds, unit="/s", target=1500),
        Figure(what="  server CPU for one", value=cpu / count * 1e6, unit="µs"),
        Figure(what="  client CPU for one", value=mine / count * 1e6, unit="µs"),
        Figure(what="  median wait", value=waited[count // 2] * 1e3, unit="ms"),
        Figure(what="  99th percentile", value=waited[count * 99 // 100] * 1e3, unit="ms"),
    ]


class Connection(asyncio.Protocol):
    """Sends requests one after another, or counts the lines of a watch."""

    def __init__(self, requests: list[bytes]) -> None:
        self._requests = iter(requests)
        self._left = 0
        self._chunked = False
        self.lines = 0
        self.wanted = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the server closed a connection: {exc}"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            if not self.done.done():
                self.done.set_result(None)
        elif self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """An answer comes whole or in parts; a new one begins with its head."""
        if self._left <= 0 and not self._chunked:
            end = data.find(b"\r\n\r\n")
            self._chunked = data.find(b"Transfer-Encoding: chunked", 0, end) >= 0
            if not self._chunked:
                start = data.find(b"Content-Length: ") + 16
                self._left = end + 4 + int(data[start : data.find(b"\r\n", start)])
        if self._chunked:
            self._chunked = not data.endswith(b"0\r\n\r\n")
            if self._chunked:
                return
        self._left -= len(data)
        if self._left <= 0:
            self._left = 0
            self._next()


class Watcher(Connection):
    """Counts events: each is one line."""

    def expect(self, lines: int) -> asyncio.Future[None]:
        self.wanted = self.lines + lines
        self.done = asyncio.get_running_loop().create_future()
        return self.done

    def data_received(self, data: bytes) -> None:
        self.lines += data.count(b'{"type":')
        if self.lines >= self.wanted and not self.done.done():
            self.done.set_result(None)


async def concurrent_creates(server: ServerProcess, count: int) -> list[Figure]:
    loop, tls = asyncio.get_running_loop(), server.tls()
    share = count // _CONCURRENT
    prepared = [
        [server.creation(_SLICES, endpoint_slice(f"many-{worker}-{n}")) for n in range(share)]
        for worker in range(_CONCURRENT)
    ]
    cpu, began = server.cpu, time.perf_counter()
    made = [
        await loop.create_connection(lambda r=r: Connection(r), "127.0.0.1", server.port, ssl=tls)  # type: ignore[misc]
        for r in prepared
    ]
    async with asyncio.timeout(_WAIT_SECONDS):
        await asyncio.gather(*(connection.done for _, connection in made))
    seconds, cpu = time.perf_counter() - began, server.cpu - cpu
    for transport, _ in made:
        transport.close()
    done = share * _CONCURRENT
    return [
        Figure(what=f"creates, {_CONCURRENT} at once", value=done / seconds, unit="/s"),
        Figure(what="  server CPU for one", value=cpu / done * 1e6, unit="µs"),
    ]


def whole_list(server: ServerProcess, expected: int) -> list[Figure]:
    request = server.head("GET", _SLICES, "Accept: application/json\r\n\r\n").encode()
    rows = []
    with server.connect() as connection:
        for _ in range(3):
            cpu, began = server.cpu, time.perf_counter()
            connection.sendall(request)
            code, size = answer(connection)
            rows.append((server.cpu - cpu, time.perf_counter() - began))
            if code != 200:
                raise RuntimeError(f"the list was answered with {code}")
    cpu, seconds = sorted(rows)[1]
    return [
        Figure(what=f"list of {expected} objects: server CPU", value=cpu, unit="s", target=0.5),
        Figure(what="  until it has come", value=seconds, unit="s"),
        Figure(what="  size", value=size / 1e6, unit="MB"),
    ]


async def fan_out(server: ServerProcess, watchers: int, events: int) -> list[Figure]:
    loop, tls = asyncio.get_running_loop(), server.tls()
    request = server.head("GET", f"{_MAPS}?watch=1", "Accept: application/json\r\n\r\n").encode()
    before, cpu = server.megabytes, server.cpu
    made: list[Watcher] = []
    for _ in range(watchers):
        _, watcher = await loop.create_connection(lambda: Watcher([request]), "127.0.0.1", server.port, ssl=tls)
        made.append(watcher)
    connecting = server.cpu - cpu
    await _event(server, made, "warm")
    idle = server.megabytes
    singly = await _events(server, made, [[f"singly-{number}"] for number in range(events)])
    at_once = await _events(server, made, [[f"at-once-{number}" for number in range(events)]])
    return [
        Figure(what=f"memory of {watchers} watchers", value=idle - before, unit="MB", target=150),
        Figure(what="  after the events", value=server.megabytes - before, unit="MB", target=150),
        Figure(what="connecting one watcher: server CPU", value=connecting / watchers * 1e3, unit="ms"),
        Figure(what="event to a watcher, one at a time: server CPU", value=singly[0] * 1e6, unit="µs", target=35),
        Figure(what="  delivered", value=singly[1], unit="/s"),
        Figure(what="event to a watcher, all at once: server CPU", value=at_once[0] * 1e6, unit="µs", target=35),
        Figure(what="  delivered", value=at_once[1], unit="/s"),
    ]


async def _events(server: ServerProcess, watchers: list[Watcher], rounds: list[list[str]]) -> tuple[float, float]:
    """CPU seconds for each event and watcher, and deliveries per second."""
    cpu, began = server.cpu, time.perf_counter()
    for names in rounds:
        await _event(server, watchers, *names)
    deliveries = sum(map(len, rounds)) * len(watchers)
    return (server.cpu - cpu) / deliveries, deliveries / (time.perf_counter() - began)


async def _event(server: ServerProcess, watchers: list[Watcher], *names: str) -> None:
    """Makes objects, and waits until every watcher has heard of all of them."""
    heard = [watcher.expect(len(names)) for watcher in watchers]
    requests = [server.creation(_MAPS, config_map(name)) for name in names]
    transport, writer = await asyncio.get_running_loop().create_connection(
        lambda: Connection(requests), "127.0.0.1", server.port, ssl=server.tls()
    )
    async with asyncio.timeout(_WAIT_SECONDS):
        await asyncio.gather(writer.done, *heard)
    transport.close()


def measure(kind: type[ServerProcess], objects: int, watchers: int, events: int) -> list[Figure]:
    figures = []
    with running(kind) as server:
        empty = server.megabytes
        figures.append(Figure(what="memory of an empty server", value=empty, unit="MB"))
        figures += sequential_creates(server, objects // 2)
        figures += uvloop.run(concurrent_creates(server, objects // 2))
        figures.append(Figure(what=f"memory with {objects} objects", value=server.megabytes, unit="MB"))
        figures += whole_list(server, objects)
        figures.append(Figure(what="memory after the lists", value=server.megabytes, unit="MB"))
        server.stop()
        figures.append(Figure(what=f"start with {objects} objects", value=server.start(), unit="s"))
        figures.append(Figure(what="  server CPU", value=server.cpu, unit="s"))
        figures.append(Figure(what="  memory", value=server.megabytes, unit="MB"))
    with running(kind) as server:
        figures += uvloop.run(fan_out(server, watchers, events))
    return figures


def machine() -> str:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = models[0].partition(":")[2].strip() if models else platform.machine()
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores ({name}), Linux {platform.release()}, Python {platform.python_version()}, load {load:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Measures the embedded API server.", epilog="example: python tools/bench_apiserver.py -o json"
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--events", type=int, default=50)
    parser.add_argument(
        "--real", action="store_true", help="a real kube-apiserver and its etcd, instead of the embedded one"
    )
    options = parser.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kind = RealServerProcess if options.real else ServerProcess
    figures = measure(kind, options.objects, options.watchers, options.events)
    if options.output == "json":
        rows = [
            {"what": f.what.strip(), "value": f.value, "unit": f.unit, "target": f.target, "met": f.met}
            for f in figures
        ]
        print(json.dumps({"machine": machine(), "figures": rows}, indent=2, ensure_ascii=False))
        return 0
    print(f"{machine()}\n")
    for figure in figures:
        bound = "at least" if figure.unit.endswith("/s") else "at most"
        target = "" if figure.target is None else f"{bound} {figure.target:g}{'' if figure.met else '  MISSED'}"
        print(f"{figure.what:<52} {figure.value:>10.4g} {figure.unit:<4} {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
