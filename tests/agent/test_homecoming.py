"""The way back to the control plane that is preferred: when it is taken, and when it is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from socket import socket

import pytest

from isthmus.agent import homecoming
from isthmus.agent.certificates import ControlPlanes, Credentials
from isthmus.agent.envoy_admin import EnvoyAdmin
from isthmus.agent.envoy_binary import envoy_path
from isthmus.agent.homecoming import Homecoming, Patience
from isthmus.agent.secrets_server import SecretsServer
from isthmus.envoy.bootstrap import BootstrapSettings, bootstrap
from isthmus.envoy.resources import ResourceSet
from isthmus.trust.authority import CertificateAuthority
from isthmus.xds.directory import CallFacts, Newest, Streams
from isthmus.xds.native_server import native_server
from isthmus.xds.native_tls import ClientCertificate, server_context

SECONDS = 20.0
NAME = "istiod.istio-system.svc"


def test_it_takes_half_a_minute_to_a_minute_by_lot():
    assert [Patience().seconds(lot) for lot in (0.0, 0.5, 1.0)] == [30.0, 45.0, 60.0]


def test_a_proxy_that_does_not_get_there_tries_less_and_less_often_until_it_does():
    patience = Patience()
    for _ in range(3):
        patience.learn(came_back=False)
    waited = patience.seconds(0.0)
    for _ in range(20):
        patience.learn(came_back=False)
    longest = patience.seconds(0.0)
    patience.learn(came_back=True)

    assert (waited, longest, patience.seconds(0.0)) == (240.0, 3600.0, 30.0)


@dataclass
class Place:
    """A control plane that serves everybody. `story` is shared by all."""

    name: str
    story: list[str]
    feeds: list[Newest] = field(default_factory=list)
    port: int = 0

    async def admit(self, claims: object, call: CallFacts) -> Newest:
        self.story.append(f"{self.name} is asked")
        feed = Newest()
        feed.put(ResourceSet({}))
        self.feeds.append(feed)
        return feed

    def gone(self, feed: Newest) -> None:
        self.feeds.remove(feed)

    def told(self, feed: Newest, health: object) -> None:
        raise AssertionError("nobody here says how it is")

    def leaves(self, feed: Newest) -> None:
        self.story.append(f"{self.name} lets go")
        for each in list(self.feeds):
            each.end()

    @asynccontextmanager
    async def serving(self, authority: CertificateAuthority) -> AsyncIterator[None]:
        shown = authority.serving_certificate([NAME], datetime.now(UTC))
        context = server_context(
            chain_pem=shown.chain_pem,
            key_pem=shown.key_pem,
            roots_pem=authority.root_pem,
            client=ClientCertificate.WELCOME,
        )
        async with native_server(self, {}, Streams(), grace=0.1) as server:
            server.listen("127.0.0.1", self.port, context)
            yield


class Envoy:
    """With the control plane of this rank; the one that it is with when somebody looks."""

    def __init__(self, places: list[Place], rank: int | None) -> None:
        self._places, self._rank = places, rank
        self.looked = asyncio.Event()

    async def looked_at(self, times: int) -> None:
        for _ in range(times):
            self.looked.clear()
            await self.looked.wait()

    async def control_plane(self) -> int | None:
        self.looked.set()
        if self._rank == 1 and "second lets go" in self._places[0].story:
            self._rank = 0
        return self._rank


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr(homecoming, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(homecoming, "STEADY_SECONDS", 0.2)


@pytest.fixture
def places() -> list[Place]:
    story: list[str] = []
    found = [Place("first", story), Place("second", story)]
    for place in found:
        with socket() as free:
            free.bind(("127.0.0.1", 0))
            place.port = free.getsockname()[1]
    return found


def all_of(places: list[Place]) -> ControlPlanes:
    return ControlPlanes([f"127.0.0.1:{place.port}" for place in places], NAME)


def coming_home(
    control_planes: ControlPlanes,
    envoy: Envoy | EnvoyAdmin,
    credentials: tuple[Path, Path],
    followed: Callable[[], int | None] | None = None,
) -> Homecoming:
    token, roots = credentials
    return Homecoming(
        control_planes,
        envoy,  # type: ignore[arg-type]
        node={"id": "sidecar~1.1.1.1~a.b~c"},
        cluster="east",
        credentials=lambda: Credentials(token.read_text().strip()),
        root_cert_file=str(roots),
        followed=followed or (lambda: control_planes.rank),
    )


async def holds(what: Callable[[], object]) -> None:
    while not what():  # noqa: ASYNC110 - nobody is called for it
        await asyncio.sleep(0.01)


async def test_when_the_first_has_answered_for_a_while_the_second_lets_go(quickly, places, authority, credentials):
    """Agent and Envoy have gone to the second, as they do when the first is away."""
    first, second = places
    control_planes, envoy = all_of(places), Envoy(places, 1)
    control_planes.return_to(1)

    async with (
        asyncio.timeout(SECONDS),
        AsyncExitStack() as running,
        second.serving(authority),
        asyncio.TaskGroup() as tasks,
    ):
        coming = tasks.create_task(coming_home(control_planes, envoy, credentials).run(), name="homecoming")
        await envoy.looked_at(3)
        before = (control_planes.rank, list(first.story))
        await running.enter_async_context(first.serving(authority))
        await holds(lambda: "second lets go" in first.story)
        coming.cancel()

    assert before == (1, [])
    assert first.story == ["first is asked", "second is asked", "second lets go"]
    assert control_planes.rank == 0


async def test_an_envoy_that_has_gone_alone_is_brought_back(quickly, places, authority, credentials):
    """Its connection broke, and its agent's did not."""
    first, second = places
    control_planes, envoy = all_of(places), Envoy(places, 1)

    async with (
        asyncio.timeout(SECONDS),
        second.serving(authority),
        first.serving(authority),
        asyncio.TaskGroup() as tasks,
    ):
        coming = tasks.create_task(coming_home(control_planes, envoy, credentials).run(), name="homecoming")
        await holds(lambda: "second lets go" in first.story)
        coming.cancel()

    assert await envoy.control_plane() == 0


