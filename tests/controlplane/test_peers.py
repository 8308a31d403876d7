"""Control planes of two meshes over real TLS on loopback: who is believed, what is told, and what a lost peer becomes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from forged_certificates import CLIENT, CODE, SERVER, forged
from free_ports import free_port
from structlog.testing import capture_logs
from two_meshes import SHOP, TRUST_DOMAINS, Meshes, OneMesh, export, imported, meshes, peer

from isthmus.controlplane.kept_peers import KeptPeers
from isthmus.controlplane.peer_askers import PeerAskers
from isthmus.controlplane.peer_links import Asked, PeerLinks, believe
from isthmus.controlplane.peer_tls import Proof, asking, server_name
from isthmus.controlplane.peer_tls import telling as as_teller
from isthmus.controlplane.staleness import StalePolicy
from isthmus.controlplane.world import World
from isthmus.model.federation import HeardPeer
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, MeshId
from isthmus.model.snapshot import MeshSettings, Snapshot
from isthmus.model.topology import ImportState, Standing
from isthmus.peering.client import PeerUnavailable, listen
from isthmus.peering.messages import Goodbye, Hello, News, Taken, encode, from_teller
from isthmus.peering.server import Feed, NotAdmitted, PeerServer, serving_peers
from isthmus.peering.session import Hearing
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority

SECONDS = 60.0
DAY = timedelta(days=1)
AUTHORITIES = {
    mesh: CertificateAuthority.self_signed(domain, datetime.now(UTC)) for mesh, domain in TRUST_DOMAINS.items()
}
A, B, C = sorted(TRUST_DOMAINS)
BUNDLES = {TRUST_DOMAINS[mesh]: tuple(x509.to_der(found.root_pem)) for mesh, found in AUTHORITIES.items()}


def control_plane_of(mesh: MeshId) -> SpiffeId:
    return SpiffeId(TRUST_DOMAINS[mesh], "/ns/istio-system/sa/istiod")


class Rounds:
    """A mesh's snapshots, one round after the other, as `Delivery` has them."""

    def __init__(self, mesh: OneMesh) -> None:
        self.mesh = mesh
        self.bundles = dict(BUNDLES)
        self.snapshot: Snapshot | None = None
        self._over = asyncio.Event()
        self.next()

    def next(self) -> None:
        found = self.mesh.snapshot()
        known = tuple(
            sorted((domain, ders) for domain, ders in self.bundles.items() if domain != found.settings.trust_domain)
        )
        self.snapshot = replace(found, settings=replace(found.settings, peer_authorities=known))
        self._over.set()
        self._over = asyncio.Event()

    def newest(self) -> Snapshot:
        assert self.snapshot is not None
        return self.snapshot

    async def after_round(self) -> None:
        await self._over.wait()


@dataclass
class Teller:
    """A mesh's control plane that others ask."""

    rounds: Rounds
    askers: PeerAskers
    port: int


@contextlib.asynccontextmanager
async def telling(mesh: OneMesh, *, port: int = 0, identity: SpiffeId | None = None) -> AsyncIterator[Teller]:
    rounds = Rounds(mesh)
    askers = PeerAskers(
        mesh.id, identity or control_plane_of(mesh.id), lambda: AUTHORITIES[mesh.id], rounds, rounds.newest
    )  # type: ignore[arg-type]
    server = PeerServer(askers.admit, askers.gone, askers.context())
    async with asyncio.TaskGroup() as tasks, serving_peers(server, "127.0.0.1", port) as listening:
        running = tasks.create_task(askers.run())
        yield Teller(rounds, askers, listening)
        running.cancel()


@dataclass
class Asker:
    """A mesh's control plane that asks, and what it hears."""

    rounds: Rounds
    world: World
    links: PeerLinks
    heard: list[HeardPeer | None] = field(default_factory=list)

    async def until(self, what: Callable[[HeardPeer | None], bool]) -> HeardPeer | None:
        """The newest news from mesh-b that are so."""
        async with asyncio.timeout(SECONDS):
            while True:
                self.world.changed.clear()
                found = self.links.links.get(B)
                if what(found.heard if found else None):
                    return found.heard if found else None
                await self.world.changed.wait()


