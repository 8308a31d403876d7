"""The webhooks' port, over TLS, as an API server calls it and as an attacker does."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from isthmus.controlplane.shown import Shown
from isthmus.controlplane.webhooks import Webhooks, serving_webhooks
from isthmus.injection.settings import InjectionSettings
from isthmus.model.identity import TrustDomain
from isthmus.model.names import Namespace
from isthmus.model.proxy_config import ProxyConfig, ProxyConfigRule, ProxyConfigs
from isthmus.trust.authority import CertificateAuthority

NAME = "istiod.istio-system.svc"
POD = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "app", "image": "i"}]}}
SETTINGS = InjectionSettings(
    cluster="east",
    network="",
    mesh="mesh1",
    trust_domain="cluster.local",
    system_namespace="istio-system",
    discovery_address=f"{NAME}:15012",
    image="isthmus/proxy:1",
)


class Caller:
    """Trusts the authority and checks the name, as an API server does with caBundle and Service."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def post(self, path: str, body: Any, content_type: str = "application/json") -> tuple[int, str]:
        data = body if isinstance(body, bytes) or hasattr(body, "__aiter__") else json.dumps(body).encode()
        headers = {"Content-Type": content_type}
        async with self._session.post(self._url + path, data=data, headers=headers, server_hostname=NAME) as response:
            return response.status, await response.text()

    async def reviewed(self, path: str, item: Any) -> dict[str, Any]:
        request = {"uid": "u", "operation": "CREATE", "namespace": "shop", "object": item}
        code, text = await self.post(
            path, {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        )
        assert code == 200, text
        found: dict[str, Any] = json.loads(text)["response"]
        return found


@pytest.fixture
def authority() -> CertificateAuthority:
    return CertificateAuthority.self_signed(TrustDomain.parse("cluster.local"), datetime.now(UTC))


@asynccontextmanager
async def calling(authority: CertificateAuthority, proxies: Callable[[], ProxyConfigs]) -> AsyncIterator[Caller]:
    async with serving_webhooks(
        Webhooks(SETTINGS, proxies, lambda *_: ""), Shown([NAME], authority, lambda: datetime.now(UTC)), "127.0.0.1", 0
    ) as port:
        trusting = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=authority.root_pem))
        async with aiohttp.ClientSession(connector=trusting) as session:
            yield Caller(session, f"https://127.0.0.1:{port}")


@pytest.fixture
async def caller(authority: CertificateAuthority) -> AsyncIterator[Caller]:
    async with calling(authority, ProxyConfigs) as caller:
        yield caller


def patch_of(answer: dict[str, Any]) -> str:
    return base64.b64decode(answer["patch"]).decode()


async def test_pods_get_the_cluster_and_network_of_the_path(caller):
    found = await caller.reviewed("/inject/cluster/west/net/n2", POD)

    patch = base64.b64decode(found["patch"]).decode()
    assert '"topology.istio.io/network":"n2"' in patch
    assert '{"name":"ISTIO_META_CLUSTER_ID","value":"west"}' in patch


async def test_objects_are_validated(caller):
    wrong = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "a"}, "spec": {"no": 1}}

    assert not (await caller.reviewed("/validate", wrong))["allowed"]


async def test_bad_requests_are_answered_and_the_next_one_is_served(caller):
    assert (await caller.post("/inject/town/x", {}))[0] == 404
    assert (await caller.post("/elsewhere", {}))[0] == 404
    assert (await caller.post("/inject", b"{", "text/plain"))[0] == 415
    assert (await caller.post("/validate", b"{"))[0] == 400
    assert (await caller.post("/validate", b"[" * 1_000_000))[0] == 400
    assert (await caller.post("/inject", b" " * (9 * 1024 * 1024)))[0] == 413
    assert (await caller.reviewed("/inject", POD))["allowed"]


async def test_callers_that_never_end_their_bodies_are_turned_away_and_hold_nothing(caller):
    """As many as may be asked at once do not end; one more is told to come back, and once they are gone all is as before."""
    begun = asyncio.Semaphore(0)
    forever = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        begun.release()
        await forever.wait()

    async with asyncio.TaskGroup() as tasks:
        slow = [tasks.create_task(caller.post("/validate", endless()), name="slow") for _ in range(64)]
        for _ in slow:
            await begun.acquire()
        async with asyncio.timeout(60):
            while (await caller.post("/validate", {}))[0] != 503:  # noqa: ASYNC110 - the server says when
                await asyncio.sleep(0)
        for task in slow:
            task.cancel()
    async with asyncio.timeout(60):
        while (await caller.post("/validate", {}))[0] == 503:  # noqa: ASYNC110 - the server says when
            await asyncio.sleep(0)


async def test_a_body_that_does_not_come_is_not_waited_for(caller, monkeypatch):
    monkeypatch.setattr("isthmus.controlplane.webhooks._BODY_SECONDS", 0.1)
    forever = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        await forever.wait()

    async with asyncio.timeout(60):
        assert (await caller.post("/validate", endless()))[0] == 408


async def test_pods_are_run_as_the_mesh_says_now(authority):
    said = [ProxyConfigs()]
    async with calling(authority, lambda: said[0]) as caller:
        before = await caller.reviewed("/inject", POD)
        rule = ProxyConfigRule(created="", namespace=Namespace("shop"), name="two", config=ProxyConfig(concurrency=2))
        said[0] = ProxyConfigs(rules=(rule,))
        after = await caller.reviewed("/inject", POD)

    assert '"concurrency"' not in patch_of(before)
    assert '\\"concurrency\\":2' in patch_of(after)


async def test_what_a_pod_says_without_effect_is_told_to_whoever_makes_it(caller):
    pod = POD | {"metadata": {"name": "a", "annotations": {"proxy.istio.io/config": "statNameLength: 10"}}}

    answer = await caller.reviewed("/inject", pod)

    assert answer["allowed"]
    assert answer["warnings"] == [
        "annotation proxy.istio.io/config: statNameLength has no effect: names of statistics have no length limit"
    ]
