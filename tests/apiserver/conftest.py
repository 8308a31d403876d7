"""The real API server as a process of its own, and short words to talk to it.

The listening socket belongs to the test: it outlives a server that is killed, and the next one takes it over.
"""

from __future__ import annotations

import asyncio
import itertools
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from isthmus.apiserver.settings import ApiServerSettings, Limits
from isthmus.kubernetes.kubeconfig import ContextEntry, render

collect_ignore = [] if shutil.which("kubectl") else ["test_kubectl.py"]

DEADLINE = 60.0
_NUMBERS = itertools.count(1)
_PROGRAM = "import sys; from isthmus.apiserver.process import main; sys.exit(main(sys.argv[1]))"


class ServerProcess:
    """One API server over one directory; it may be killed and started again."""

    public = "192.0.2.10:6443"
    """Where it says that it is found: loopback, where the tests find it, would be nobody else's."""

    def __init__(self, directory: Path, limits: Limits | None = None) -> None:
        self.directory = directory / "state"
        self.log: list[str] = []
        self._told = threading.Condition()
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        settings = ApiServerSettings(
            cluster_id="east",
            directory=str(self.directory),
            inherited_fds=[self._socket.fileno()],
            api_address=self.public,
            limits=limits or Limits(),
        )
        self._settings = directory / "settings.json"
        self._settings.write_bytes(msgspec.json.encode(settings))
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        serving = threading.Event()
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(self._settings)],
            pass_fds=[self._socket.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._process = process
        self._reader = threading.Thread(target=self._read, args=(process, serving), daemon=True)
        self._reader.start()
        assert serving.wait(DEADLINE), "".join(self.log)
        assert process.poll() is None, "".join(self.log)

    def _read(self, process: subprocess.Popen[str], serving: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._told:
                self.log.append(line)
                self._told.notify_all()
            if "serving" in line:
                serving.set()
        serving.set()

    def said(self, text: str) -> int:
        """In how many lines of its log."""
        return sum(text in line for line in self.log)

    def wait_until_said(self, text: str, times: int) -> None:
        with self._told:
            assert self._told.wait_for(lambda: self.said(text) >= times, DEADLINE), "".join(self.log)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """The exit code of a server that ends."""
        assert self._process is not None
        assert self._reader is not None
        code = self._process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None
        return code

    def close(self) -> None:
        if self._process is not None:
            self.stop(signal.SIGKILL)
        self._socket.close()

    @property
    def ca_pem(self) -> str:
        return (self.directory / "ca.crt").read_text()

    @property
    def admin_token(self) -> str:
        return (self.directory / "admin-token").read_text().strip()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()
        return host, port

    @property
    def megabytes(self) -> float:
        """What the process has in memory."""
        assert self._process is not None
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * 4096 / 1e6

    def let_no_file_grow_beyond(self, size: int) -> None:
        """From now on, as on a disk that is full."""
        assert self._process is not None
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, size))

    def kubeconfig(self, token: str = "") -> str:
        entry = ContextEntry(name="east", server=self.url, ca_pem=self.ca_pem, token=token or self.admin_token)
        return render([entry])


@dataclass(frozen=True)
class Answer:
    """What came back; `body` is empty where it was not JSON."""

    code: int
    body: dict[str, Any]
    text: str
    headers: Mapping[str, str]


class Api:
    """Plain HTTP, so that a test says exactly what is sent."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        token: str | None = None,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
        **parameters: str,
    ) -> Answer:
        sent = dict(headers or {})
        if body is not None or raw is not None:
            sent["Content-Type"] = content_type
        if token is not None:
            sent["Authorization"] = f"Bearer {token}" if token else ""
        data = raw if raw is not None else (msgspec.json.encode(body) if body is not None else None)
        async with self._session.request(
            method, self._url + path, data=data, headers=sent, params=parameters
        ) as response:
            text = await response.text()
            is_json = text.startswith("{")
            decoded = msgspec.json.decode(text) if is_json else {}
            return Answer(response.status, decoded, text, response.headers)

    async def get(self, path: str, **parameters: str) -> Answer:
        return await self.call("GET", path, **parameters)

    async def made(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Creates what a test starts from."""
        answer = await self.call("POST", path, body)
        assert answer.code == 201, answer.text
        return answer.body

    @asynccontextmanager
    async def watch(self, path: str, **parameters: str) -> AsyncIterator[Watched]:
        async with self._session.get(self._url + path, params={"watch": "1"} | parameters) as response:
            yield Watched(response)


class Watched:
    """The events of one watch, one after another."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, Any]:
        """The next event, empty at the end of the stream; a failure if none comes before the deadline."""
        async with asyncio.timeout(DEADLINE):
            line = await self.response.content.readline()
        event: dict[str, Any] = msgspec.json.decode(line) if line else {}
        return event

    async def next_names(self, count: int) -> list[tuple[str, str]]:
        """Type and name of so many events."""
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all tests of a module; each test has a namespace to itself."""
    process = ServerProcess(tmp_path_factory.mktemp("apiserver"))
    try:
        process.start()
        yield process
    finally:
        process.close()


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """One for this test alone: it may be killed."""
    process = ServerProcess(tmp_path)
    try:
        process.start()
        yield process
    finally:
        process.close()


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One that waits for nobody, so that a test need not wait either."""
    limits = Limits(
        connections=40,
        handshakes=8,
        handshake_seconds=2.0,
        head_seconds=0.5,
        body_seconds=0.5,
        idle_seconds=3.0,
        stalled_seconds=0.5,
        large_bodies=2,
    )
    process = ServerProcess(tmp_path_factory.mktemp("strict"), limits)
    try:
        process.start()
        yield process
    finally:
        process.close()


@pytest.fixture(scope="module")
def crowded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One with little room, which gives everybody more time than a test has."""
    limits = Limits(handshakes=2, handshake_seconds=100 * DEADLINE, body_seconds=10 * DEADLINE, large_bodies=2)
    process = ServerProcess(tmp_path_factory.mktemp("crowded"), limits)
    try:
        process.start()
        yield process
    finally:
        process.close()


@asynccontextmanager
async def _connected(process: ServerProcess) -> AsyncIterator[Api]:
    context = ssl.create_default_context(cadata=process.ca_pem)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context),
        headers={"Authorization": f"Bearer {process.admin_token}", "Accept": "application/json"},
        timeout=aiohttp.ClientTimeout(total=DEADLINE),
    ) as session:
        yield Api(session, process.url)


@pytest.fixture
def connected() -> Any:
    """A context manager: an Api for a server that the test started itself."""
    return _connected


@pytest.fixture
async def api(server: ServerProcess) -> AsyncIterator[Api]:
    """As the administrator."""
    async with _connected(server) as found:
        yield found


@pytest.fixture
async def namespace(api: Api) -> str:
    """A namespace of the test's own."""
    name = f"test-{next(_NUMBERS)}"
    await api.made("/api/v1/namespaces", {"metadata": {"name": name}})
    return name


@pytest.fixture
def parallel() -> Any:
    """Answers of many calls made at once, in their order."""

    async def run(calls: Iterable[Coroutine[Any, Any, Answer]]) -> list[Answer]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
        return [task.result() for task in tasks]

    return run