async def test_an_agent_that_shares_its_choice_with_other_proxies_is_brought_back_for_each(
    quickly, places, authority, credentials
):
    """Another proxy of this agent is home: the first is asked first. This one's stream is still where it was."""
    first, second = places
    followed = 1

    async with (
        asyncio.timeout(SECONDS),
        second.serving(authority),
        first.serving(authority),
        asyncio.TaskGroup() as tasks,
    ):
        coming = tasks.create_task(
            coming_home(all_of(places), Envoy(places, 0), credentials, lambda: followed).run(), name="homecoming"
        )
        await holds(lambda: "second lets go" in first.story)
        coming.cancel()

    assert first.story == ["first is asked", "second is asked", "second lets go"]


async def test_one_that_goes_away_again_meanwhile_is_not_gone_to(quickly, places, authority, credentials, monkeypatch):
    monkeypatch.setattr(homecoming, "STEADY_SECONDS", SECONDS)
    first, second = places
    control_planes, envoy = all_of(places), Envoy(places, 1)
    control_planes.return_to(1)

    async with asyncio.timeout(SECONDS), second.serving(authority), asyncio.TaskGroup() as tasks:
        coming = tasks.create_task(coming_home(control_planes, envoy, credentials).run(), name="homecoming")
        async with first.serving(authority):
            await holds(lambda: first.feeds)
        await envoy.looked_at(3)
        coming.cancel()

    assert first.story == ["first is asked"]
    assert control_planes.rank == 1


async def test_where_all_are_with_the_first_nobody_is_asked(quickly, places, authority, credentials):
    first, second = places
    control_planes, envoy = all_of(places), Envoy(places, 0)

    async with (
        asyncio.timeout(SECONDS),
        second.serving(authority),
        first.serving(authority),
        asyncio.TaskGroup() as tasks,
    ):
        coming = tasks.create_task(coming_home(control_planes, envoy, credentials).run(), name="homecoming")
        await envoy.looked_at(5)
        coming.cancel()

    assert first.story == []


@pytest.mark.parametrize("envoy", [None, 2], ids=["no Envoy", "the last good configuration"])
async def test_where_no_control_plane_has_the_envoy_the_agent_alone_comes_back(
    quickly, places, authority, credentials, envoy
):
    first, second = places
    control_planes = all_of(places)
    control_planes.return_to(1)

    async with (
        asyncio.timeout(SECONDS),
        second.serving(authority),
        first.serving(authority),
        asyncio.TaskGroup() as tasks,
    ):
        coming = tasks.create_task(
            coming_home(control_planes, Envoy(places, envoy), credentials).run(), name="homecoming"
        )
        await holds(lambda: control_planes.rank == 0)
        coming.cancel()

    assert first.story[0] == "first is asked"


@asynccontextmanager
async def real_envoy(
    folder: Path, places: list[Place], authority: CertificateAuthority, issue
) -> AsyncIterator[EnvoyAdmin]:
    """With control planes in this order, and an agent that gives it its certificate."""
    secrets = SecretsServer(folder / "sds.sock")
    await secrets.start()
    secrets.check_control_planes(authority.root_pem)
    secrets.put(issue())
    document = json.loads(
        bootstrap(
            BootstrapSettings(
                node={"id": "sidecar~1.1.1.1~a.b~c", "cluster": "a"},
                control_planes=tuple(("127.0.0.1", place.port) for place in places),
                control_plane_name=NAME,
                sds_socket=str(folder / "sds.sock"),
                admin_socket=str(folder / "admin.sock"),
                health_socket=str(folder / "health.sock"),
                proof_socket=str(folder / "proof.sock"),
                marks_sockets=False,
            )
        )
    )
    del document["static_resources"]["listeners"]  # They have ports of the machine.
    (folder / "bootstrap.json").write_text(json.dumps(document))
    process = await asyncio.create_subprocess_exec(
        envoy_path(), "-c", str(folder / "bootstrap.json"), "--concurrency", "1", "--disable-hot-restart", "-l", "off"
    )
    admin = EnvoyAdmin(folder / "admin.sock")
    try:
        yield admin
    finally:
        await admin.close()
        process.kill()
        await process.wait()
        await secrets.stop()


async def test_a_real_envoy_finds_the_first_again(quickly, folder, places, authority, credentials, issue):
    first, second = places
    control_planes = all_of(places)
    control_planes.return_to(1)
    seen = []

    async with (
        asyncio.timeout(2 * SECONDS),
        AsyncExitStack() as running,
        second.serving(authority),
        real_envoy(folder, places, authority, issue) as admin,
        asyncio.TaskGroup() as tasks,
    ):
        await holds(lambda: second.feeds)
        seen.append(await admin.control_plane())
        await running.enter_async_context(first.serving(authority))
        coming = tasks.create_task(coming_home(control_planes, admin, credentials).run(), name="homecoming")
        await holds(lambda: "second lets go" in first.story and first.feeds and not second.feeds)
        while (found := await admin.control_plane()) is None:  # noqa: ASYNC110 - nobody is called for it
            await asyncio.sleep(0.01)
        seen.append(found)
        coming.cancel()

    assert seen == [1, 0]
