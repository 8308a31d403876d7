"""Two control planes that publish their bundles and follow each other's, with API servers that remember; and an endpoint that changes its mind."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from isthmus.api.registry import KINDS, decode
from isthmus.controlplane.authority import AuthorityInUse
from isthmus.controlplane.bundle_endpoint import PublishedBundle
from isthmus.controlplane.bundle_following import BundleFollower
from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.machines import Machines
from isthmus.controlplane.trust_records import TrustRecords
from isthmus.controlplane.world import ImportedCluster, World
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.doors import Handshakes
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.issues import Subject
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ImportState
from isthmus.trust import x509
from isthmus.trust.authentication import Authenticator
from isthmus.trust.authority import CertificateAuthority, ServingCertificate
from isthmus.trust.bundle_client import tls_context
from isthmus.trust.spiffe_bundle import render_json_bundle

HOME = ClusterId("east")
A, B = TrustDomain.parse("a.example"), TrustDomain.parse("b.example")
SYSTEM = Namespace("istio-system")
CONFIG_MAPS = "/api/v1/configmaps"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as the endpoints wish."""
    monkeypatch.setattr("isthmus.trust.federation.REFRESH_MIN", timedelta(milliseconds=50))
    monkeypatch.setattr("isthmus.trust.federation._RETRY_MIN", timedelta(milliseconds=50))


def authority_of(domain: TrustDomain) -> CertificateAuthority:
    return CertificateAuthority.self_signed(domain, datetime.now(UTC))


def with_two_roots(one: CertificateAuthority, other: CertificateAuthority) -> CertificateAuthority:
    return CertificateAuthority(one.issuer, one.root_pem + other.root_pem)


class ControlPlane:
    """As much of one as is about bundles. What it is told is its ConfigMap `istio`."""

    def __init__(self, domain: TrustDomain, api: Any, authority: CertificateAuthority) -> None:
        self.domain, self.api = domain, api
        subject = Subject(HOME, "Secret", SYSTEM, "cacerts")
        self.use = AuthorityInUse(authority, subject, lambda _: None)
        self.world = World(MeshSettings(mesh=MeshId("m"), trust_domain=domain), HOME)
        self.imported = ImportedCluster()
        self.imported.state = ImportState.LIVE
        self.world.put(HOME, self.imported)
        self.port = 0
        self.published: PublishedBundle | None = None

    def document(self) -> bytes:
        """What is published now."""
        return self.published.document if self.published is not None else b""

    @property
    def identity(self) -> SpiffeId:
        return SpiffeId.of_service_account(self.domain, SYSTEM, "istiod")

    def told(self, **data: str) -> None:
        body = {"metadata": {"name": "istio", "namespace": SYSTEM}, "data": data}
        found = self.imported.objects.setdefault("ConfigMap", {})
        found[SYSTEM, "istio"] = decode(KINDS["ConfigMap"], body)
        self.world.touched(self.imported, "ConfigMap", [(SYSTEM, "istio")])

    def believes(self, domain: TrustDomain) -> set[bytes]:
        """Whom its proxies are to believe for a trust domain."""
        return {
            der for each, found in self.world.snapshot().settings.peer_authorities if each == domain for der in found
        }

    def is_told(self, domain: TrustDomain, authorities: set[bytes]) -> bool:
        return self.believes(domain) == authorities

    def findings(self) -> list[str]:
        return [issue.what for issue in self.world.snapshot().issues if issue.code == "ISM0209"]

    def remembers(self, key: str) -> str:
        found = self.api.collections.get(CONFIG_MAPS, {}).get((SYSTEM, "isthmus-bundles"), {})
        return str((found.get("data") or {}).get(key, ""))

    @asynccontextmanager
    async def running(self, web_trust: ssl.SSLContext | None = None) -> AsyncIterator[None]:
        async def nobody(token: str, cluster: ClusterId) -> None:
            return None

        machines = Machines(self.world, me="east/istiod", system_namespace=SYSTEM, grace_seconds=10)
        delivery = Delivery(self.world, Authenticator(self.domain, HOME, nobody, lambda: 0.0, {}), machines)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(ApiClient(ApiAddress(server=self.api.url)))
            records = TrustRecords(client, SYSTEM)
            follower = BundleFollower(
                self.world,
                delivery,
                records,
                home=self.domain,
                web=web_trust or tls_context([]),
                own_roots=lambda: self.use.current.root_pem,
                subject=Subject(HOME, "ConfigMap", SYSTEM, "istio"),
            )
            published = PublishedBundle(
                self.use,
                records,
                identity=self.identity,
                refresh_hint_seconds=1,
                knows=lambda domain: domain in self.world.snapshot().settings.peer_trust_domains,
            )
            self.published = published
            self.port = await stack.enter_async_context(published.with_spiffe("127.0.0.1", 0))
            async with asyncio.TaskGroup() as tasks:
                work = [tasks.create_task(each) for each in (delivery.run(), follower.run(), published.follow())]
                try:
                    yield
                finally:
                    for each in work:
                        each.cancel()


