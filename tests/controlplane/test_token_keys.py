"""Keys of tokens: fetched from a real HTTPS server, given to proxies in place of their address, and kept when their issuer is away."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2

from isthmus.api.registry import KINDS, decode
from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.kept_keys import KeptKeys, KeptSet
from isthmus.controlplane.machines import Machines
from isthmus.controlplane.token_keys import KeyFetching, TokenKeys
from isthmus.controlplane.world import ImportedCluster, World
from isthmus.envoy import tokens
from isthmus.ingest.token_keys import WELL_KNOWN
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.security import KeySource
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ImportState
from isthmus.trust.authentication import Authenticator
from isthmus.trust.authority import CertificateAuthority

EAST = ClusterId("east")
PACKED = gzip.compress(b" " * 2**26)
"""64 MB in as many KB."""


def keys(x: str) -> str:
    return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": "AAAA"}]})


class Issuer:
    """Serves key sets by path, with a memory of what was asked for. `is_away`: every connection ends at once. With `turns`, each answer
    waits for one.
    """

    def __init__(self) -> None:
        self.url = ""
        self.sets: dict[str, str] = {}
        self.is_away = False
        self.asked: list[str] = []
        self.turns: asyncio.Semaphore | None = None
        self.waiting = self.most_waiting = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        assert request.transport is not None
        if self.is_away:
            request.transport.abort()
            return web.Response()
        if self.turns is not None:
            self.waiting += 1
            self.most_waiting = max(self.most_waiting, self.waiting)
            await self.turns.acquire()
            self.waiting -= 1
        if request.path == "/moved":
            raise web.HTTPFound("/a")
        if request.path == "/packed":
            return web.Response(body=PACKED, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})
        if request.path == "/trickles":
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.01)
        found = self.sets.get(request.path)
        return web.Response(text=found) if found is not None else web.Response(status=404)


class Mesh:
    """A world with RequestAuthentications, the rounds in which proxies are told, and the fetcher."""

    def __init__(self, issuer: Issuer, source: KeySource) -> None:
        self.issuer = issuer
        self.world = World(
            MeshSettings(mesh=MeshId("m"), trust_domain=TrustDomain("cluster.local"), key_source=source), EAST
        )
        self.imported = ImportedCluster()
        self.imported.state = ImportState.LIVE
        self.world.put(EAST, self.imported)

    def demands(self, *addresses: str, name: str = "r") -> None:
        rules = [{"issuer": f"i{number}", "jwksUri": address} for number, address in enumerate(addresses)]
        body = {"metadata": {"name": name, "namespace": "shop"}, "spec": {"jwtRules": rules}}
        found = self.imported.objects.setdefault("RequestAuthentication", {})
        found["shop", name] = decode(KINDS["RequestAuthentication"], body)
        self.world.touched(self.imported, "RequestAuthentication", [("shop", name)])

    def believes(self, issuer: str) -> None:
        """Without a word of where its keys are."""
        body = {"metadata": {"name": "r", "namespace": "shop"}, "spec": {"jwtRules": [{"issuer": issuer}]}}
        found = self.imported.objects.setdefault("RequestAuthentication", {})
        found["shop", "r"] = decode(KINDS["RequestAuthentication"], body)
        self.world.touched(self.imported, "RequestAuthentication", [("shop", "r")])

    def forget(self, name: str = "r") -> None:
        del self.imported.objects["RequestAuthentication"]["shop", name]
        self.world.touched(self.imported, "RequestAuthentication", [("shop", name)])

    def providers(self) -> list[str]:
        """What the filter of a workload's proxy has: the keys themselves, or the address where Envoy fetches them."""
        rules = [token for rule in self.world.snapshot().request_authentications for token in rule.rules]
        config: config_pb2.JwtAuthentication = tokens.configuration(rules)
        found = [config.providers[name] for name in sorted(config.providers)]
        return [each.local_jwks.inline_string or each.remote_jwks.http_uri.uri for each in found]

    def findings(self) -> list[str]:
        return [issue.what for issue in self.world.snapshot().issues if issue.code == "ISM0306"]

    async def until(self, holds: Callable[[], Any]) -> None:
        for _ in range(6000):
            if holds():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"not in a minute: {self.providers()}, {self.findings()}, {self.issuer.asked}")


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Issuer]:
    """An issuer whose root certificate is in the directory."""
    authority = CertificateAuthority.self_signed(TrustDomain.parse("cluster.local"), datetime.now(UTC))
    certificate = authority.serving_certificate(["localhost"], datetime.now(UTC))
    for name, text in (("chain", certificate.chain_pem), ("key", certificate.key_pem), ("root", authority.root_pem)):
        (directory / name).write_text(text)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(directory / "chain", directory / "key")
    issuer = Issuer()
    application = web.Application()
    application.router.add_route("GET", "/{path:.*}", issuer.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    issuer.url = f"https://localhost:{runner.addresses[0][1]}"
    try:
        yield issuer
    finally:
        await runner.cleanup()


@asynccontextmanager
async def control_plane(
    issuer: Issuer,
    directory: Path,
    source: KeySource = KeySource.HYBRID,
    blocked: str = "",
    *,
    trusted: bool = True,
    refresh_seconds: float = 0.05,
    later: timedelta = timedelta(),
) -> AsyncIterator[Mesh]:
    """It keeps keys in the directory. `later` than now is its time."""
    mesh = Mesh(issuer, source)
    rules = KeyFetching(
        refresh_seconds=refresh_seconds,
        blocked=(ip_network(blocked),) if blocked else (),
        roots=str(directory / "root") if trusted else "",
    )

    async def nobody(token: str, cluster: ClusterId) -> None:
        return None

    machines = Machines(mesh.world, me="east/istiod", system_namespace=Namespace("istio-system"), grace_seconds=10)
    authenticator = Authenticator(TrustDomain("cluster.local"), EAST, nobody, lambda: 0.0, {})
    delivery = Delivery(mesh.world, authenticator, machines)
    kept = KeptKeys(str(directory / "state"), lambda: datetime.now(UTC) + later)
    async with asyncio.TaskGroup() as tasks:
        fetching = TokenKeys(mesh.world, delivery, rules, kept)
        work = [tasks.create_task(delivery.run()), tasks.create_task(fetching.run())]
        yield mesh
        for each in work:
            each.cancel()


@asynccontextmanager
async def running(directory: Path, source: KeySource = KeySource.HYBRID, **how: Any) -> AsyncIterator[Mesh]:
    async with serving(directory) as issuer, control_plane(issuer, directory, source, **how) as mesh:
        yield mesh


async def test_proxies_are_given_the_keys_and_fetch_none_themselves(tmp_path):
    async with running(tmp_path, refresh_seconds=60) as mesh:
        mesh.issuer.sets["/a"] = keys("AAAA")
        mesh.demands(f"{mesh.issuer.url}/a")

        await mesh.until(lambda: mesh.providers() == [keys("AAAA")])

        assert mesh.issuer.asked == ["/a"]
        assert mesh.findings() == []


async def test_keys_that_rotate_reach_proxies(tmp_path):
    async with running(tmp_path) as mesh:
        mesh.issuer.sets["/a"] = keys("AAAA")
        mesh.demands(f"{mesh.issuer.url}/a")
        await mesh.until(lambda: mesh.providers() == [keys("AAAA")])

        mesh.issuer.sets["/a"] = keys("BBBB")

        await mesh.until(lambda: mesh.providers() == [keys("BBBB")])


async def test_an_issuer_that_is_away_changes_nothing_but_the_findings(tmp_path):
    async with running(tmp_path) as mesh:
        mesh.issuer.sets["/a"] = keys("AAAA")
        mesh.demands(f"{mesh.issuer.url}/a")
        await mesh.until(lambda: mesh.providers() == [keys("AAAA")])

        mesh.issuer.is_away = True
        await mesh.until(mesh.findings)

        assert mesh.providers() == [keys("AAAA")]
        assert "stay in use" in mesh.findings()[0]

        mesh.issuer.is_away = False
        await mesh.until(lambda: not mesh.findings())


async def test_a_set_without_a_usable_key_does_not_replace_the_one_that_is_there(tmp_path):
    async with running(tmp_path) as mesh:
        mesh.issuer.sets["/a"] = keys("AAAA")
        mesh.demands(f"{mesh.issuer.url}/a")
        await mesh.until(lambda: mesh.providers() == [keys("AAAA")])

        for body, why in (('{"keys": []}', "no list of keys"), ("[" * 100_000, "not a JSON"), ("x" * 2**21, "larger")):
            mesh.issuer.sets["/a"] = body
            await mesh.until(lambda why=why: any(why in what for what in mesh.findings()))
            assert mesh.providers() == [keys("AAAA")]


@pytest.mark.parametrize(
    ("path", "settings", "why"),
    [
        ("/nowhere", {}, "404"),
        ("/moved", {}, "302"),
        ("/packed", {}, "is packed (gzip)"),
        ("/a", {"trusted": False}, "CERTIFICATE_VERIFY_FAILED"),
        ("/a", {"blocked": "127.0.0.0/8"}, "BLOCKED_CIDRS_IN_JWKS_URIS"),
    ],
)
async def test_what_was_never_fetched_is_for_proxies_to_fetch_and_told(tmp_path, path, settings, why):
    async with running(tmp_path, **settings) as mesh:
        mesh.issuer.sets["/a"] = keys("AAAA")
        address = mesh.issuer.url + path
        mesh.demands(address)

        await mesh.until(mesh.findings)

        assert mesh.providers() == [address]
        assert why in mesh.findings()[0]
        assert "proxies try" in mesh.findings()[0]


async def test_an_answer_that_comes_in_drops_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.controlplane.token_keys._TRY_SECONDS", 0.2)
    async with running(tmp_path) as mesh:
        mesh.demands(f"{mesh.issuer.url}/trickles")

        await mesh.until(lambda: any("no whole answer within" in what for what in mesh.findings()))


async def test_so_many_addresses_are_asked_at_once_and_the_others_in_their_turn(tmp_path, monkeypatch):
    """Who writes a RequestAuthentication with many addresses takes no more of the control plane than that."""
    monkeypatch.setattr("isthmus.controlplane.token_keys._AT_ONCE", 3)
    async with running(tmp_path, refresh_seconds=60) as mesh:
        issuer = mesh.issuer
        issuer.turns = asyncio.Semaphore(0)
        issuer.sets = {f"/{number}": keys("AAAA") for number in range(9)}
        mesh.demands(*(issuer.url + path for path in issuer.sets))
        for left in range(9, 0, -1):
            await mesh.until(lambda left=left: issuer.waiting >= min(3, left))
            issuer.turns.release()

        await mesh.until(lambda: mesh.providers() == [keys("AAAA")] * 9)
        assert issuer.most_waiting == 3


async def test_an_address_that_is_blocked_is_not_called_by_number_either(tmp_path):
    async with running(tmp_path, blocked="127.0.0.0/8") as mesh:
        port = mesh.issuer.url.rpartition(":")[2]
        mesh.demands(*(f"https://{host}:{port}/a" for host in ("127.0.0.1", "[::ffff:127.0.0.1]", "2130706433")))

        await mesh.until(lambda: len(mesh.findings()) == 3)

        assert mesh.issuer.asked == []


async def test_where_only_the_control_plane_may_fetch_tokens_prove_nothing_before(tmp_path):
    async with running(tmp_path, KeySource.CONTROL_PLANE) as mesh:
        mesh.demands(f"{mesh.issuer.url}/a")
        await mesh.until(mesh.findings)
        assert mesh.providers() == []
        assert "prove nothing" in mesh.findings()[0]

        mesh.issuer.sets["/a"] = keys("AAAA")

        await mesh.until(lambda: mesh.providers() == [keys("AAAA")])


async def test_where_proxies_fetch_the_control_plane_does_not(tmp_path):
    async with running(tmp_path, KeySource.PROXIES) as mesh:
        mesh.demands(f"{mesh.issuer.url}/a")

        await mesh.until(lambda: mesh.providers() == [f"{mesh.issuer.url}/a"])

        assert mesh.world.snapshot().key_addresses == ()


async def test_what_nobody_names_any_more_is_forgotten_and_fetched_no_more(tmp_path):
    async with running(tmp_path) as mesh:
        mesh.issuer.sets |= {"/a": keys("AAAA"), "/b": keys("BBBB")}
        mesh.demands(f"{mesh.issuer.url}/a", name="first")
        mesh.demands(f"{mesh.issuer.url}/b", name="second")
        await mesh.until(lambda: mesh.providers() == [keys("AAAA"), keys("BBBB")])

        mesh.forget("first")
        await mesh.until(lambda: mesh.providers() == [keys("BBBB")])
        mesh.issuer.asked.clear()
        await mesh.until(lambda: len(mesh.issuer.asked) >= 3)

        assert mesh.issuer.asked.count("/a") <= 1


def document(issuer: str, keys_at: str) -> str:
    return json.dumps({"issuer": issuer, "jwks_uri": keys_at})


@pytest.mark.parametrize("source", KeySource)
@pytest.mark.parametrize("slash", ["", "/"])
async def test_an_issuer_says_itself_where_its_keys_are(tmp_path, source, slash):
    """Proxies cannot follow it: the control plane does, whoever fetches keys otherwise."""
    async with running(tmp_path, source) as mesh:
        name = mesh.issuer.url + slash
        mesh.issuer.sets |= {"/keys": keys("AAAA"), WELL_KNOWN: document(name, f"{mesh.issuer.url}/keys")}

        mesh.believes(name)

        await mesh.until(lambda: mesh.providers() == [keys("AAAA")])
        assert mesh.findings() == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "404"),
        ("{", "not a JSON document"),
        ("{}", "no jwks_uri"),
        ('{"issuer": "https://other", "jwks_uri": "https://other/keys"}', "another issuer"),
        ('{"issuer": "ISSUER", "jwks_uri": "file:///etc/passwd"}', "begins with http"),
        ('{"issuer": "ISSUER", "jwks_uri": "https://169.254.169.254/latest"}', "BLOCKED_CIDRS_IN_JWKS_URIS"),
    ],
)
async def test_an_issuers_document_that_leads_nowhere_proves_nothing_and_is_told(tmp_path, answer, why):
    async with running(tmp_path, blocked="169.254.0.0/16") as mesh:
        if answer is not None:
            mesh.issuer.sets[WELL_KNOWN] = answer.replace("ISSUER", mesh.issuer.url)
        mesh.believes(mesh.issuer.url)

        await mesh.until(lambda: any(why in what for what in mesh.findings()))

        assert mesh.providers() == []
        assert "prove nothing" in mesh.findings()[0]