@contextlib.asynccontextmanager
async def asking_mesh(mesh: OneMesh, policy: StalePolicy | None = None, state: str = "") -> AsyncIterator[Asker]:
    world = World(MeshSettings(mesh=mesh.id, trust_domain=TRUST_DOMAINS[mesh.id]), ClusterId("c"))
    rounds = Rounds(mesh)
    links = PeerLinks(
        world,
        rounds,  # type: ignore[arg-type]
        mesh.id,
        control_plane_of(mesh.id),
        lambda: AUTHORITIES[mesh.id],
        policy or StalePolicy(),
        KeptPeers(state),
        rounds.newest,
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(links.run())
        yield Asker(rounds, world, links)
        running.cancel()


def two(**spec: Any) -> Meshes:
    """mesh-b exports hello to mesh-a."""
    found = meshes("abc", objects=SHOP)
    found["b"].objects.append(peer("a", exports={"services": [export("sample/hello", "*")]}))
    found["b"].objects.append(peer("c", exports={"services": [export("sample/secret", "*")]}))
    found["a"].objects.append(peer("b", imports={"services": [imported("sample/*", "*")]}, **spec))
    return found


def services(heard: HeardPeer | None) -> list[str]:
    return [each.name for each in heard.offers.services] if heard is not None else []


async def test_a_peer_hears_what_is_exported_to_it_and_news_as_they_come() -> None:
    found = two()
    async with telling(found["b"]) as teller:
        found["a"].objects[-1]["spec"]["controlPlanes"] = [f"127.0.0.1:{teller.port}"]
        async with asking_mesh(found["a"]) as asker:
            heard = await asker.until(lambda news: news is not None)
            assert services(heard) == ["hello"], "what is exported to mesh-c is not told"
            assert teller.askers.told(A)[0] == 1

            found["b"].objects[-2]["spec"]["exports"] = {}
            teller.rounds.next()
            await asker.until(lambda news: services(news) == [])


async def test_a_lost_peer_is_stale_since_it_was_heard_last_and_live_when_it_comes_back() -> None:
    found, port = two(), free_port()
    async with telling(found["b"], port=port):
        found["a"].objects[-1]["spec"]["controlPlanes"] = [f"127.0.0.1:{port}"]
        asker_stack = contextlib.AsyncExitStack()
        asker = await asker_stack.enter_async_context(asking_mesh(found["a"], StalePolicy(withdraw_after=1.5)))
        await asker.until(lambda news: news is not None)
    async with asker_stack:
        lost = await asker.until(lambda news: news is not None and news.state is ImportState.STALE)
        assert lost is not None
        assert services(lost) == ["hello"], "what was heard stays"
        assert datetime.fromisoformat(lost.stale_since) <= datetime.now(UTC)
        await asker.until(lambda news: news is not None and news.standing is Standing.WITHDRAWN)
        async with telling(found["b"], port=port):
            back = await asker.until(lambda news: news is not None and news.state is ImportState.LIVE)
            assert back is not None
            assert (services(back), back.standing, back.stale_since) == (["hello"], Standing.FULL, "")


async def test_a_peer_that_starts_later_is_no_warning_and_one_that_stays_away_is_one(monkeypatch) -> None:
    monkeypatch.setattr("isthmus.controlplane.peer_links._CHECK_SECONDS", 0.05)
    found, port = two(), free_port()
    found["a"].objects[-1]["spec"]["controlPlanes"] = [f"127.0.0.1:{port}"]

    with capture_logs() as early:
        async with asking_mesh(found["a"]) as asker, asyncio.timeout(SECONDS):
            while not (link := asker.links.links.get(B)) or not link.error:  # noqa: ASYNC110 - nobody is called for it
                await asyncio.sleep(0.01)
            async with telling(found["b"], port=port):
                await asker.until(lambda news: news is not None)
                warnings = [each for each in early if each["log_level"] == "warning"]
    monkeypatch.setattr("isthmus.controlplane.peer_links._LATE_SECONDS", 0.2)
    with capture_logs() as late:
        async with asking_mesh(found["a"]) as asker, asyncio.timeout(SECONDS):
            while not late:  # noqa: ASYNC110 - nobody is called for it
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)

    assert warnings == []
    assert [(each["event"], each["mesh"]) for each in late] == [("peer not heard yet", B)], "once"
    assert str(port) in late[0]["error"], "what is waited for has a name"


