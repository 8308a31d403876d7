"""The agent's API over its unix socket, with a control plane that listens on loopback. No Envoy runs: nobody answers on admin sockets."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from isthmus.agent.server import AgentServer
from isthmus.agent.sockets import serve_privately
from isthmus.agent.specification import AgentSettings, ProxySpec

SECONDS = 60.0


@dataclass
class Agent:
    """A client of one running agent. Every document that it was shown is kept."""

    session: aiohttp.ClientSession
    socket: Path
    seen: list[str]

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        async with self.session.request(method, "http://agent" + path, data=body) as response:
            text = await response.text()
        self.seen.append(text)
        return response.status, json.loads(text) if response.content_type == "application/json" else text

    async def put(self, spec: ProxySpec) -> tuple[int, Any]:
        return await self.ask("PUT", f"/proxies/{spec.namespace}/{spec.name}", msgspec.json.encode(spec))

    async def proxies(self) -> dict[str, dict[str, Any]]:
        _, states = await self.ask("GET", "/proxies")
        return {state["name"]: state for state in states}


@pytest.fixture
async def agent(folder, token_port) -> AsyncIterator[Agent]:
    async with running(folder, token_port) as client:
        yield client


@asynccontextmanager
async def running(folder: Path, *control_planes: str) -> AsyncIterator[Agent]:
    socket = folder / "agent.sock"
    settings = AgentSettings(
        socket=str(socket),
        cluster_id="east",
        mesh_id="mesh",
        trust_domain="cluster.local",
        control_planes=list(control_planes),
    )
    ended = asyncio.Event()

    async def serve(started: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            runner = web.AppRunner(AgentServer(settings, tasks).application(), access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await serve_privately(runner, socket)
            started.set()
            try:
                await ended.wait()
            finally:
                await runner.cleanup()

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        started = asyncio.Event()
        serving = tasks.create_task(serve(started))
        await started.wait()
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket))) as session:
            yield Agent(session, socket, [])
        serving.cancel()


@pytest.fixture
def spec(folder, credentials) -> Any:
    token, roots = credentials

    def make(name: str, **changes: Any) -> ProxySpec:
        directory = folder / name
        directory.mkdir(exist_ok=True)
        values = {
            "kind": "sidecar",
            "namespace": "default",
            "name": name,
            "service_account": "alice",
            "ip": "10.10.0.5",
            "node": "node",
            "labels": {"app": name},
            "workload_name": name,
            "network": "east-net",
            "network_view": "",
            "dns_capture": False,
            "token_file": str(token),
            "root_cert_file": str(roots),
            "net_namespace": "",
            "directory": str(directory),
        }
        return ProxySpec(**(values | changes))

    return make


async def test_only_the_owner_may_ask_the_agent(agent):
    mode = agent.socket.stat().st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert await agent.ask("GET", "/healthz") == (200, "ok\n")


async def test_a_proxy_that_is_put_has_a_certificate_and_all_that_envoy_starts_with(agent, spec):
    wanted = spec("web")

    status, ready = await agent.put(wanted)

    directory = Path(wanted.directory)
    assert status == 201
    assert ready["bootstrap"] == str(directory / "bootstrap.json")
    assert ready["bootstrap"] in ready["arguments"]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {"bootstrap.json": 0o600, "sds.sock": 0o600, "health.sock": 0o600}
    state = (await agent.proxies())["default/web"]
    assert state["identity"] == "spiffe://cluster.local/ns/default/sa/alice"
    assert (state["lastError"], state["error"], state["draining"]) == ("", "", False)


async def test_what_a_proxy_waits_for_is_said_in_words(agent, spec):
    await agent.put(spec("web"))

    _, state = await agent.ask("GET", "/proxies/default/web")

    assert state["missing"] == ["Envoy is not live"]


async def test_the_same_specification_again_changes_nothing(agent, spec):
    wanted = spec("web")
    first = await agent.put(wanted)
    before = await agent.proxies()
    sockets = [path.stat().st_ino for path in sorted(Path(wanted.directory).iterdir())]

    second = await agent.put(wanted)

    assert second == first
    assert await agent.proxies() == before, "the same certificate, by its serial number"
    assert [path.stat().st_ino for path in sorted(Path(wanted.directory).iterdir())] == sockets


async def test_another_specification_starts_the_proxy_anew_and_no_other(agent, spec):
    await agent.put(spec("web"))
    await agent.put(spec("db"))
    before = await agent.proxies()

    status, _ = await agent.put(spec("web", labels={"app": "web", "version": "v2"}))

    after = await agent.proxies()
    assert status == 201
    assert after["default/web"]["serial"] != before["default/web"]["serial"]
    assert after["default/db"] == before["default/db"]


GOOD = {"kind": "sidecar", "namespace": "default", "name": "web"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"kind": "\xff"}',
        json.dumps(GOOD).encode(),
        json.dumps(GOOD | {"labels": 3}).encode(),
        b"[" * 100_000,
    ],
)
async def test_a_body_that_is_no_specification_is_refused_and_disturbs_no_proxy(agent, spec, body):
    await agent.put(spec("web"))
    before = await agent.proxies()

    own = await agent.ask("PUT", "/proxies/default/web", body)
    other = await agent.ask("PUT", "/proxies/default/other", body)

    assert (own[0], other[0]) == (400, 400)
    assert own[1]["error"].startswith("not a proxy specification")
    assert await agent.proxies() == before


async def test_a_body_about_another_proxy_than_the_path_is_refused(agent, spec):
    await agent.put(spec("web"))
    before = await agent.proxies()

    status, answer = await agent.ask("PUT", "/proxies/default/web", msgspec.json.encode(spec("db")))

    assert status == 400
    assert answer["error"] == "the path names default/web, the body default/db"
    assert await agent.proxies() == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"directory": "/nonexistent/isthmus"}, "/nonexistent/isthmus"),
        ({"net_namespace": "/nonexistent/netns", "dns_capture": True}, "/nonexistent/netns"),
    ],
)
async def test_a_proxy_that_cannot_start_says_why_and_disturbs_no_other(agent, spec, changes, reason):
    await agent.put(spec("web"))
    before = (await agent.proxies())["default/web"]

    status, answer = await agent.put(spec("broken", **changes))
    shown, state = await agent.ask("GET", "/proxies/default/broken")
    drained, _ = await agent.ask("POST", "/proxies/default/broken/drain")

    assert (status, shown, drained) == (503, 200, 503)
    assert reason in answer["error"]
    assert "ExceptionGroup" not in answer["error"]
    assert reason in state["error"]
    proxies = await agent.proxies()
    assert reason in proxies["default/broken"]["error"]
    assert proxies["default/web"] == before


async def test_a_proxy_that_could_not_start_starts_when_it_is_put_again(agent, spec, folder):
    late = folder / "late"
    wanted = spec("web", directory=str(late))

    first, _ = await agent.put(wanted)
    late.mkdir()
    second, _ = await agent.put(wanted)

    assert (first, second) == (503, 201)
    assert (await agent.proxies())["default/web"]["error"] == ""


async def test_without_a_control_plane_the_reason_is_told_when_time_is_up(folder, spec, monkeypatch):
    monkeypatch.setattr("isthmus.agent.server._READY_SECONDS", 4.0)

    async with running(folder, "127.0.0.1:1") as agent:
        status, answer = await agent.put(spec("web"))
        healthy, _ = await agent.ask("GET", "/healthz")

    assert (status, healthy) == (503, 200)
    assert "no certificate yet: UNAVAILABLE" in answer["error"]


async def test_a_proxy_that_is_deleted_is_forgotten_with_its_sockets(agent, spec):
    wanted = spec("web")
    await agent.put(wanted)
    await agent.put(spec("db"))

    first, _ = await agent.ask("DELETE", "/proxies/default/web")
    again, _ = await agent.ask("DELETE", "/proxies/default/web")

    assert (first, again) == (204, 204)
    assert list(await agent.proxies()) == ["default/db"]
    assert not (Path(wanted.directory) / "sds.sock").exists()


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/drain")])
async def test_a_proxy_that_nobody_put_is_not_found(agent, method, path):
    status, answer = await agent.ask(method, "/proxies/default/nobody" + path)

    assert (status, answer) == (404, "no proxy default/nobody\n")


async def test_a_drain_that_envoy_does_not_hear_is_said_and_the_proxy_is_not_ready_any_more(agent, spec):
    await agent.put(spec("web"))

    status, answer = await agent.ask("POST", "/proxies/default/web/drain")
    _, state = await agent.ask("GET", "/proxies/default/web")

    assert status == 503
    assert answer["error"].startswith("Envoy does not answer")
    assert "the proxy is draining" in state["missing"]


async def test_one_that_is_put_while_it_is_being_deleted_keeps_its_sockets(agent, spec):
    """The end of the old one unlinks sockets that have the names of the new one's."""
    wanted = spec("web")
    await agent.put(wanted)

    for _ in range(5):
        _, (status, _) = await asyncio.gather(agent.ask("DELETE", "/proxies/default/web"), agent.put(wanted))
        # Whichever came first, what is listed is what is there.
        listed = list(await agent.proxies()) == ["default/web"]
        assert listed or status == 201
        assert (Path(wanted.directory) / "sds.sock").exists() == listed