async def test_a_control_plane_that_starts_while_an_issuer_is_away_goes_on_with_the_keys_of_before(tmp_path):
    async with serving(tmp_path) as issuer:
        issuer.sets["/a"] = keys("AAAA")
        async with control_plane(issuer, tmp_path) as before:
            before.demands(f"{issuer.url}/a")
            await before.until(lambda: before.providers() == [keys("AAAA")])

        issuer.is_away = True
        async with control_plane(issuer, tmp_path, KeySource.CONTROL_PLANE) as after:
            after.demands(f"{issuer.url}/a")
            await after.until(lambda: after.providers() == [keys("AAAA")])
            await after.until(lambda: any("stay in use" in what for what in after.findings()))
            assert str(datetime.now(UTC).year) in after.findings()[0], "since when"

        async with control_plane(issuer, tmp_path, KeySource.CONTROL_PLANE, later=timedelta(days=8)) as much_later:
            much_later.demands(f"{issuer.url}/a")
            await much_later.until(
                lambda: any("prove nothing" in what and "asked" not in what for what in much_later.findings())
            )
            assert much_later.providers() == []


KEPT = json.dumps({"https://i/a": {"jwks": keys("AAAA"), "at": "2030-01-01T00:00:00Z"}})


@pytest.mark.parametrize(
    "content",
    ["{", "[]", KEPT.replace(json.dumps(keys("AAAA")), '"{}"'), KEPT.replace("Z", ""), KEPT.replace("2030", "2029")],
)
def test_a_file_that_is_not_of_keys_is_as_none(tmp_path, content):
    (tmp_path / "token-keys").write_text(content)

    kept = KeptKeys(str(tmp_path), lambda: datetime(2030, 1, 2, tzinfo=UTC))

    assert kept.recalled("https://i/a") is None