async def test_a_mesh_peer_that_is_deleted_takes_everything_with_it_at_once() -> None:
    found = two()
    async with telling(found["b"]) as teller:
        found["a"].objects[-1]["spec"]["controlPlanes"] = [f"127.0.0.1:{teller.port}"]
        async with asking_mesh(found["a"]) as asker:
            await asker.until(lambda news: news is not None)
            del found["a"].objects[-1]
            asker.rounds.next()
            await asker.until(lambda news: news is None)


async def test_a_control_plane_that_starts_while_the_peer_is_away_knows_what_it_told_and_since_when(
    tmp_path: Path,
) -> None:
    found = two()
    async with telling(found["b"]) as teller:
        found["a"].objects[-1]["spec"]["controlPlanes"] = [f"127.0.0.1:{teller.port}"]
        async with asking_mesh(found["a"], state=str(tmp_path)) as asker:
            await asker.until(lambda news: news is not None)

    async with asking_mesh(found["a"], state=str(tmp_path)) as asker:
        await asker.links.first_round()
        news = asker.links.links[B].heard
        assert news is not None
        assert (news.state, services(news)) == (ImportState.STALE, ["hello"])
        assert datetime.fromisoformat(news.stale_since) <= datetime.now(UTC)
        del found["a"].objects[-1]
        asker.rounds.next()
        await asker.until(lambda news: news is None)
    assert list((tmp_path / "peers").iterdir()) == [], "a peer that left does not come back from a file"


async def test_what_is_kept_of_another_trust_domain_is_nobodys(tmp_path: Path) -> None:
    kept = KeptPeers(str(tmp_path))
    kept.keep(B, TrustDomain("old.example"), {"gateways": b"[]"})

    assert kept.recalled(B, TrustDomain("b.example")) is None
    assert kept.recalled(B, TrustDomain("old.example")) is not None


async def test_the_next_control_plane_is_asked_where_the_first_does_not_answer() -> None:
    found = two()
    async with telling(found["b"]) as teller:
        found["a"].objects[-1]["spec"]["controlPlanes"] = ["127.0.0.1:1", f"127.0.0.1:{teller.port}"]
        async with asking_mesh(found["a"]) as asker:
            assert services(await asker.until(lambda news: news is not None)) == ["hello"]


async def test_a_workload_of_the_peers_mesh_is_not_taken_for_its_control_plane() -> None:
    found = two()
    workload = SpiffeId(TRUST_DOMAINS[B], "/ns/sample/sa/hello")
    async with telling(found["b"], identity=workload) as teller:
        asked = Asked("mesh-b", B, control_plane_of(B), (f"127.0.0.1:{teller.port}",), BUNDLES[TRUST_DOMAINS[B]])
        heard = listen(
            asked.control_planes[0],
            asking(shown(A, control_plane_of(A)), asked.authorities),
            server_name=NAME,
            mesh=A,
            hearing=Hearing(),
            believe=lambda connection: believe(connection, asked),
            refused=dict,
        )
        with pytest.raises(PeerUnavailable, match="not the control plane of mesh-b"):
            await anext(heard)
        assert teller.askers.told(A)[0] == 0, "nothing was said to it"


async def asked(port: int, name: str, proof: Proof, hello: Hello) -> News | Goodbye | None:
    """What an asker is answered by mesh-b; None where TLS ends it."""
    context = asking(proof, BUNDLES[TRUST_DOMAINS[B]])
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
            writer.write(encode(hello))
            answer = from_teller(await reader.readuntil())
            writer.close()
    except (OSError, EOFError):
        return None
    assert isinstance(answer, News | Goodbye)
    return answer


def shown(signer: MeshId, claims: SpiffeId) -> Proof:
    """Whoever has an authority's key can write any name into a certificate."""
    return Proof.of(claims, AUTHORITIES[signer])


NAME = server_name(A, B)