async def test_of_specifications_put_at_once_one_stays_and_none_runs_unseen(agent, spec):
    first = spec("web")
    await agent.put(first)
    others = [spec("web", labels={"version": str(number)}) for number in range(4)]

    answers = await asyncio.gather(*(agent.put(other) for other in others))

    assert all(status in (201, 503) for status, _ in answers), answers
    assert 201 in {status for status, _ in answers}
    state = (await agent.proxies())["default/web"]
    assert state["identity"]
    assert (Path(first.directory) / "sds.sock").exists()
    await agent.ask("DELETE", "/proxies/default/web")
    assert not (Path(first.directory) / "sds.sock").exists()
    assert not await agent.proxies()


async def test_the_private_key_is_in_no_document_and_in_no_file(agent, spec, folder):
    await agent.put(spec("web"))
    await agent.put(spec("broken", directory="/nonexistent"))
    for path in ("/proxies", "/proxies/default/web", "/proxies/default/broken", "/healthz"):
        await agent.ask("GET", path)

    files = [path.read_text() for path in folder.rglob("*") if path.is_file()]

    assert len(agent.seen) == 6
    assert not [text for text in agent.seen + files if "PRIVATE KEY" in text or "privateKey" in text]
    assert not [text for text in agent.seen if "good" in text], "nor is the token"