def test_what_nobody_asks_for_any_more_is_not_kept(tmp_path):
    now = datetime(2030, 1, 2, tzinfo=UTC)
    kept = KeptKeys(str(tmp_path), lambda: now)
    kept.keep("https://i/a", keys("AAAA"))
    kept.keep("https://i/b", keys("BBBB"))
    kept.forget("https://i/a")

    again = KeptKeys(str(tmp_path), lambda: now)

    assert again.recalled("https://i/a") is None
    assert again.recalled("https://i/b") == KeptSet(keys("BBBB"), now)
    assert (tmp_path / "token-keys").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("bound", "value"), [("_ADDRESSES_MAX", 2), ("_BYTES_MAX", 400)])
def test_more_than_is_kept_leaves_the_file_as_it_was(tmp_path, monkeypatch, bound, value):
    monkeypatch.setattr(f"isthmus.controlplane.kept_keys.{bound}", value)
    now = datetime(2030, 1, 2, tzinfo=UTC)
    kept = KeptKeys(str(tmp_path), lambda: now)
    for name in "abcd":
        kept.keep(f"https://i/{name}", keys("AAAA"))

    again = KeptKeys(str(tmp_path), lambda: now)

    assert [again.recalled(f"https://i/{name}") is not None for name in "abcd"] == [True, True, False, False]


def test_a_file_that_is_larger_than_any_of_ours_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "token-keys").write_text(KEPT)
    monkeypatch.setattr("isthmus.controlplane.kept_keys._BYTES_MAX", len(KEPT) - 1)

    kept = KeptKeys(str(tmp_path), lambda: datetime(2030, 1, 2, tzinfo=UTC))

    assert kept.recalled("https://i/a") is None