@pytest.mark.parametrize(
    ("what", "name", "signer", "claims", "mesh"),
    [
        ("a mesh that no MeshPeer is for", server_name(MeshId("mesh-x"), B), A, control_plane_of(A), "mesh-x"),
        ("another mesh's name", server_name(A, C), A, control_plane_of(A), "mesh-a"),
        ("no name of a peer", "istiod.istio-system.svc", A, control_plane_of(A), "mesh-a"),
        ("an authority of another peer, as this one", NAME, C, control_plane_of(A), "mesh-a"),
        ("this mesh's own authority, as the peer", NAME, B, control_plane_of(A), "mesh-a"),
    ],
)
async def test_tls_itself_turns_away(what: str, name: str, signer: MeshId, claims: SpiffeId, mesh: str) -> None:
    async with telling(two()["b"]) as teller:
        assert await asked(teller.port, name, shown(signer, claims), Hello(mesh)) is None, what


@pytest.mark.parametrize("usage", [SERVER, CODE])
async def test_a_certificate_for_another_use_is_no_askers(usage: Any) -> None:
    """Of the right authority, and with the whole right name."""
    proof = Proof(*forged(AUTHORITIES[A].issuer, str(control_plane_of(A)), usages=(usage,)))
    async with telling(two()["b"]) as teller:
        assert await asked(teller.port, NAME, proof, Hello("mesh-a")) is None
        assert teller.askers.told(A)[0] == 0
        honest = await asked(teller.port, NAME, shown(A, control_plane_of(A)), Hello("mesh-a"))
        assert isinstance(honest, News)


@pytest.mark.parametrize("usage", [CLIENT, CODE])
async def test_a_certificate_for_another_use_is_no_tellers(usage: Any) -> None:
    proof = Proof(*forged(AUTHORITIES[B].issuer, str(control_plane_of(B)), usages=(usage,)))
    met: list[Hello] = []

    def admit(hello: Hello, _: Any) -> Feed:
        met.append(hello)
        raise NotAdmitted("nobody is expected")

    server = PeerServer(admit, lambda _: None, as_teller(proof, BUNDLES[TRUST_DOMAINS[A]]))
    async with serving_peers(server, "127.0.0.1", 0) as port:
        assert await asked(port, NAME, shown(A, control_plane_of(A)), Hello("mesh-a")) is None
    assert met == [], "it is not even told who asks"


@pytest.mark.parametrize(
    ("what", "signer", "claims", "mesh"),
    [
        ("a workload of the peer's mesh", A, SpiffeId(TRUST_DOMAINS[A], "/ns/sample/sa/client"), "mesh-a"),
        ("another peer's control plane, minted by this one's authority", A, control_plane_of(C), "mesh-a"),
        ("a peer that says in its first line that it is another one", A, control_plane_of(A), "mesh-c"),
        ("both at once", A, control_plane_of(C), "mesh-c"),
    ],
)
async def test_nothing_is_told_to(what: str, signer: MeshId, claims: SpiffeId, mesh: str) -> None:
    async with telling(two()["b"]) as teller:
        answer = await asked(teller.port, NAME, shown(signer, claims), Hello(mesh))
        assert isinstance(answer, Goodbye), what
        assert teller.askers.told(A)[0] == teller.askers.told(C)[0] == 0


async def test_a_certificate_is_asked_for() -> None:
    async with telling(two()["b"]) as teller:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with pytest.raises((OSError, EOFError)):
            await first_answer(teller.port, context)


async def first_answer(port: int, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=NAME)
    writer.write(encode(Hello("mesh-a")))
    return await reader.readuntil()


async def test_who_is_no_peer_any_longer_is_told_so_and_its_connection_ends() -> None:
    found = two()
    async with telling(found["b"]) as teller:
        context = asking(shown(A, control_plane_of(A)), BUNDLES[TRUST_DOMAINS[B]])
        reader, writer = await asyncio.open_connection("127.0.0.1", teller.port, ssl=context, server_hostname=NAME)
        writer.write(encode(Hello("mesh-a")))
        assert isinstance(from_teller(await reader.readuntil()), News)
        writer.write(encode(Taken()))

        del teller.rounds.bundles[TrustDomain("a.example")]
        teller.rounds.next()

        async with asyncio.timeout(SECONDS):
            assert isinstance(from_teller(await reader.readuntil()), Goodbye)
            assert await reader.read() == b""
        writer.close()
        assert await asked(teller.port, NAME, shown(A, control_plane_of(A)), Hello("mesh-a")) is None