async def until(holds: Callable[[], Any]) -> None:
    for _ in range(6000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not in a minute")


def der(authority: CertificateAuthority) -> set[bytes]:
    return set(x509.to_der(authority.root_pem))


def followed(control_plane: ControlPlane) -> dict[str, str]:
    """Keys of another one's ConfigMap: its endpoint, and the first bundle."""
    said = {
        "url": f"https://127.0.0.1:{control_plane.port}/",
        "profile": "https_spiffe",
        "identity": str(control_plane.identity),
    }
    domain = control_plane.domain
    return {
        f"trust-endpoint.{domain}": yaml.safe_dump(said),
        f"trust-bundle.{domain}": control_plane.use.current.root_pem,
    }


async def test_two_meshes_keep_each_others_bundle_through_a_change_of_roots(fake_cluster: Any) -> None:
    old, new = authority_of(A), authority_of(A)
    a = ControlPlane(A, await fake_cluster(), old)
    b = ControlPlane(B, await fake_cluster(), authority_of(B))
    async with a.running(), b.running():
        a.told(**followed(b))
        b.told(**followed(a))
        await until(lambda: '"state":"current"' in b.remembers(f"bundle.{A}"))
        first = json.loads(a.remembers("published"))["sequence"]
        assert b.believes(A) == der(old)

        for step in (with_two_roots(old, new), with_two_roots(new, old), new):
            before, expected = json.loads(b.remembers(f"bundle.{A}"))["sequence"], der(step)
            a.use.current = step
            for changed in a.use.changed:
                changed(step)
            await until(partial(b.is_told, A, expected))
            assert json.loads(b.remembers(f"bundle.{A}"))["sequence"] >= before

        assert json.loads(a.remembers("published"))["sequence"] > first
        assert a.believes(B) == der(b.use.current)
        assert b.findings() == []
        await until(lambda: a.remembers(f"asked.{B}") and b.remembers(f"asked.{A}"))


async def test_who_is_not_followed_back_sees_that_nobody_asks(fake_cluster: Any) -> None:
    a = ControlPlane(A, await fake_cluster(), authority_of(A))
    b = ControlPlane(B, await fake_cluster(), authority_of(B))
    async with a.running(), b.running():
        a.told(**followed(b))
        await until(lambda: '"state":"current"' in a.remembers(f"bundle.{B}"))

    assert a.remembers(f"asked.{B}") == ""
    assert b.remembers(f"asked.{A}") == "", "nor is it noted who asks without being believed"


async def test_the_last_good_bundle_survives_a_restart_without_the_endpoint_and_its_age_is_kept(
    fake_cluster: Any,
) -> None:
    api = await fake_cluster()
    b = ControlPlane(B, await fake_cluster(), authority_of(B))
    async with b.running():
        first = ControlPlane(A, api, authority_of(A))
        told = followed(b)
        async with first.running():
            first.told(**told)
            await until(lambda: '"state":"current"' in first.remembers(f"bundle.{B}"))
    fetched_at = json.loads(first.remembers(f"bundle.{B}"))["fetchedAt"]

    again = ControlPlane(A, api, authority_of(A))
    async with again.running():
        again.told(**told)
        await until(lambda: again.findings())
        believed = again.believes(B)
        await until(lambda: '"state":"stale"' in again.remembers(f"bundle.{B}"))

    assert believed == der(b.use.current)
    record = json.loads(again.remembers(f"bundle.{B}"))
    assert (record["fetchedAt"], record["refusal"]) == (fetched_at, "unreachable")
    assert f"the bundle of b.example is not renewed (unreachable), that of {fetched_at[:19]}" in again.findings()[0]


async def test_what_is_not_followed_any_more_is_forgotten(fake_cluster: Any) -> None:
    a = ControlPlane(A, await fake_cluster(), authority_of(A))
    b = ControlPlane(B, await fake_cluster(), authority_of(B))
    async with a.running(), b.running():
        a.told(**followed(b))
        await until(lambda: a.remembers(f"bundle.{B}"))
        a.told()
        await until(lambda: a.remembers(f"bundle.{B}") == "")

    assert (a.believes(B), a.findings()) == (set(), [])


class Fickle:
    """An https_web endpoint that says whatever it is told to."""

    def __init__(self) -> None:
        self.document = ""
        self.url = ""

    async def serve(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text=self.document) if self.document else web.Response(status=500)

    def say(self, *authorities: CertificateAuthority, sequence: int) -> None:
        keys = [json.loads(_published(each))["keys"][0] for each in authorities]
        self.document = json.dumps({"keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": 1})


def _published(authority: CertificateAuthority) -> str:
    return render_json_bundle(x509.parse_certificates(authority.root_pem))


@pytest.fixture
async def fickle(tmp_path: Path) -> AsyncIterator[tuple[Fickle, ssl.SSLContext]]:
    web_pki = authority_of(TrustDomain.parse("web.example"))
    shown: ServingCertificate = web_pki.serving_certificate(["127.0.0.1"], datetime.now(UTC))
    file = tmp_path / "shown.pem"
    file.write_text(shown.key_pem + shown.chain_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    found = Fickle()
    application = web.Application()
    application.router.add_get("/", found.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    found.url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
    yield found, tls_context([web_pki.root_pem])
    await runner.cleanup()


async def test_an_endpoint_of_istios_mesh_config_is_followed_and_cannot_go_back(
    fake_cluster: Any, fickle: tuple[Fickle, ssl.SSLContext]
) -> None:
    endpoint, web_trust = fickle
    one, two = authority_of(B), authority_of(B)
    a = ControlPlane(A, await fake_cluster(), authority_of(A))
    mesh = {"caCertificates": [{"spiffeBundleUrl": endpoint.url, "trustDomains": [str(B)]}]}
    async with a.running(web_trust):
        a.told(mesh=yaml.safe_dump(mesh))
        await until(lambda: any("status 500" in each for each in a.findings()))
        assert a.believes(B) == set(), "nothing was handed over, and nothing fetched"
        endpoint.say(one, sequence=5)
        await until(lambda: a.believes(B) == der(one))
        endpoint.say(one, two, sequence=6)
        await until(lambda: a.believes(B) == der(one) | der(two))
        endpoint.say(one, sequence=5)
        await until(lambda: any("sequence-went-back" in each for each in a.findings()))
        assert a.believes(B) == der(one) | der(two)
        endpoint.say(sequence=7)
        await until(lambda: a.believes(B) == set())

    assert [domain for domain, _ in a.world.snapshot().settings.peer_authorities] == []


async def test_the_document_is_served_to_anybody_as_json_and_nothing_else_is(fake_cluster: Any) -> None:
    a = ControlPlane(A, await fake_cluster(), authority_of(A))
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    async with a.running(), aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=anybody)) as session:
        await until(lambda: a.remembers("published"))

        async def ask(method: str, path: str) -> tuple[int, str, str]:
            async with session.request(method, f"https://127.0.0.1:{a.port}{path}") as response:
                return response.status, response.headers["Content-Type"], await response.text()

        status, kind, text = await ask("GET", "/")
        others = [
            (await ask(method, path))[0] for method, path in (("GET", "/x"), ("POST", "/"), ("PUT", "/bundle.json"))
        ]

    document = json.loads(text)
    assert (status, kind) == (200, "application/json; charset=utf-8")
    assert others == [404, 405, 405]
    assert set(document) == {"keys", "spiffe_sequence", "spiffe_refresh_hint"}
    assert [(key["use"], len(key["x5c"])) for key in document["keys"]] == [("x509-svid", 1)]


async def test_a_crowd_that_never_begins_tls_keeps_nobody_from_the_document(fake_cluster: Any) -> None:
    a, handshakes = ControlPlane(A, await fake_cluster(), authority_of(A)), Handshakes()
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    async with a.running(), aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=anybody)) as session:
        await until(lambda: a.remembers("published"))
        crowd = [await asyncio.open_connection("127.0.0.1", a.port) for _ in range(handshakes.at_once + 1)]

        async with asyncio.timeout(handshakes.seconds / 2):
            assert await crowd[0][0].read() == b"", "who came first makes room"
        async with session.get(f"https://127.0.0.1:{a.port}/") as response:
            assert response.status == 200
        for _, writer in crowd:
            writer.close()


async def test_the_sequence_grows_across_restarts_only_with_another_bundle(fake_cluster: Any) -> None:
    api, authority = await fake_cluster(), authority_of(A)

    async def published(current: CertificateAuthority) -> int:
        again = ControlPlane(A, api, current)
        async with again.running():
            await until(lambda: again.document())
        return int(json.loads(again.document())["spiffe_sequence"])

    first = await published(authority)
    assert await published(authority) == first
    assert await published(authority_of(A)) > first
    assert await published(authority) > first, "also back to one that there was before"
