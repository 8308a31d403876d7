"""Laws that hold for any Kubernetes API server. `make conformance KUBECONFIG=... CONTEXT=...` says which one is asked; else it is the embedded
one, started here.

Every law works in a namespace that is made for its module and goes with it. What a server may lack is asked of it, and a law that cannot be tried
says why.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from isthmus.apiserver.settings import ApiServerSettings
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress, load_file

collect_ignore = [
    *([] if shutil.which("kubectl") else ["test_kubectl.py"]),
    # `make conformance-real` says where the server's etcd is.
    *([] if os.environ.get("ISTHMUS_CONFORMANCE_ETCD") else ["test_compaction.py"]),
]

DEADLINE = 60.0
_PROGRAM = "import sys; from isthmus.apiserver.process import main; sys.exit(main(sys.argv[1]))"
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Answer:
    """What came back; `body` is empty where it was not JSON."""

    code: int
    body: dict[str, Any]
    text: str
    warnings: list[str]
    content_type: str

    @property
    def version(self) -> str:
        return str(self.body["metadata"]["resourceVersion"])

    @property
    def names(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.body["items"]]


class Server(ApiClient):
    """The server that is held to the laws. Says exactly what is sent, and gives exactly what comes back."""

    is_embedded = False

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        **parameters: str,
    ) -> Answer:
        said = [*(await self._prove()), *(headers or {}).items()]
        if headers and "Authorization" in headers:
            said = [(name, value) for name, value in said if name != "Authorization"] + [
                ("Authorization", headers["Authorization"])
            ]
        if body is not None:
            said.append(("Content-Type", content_type))
        data = msgspec.json.encode(body) if body is not None else None
        async with self._open(method, path, said, data, parameters) as response:
            text = await response.text()
            decoded = msgspec.json.decode(text) if text.startswith("{") else {}
            warnings = response.headers.getall("Warning", [])
            return Answer(response.status, decoded, text, warnings, response.content_type)

    async def get(self, path: str, **parameters: str) -> Answer:  # type: ignore[override]
        return await self.call("GET", path, **parameters)

    async def made(self, path: str, body: dict[str, Any], **parameters: str) -> dict[str, Any]:
        """What a law starts from."""
        answer = await self.call("POST", path, body, **parameters)
        assert answer.code == 201, answer.text
        return answer.body

    @asynccontextmanager
    async def watch(self, path: str, **parameters: str) -> AsyncIterator[Watched]:
        async with self._open("GET", path, await self._prove(), None, {"watch": "true"} | parameters) as response:
            yield Watched(response)

    def _open(self, method: str, path: str, headers: Any, data: bytes | None, parameters: Mapping[str, str]) -> Any:
        assert self._session is not None, "entered"
        return self._session.request(
            method, self.address.server + path, data=data, headers=headers, params=parameters, ssl=self._ssl,
            server_hostname=self.address.tls_server_name or None, proxy=self.address.proxy_url or None,
            timeout=aiohttp.ClientTimeout(total=DEADLINE),
        )  # fmt: skip


class Watched:
    """The events of one watch, one after another."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, Any]:
        """Empty at the end of the stream."""
        async with asyncio.timeout(DEADLINE):
            line = await self.response.content.readline()
        event: dict[str, Any] = msgspec.json.decode(line) if line else {}
        return event

    async def until(self, type_: str, name: str) -> dict[str, Any]:
        """The object of the first such event."""
        while True:
            event = await self.next()
            assert event, f"the stream ended before {type_} {name}"
            if event["type"] == type_ and event["object"]["metadata"]["name"] == name:
                found: dict[str, Any] = event["object"]
                return found


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiAddress, bool]]:
    """Of the server, and whether it is the embedded one."""
    said = os.environ.get("ISTHMUS_CONFORMANCE_KUBECONFIG", "")
    if said:
        yield load_file(Path(said).expanduser(), os.environ.get("ISTHMUS_CONFORMANCE_CONTEXT", "")), False
        return
    directory = tmp_path_factory.mktemp("conformance")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = f"https://127.0.0.1:{listener.getsockname()[1]}"
    settings = ApiServerSettings(
        cluster_id="conformance", directory=str(directory), inherited_fds=[listener.fileno()], api_address=server[8:]
    )
    path = directory / "settings.json"
    path.write_bytes(msgspec.json.encode(settings))
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(path)], pass_fds=[listener.fileno()], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "serving" in line:
                break
        token = (directory / "admin-token").read_text().strip()
        yield ApiAddress(server=server, ca_pem=(directory / "ca.crt").read_text(), token=token), True
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)
        listener.close()


@pytest.fixture
async def server(address: tuple[ApiAddress, bool]) -> AsyncIterator[Server]:
    async with Server(address[0], user_agent="isthmus-conformance") as found:
        found.is_embedded = address[1]
        yield found


@pytest.fixture
async def namespace(server: Server) -> AsyncIterator[str]:
    """One for each law, so that laws may run beside each other, and beside whatever else the cluster does."""
    name = f"conformance-{secrets.token_hex(4)}-{next(_NUMBERS)}"
    await server.made("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    await server.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def becomes() -> Callable[..., Awaitable[Answer]]:
    """The first answer with another code than `before`: roles, usage and the like take a moment to get around."""

    async def ask(before: int, act: Callable[[], Awaitable[Answer]]) -> Answer:
        for _ in range(int(DEADLINE * 10)):
            answer = await act()
            if answer.code != before:
                break
            await asyncio.sleep(0.1)
        return answer

    return ask


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


@pytest.fixture
def deployments(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


@pytest.fixture
def deployment() -> dict[str, Any]:
    """One that runs nothing: its replicas are none."""
    template = {
        "metadata": {"labels": {"app": "law"}},
        "spec": {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "law"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "law"}, "spec": spec}
