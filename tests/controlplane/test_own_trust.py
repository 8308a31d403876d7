"""A control plane asks its proxies, and answers how far they are: by what each stream has acknowledged, not by what it was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.controlplane import own_trust as module
from isthmus.controlplane.authority import AuthorityInUse, subject_of_authority
from isthmus.controlplane.own_trust import OwnTrustDuty, how_far
from isthmus.controlplane.shown import Shown
from isthmus.controlplane.world import World
from isthmus.envoy.own_trust import own_trust
from isthmus.envoy.resources import LISTENER, OWN_TRUST, ResourceSet
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.snapshot import MeshSettings
from isthmus.model.trust import OwnTrust
from isthmus.trust import rotation, x509
from isthmus.trust.authority import CertificateAuthority
from isthmus.trust.x509 import certificate_pem, key_pem
from isthmus.xds.directory import CallFacts, Streams
from isthmus.xds.node import NodeClaims
from isthmus.xds.session import Session

DOMAIN, SYSTEM, EAST = TrustDomain.parse("cluster.local"), Namespace("istio-system"), ClusterId("east")
CONFIG_MAPS = f"/api/v1/namespaces/{SYSTEM}/configmaps"
ASKED = OwnTrust(roots=("a", "b"), proved=("b",))


def node(name: str) -> NodeClaims:
    return NodeClaims(
        id=f"sidecar~10.0.0.1~{name}.shop~shop.svc.cluster.local",
        metadata={"CLUSTER_ID": "west"},
        locality=("", "", ""),
        user_agent="",
    )


class Client:
    """One stream of a proxy's agent (or Envoy), as the control plane has it."""

    def __init__(self, streams: Streams, name: str, type_url: str = OWN_TRUST) -> None:
        self.session = Session(delta=True)
        self.nonce = 0
        streams.add(node(name), CallFacts(metadata={}, peer_certificate="", peer=""), self.session)
        self.session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=type_url))

    def told(self, asked: OwnTrust) -> None:
        resources = {resource.name: resource for _, resource in own_trust(asked)}
        self.nonce += len(self.session.publish(ResourceSet({OWN_TRUST: resources, LISTENER: {}})))

    def answers(self, why: str = "") -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=OWN_TRUST, response_nonce=str(self.nonce))
        if why:
            request.error_detail.message = why
        self.session.receive(request)


def waiting(streams: Streams, asked: OwnTrust = ASKED) -> dict[str, str]:
    return {each.proxy: each.why for each in how_far(streams.all, asked)[1]}


def test_a_proxy_is_there_when_its_agent_has_acknowledged_just_what_is_asked():
    streams = Streams()
    agent = Client(streams, "web")
    Client(streams, "web", LISTENER)

    agent.told(ASKED)
    assert waiting(streams) == {"web.shop": "it has not acknowledged yet"}
    agent.answers()
    assert waiting(streams) == {}
    assert how_far(streams.all, ASKED)[0] == 1, "two streams, one proxy"
    assert waiting(streams, OwnTrust(roots=("b",))) == {"web.shop": "it has not acknowledged yet"}, (
        "it was not told that"
    )


def test_what_an_agent_cannot_do_is_told_and_it_may_acknowledge_later():
    streams = Streams()
    agent = Client(streams, "web")
    agent.told(ASKED)

    agent.answers("no handshake under root b")
    assert waiting(streams) == {"web.shop": "no handshake under root b"}
    agent.answers("Envoy has not acknowledged its secrets")
    assert waiting(streams) == {"web.shop": "Envoy has not acknowledged its secrets"}
    agent.answers()
    assert waiting(streams) == {}


def test_an_envoy_without_its_agent_proves_nothing():
    streams = Streams()
    Client(streams, "web", LISTENER).told(ASKED)

    assert "its agent is not connected" in waiting(streams)["web.shop"]


@pytest.fixture
def use() -> AuthorityInUse:
    first = CertificateAuthority.self_signed(DOMAIN, datetime.now(UTC))
    return AuthorityInUse(first, subject_of_authority(EAST, SYSTEM, ""), lambda _: None)


@asynccontextmanager
async def on_duty(cluster: Any, use: AuthorityInUse, streams: Streams) -> AsyncIterator[World]:
    world = World(MeshSettings(mesh=MeshId("m"), trust_domain=DOMAIN, root_namespace=SYSTEM), EAST)
    async with ApiClient(ApiAddress(server=cluster.url)) as client, asyncio.TaskGroup() as tasks:
        duty = OwnTrustDuty(
            client,
            world,
            use,
            Shown(["x"], use.current, lambda: datetime.now(UTC)),
            streams,
            name="istiod-1",
            cluster=EAST,
            namespace=SYSTEM,
        )
        task = tasks.create_task(duty.run(), name="duty")
        yield world
        task.cancel()


async def until(holds: Any) -> Any:
    for _ in range(6000):
        if found := holds():
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("not in a minute")


def answer(cluster: Any) -> Any:
    found = cluster.collections.get("/api/v1/configmaps", {}).get((SYSTEM, rotation.REPORTS))
    return json.loads(found["data"]["istiod-1"]) if found and found["data"] else None


def files(authority: CertificateAuthority) -> dict[str, str]:
    return {
        "ca-cert.pem": authority.authority_pem,
        "ca-key.pem": key_pem(authority.issuer.key),
        "root-cert.pem": authority.root_pem,
    }


async def test_proxies_are_asked_for_the_roots_and_to_let_in_the_next_one(fake_cluster, use):
    cluster, old = await fake_cluster(), x509.fingerprint(use.current.root)
    following = CertificateAuthority.self_signed(DOMAIN, datetime.now(UTC))
    new = x509.fingerprint(following.root)

    async with on_duty(cluster, use, Streams()) as world:
        await until(lambda: world.settings.own_trust == OwnTrust(roots=(old,)))
        use.prepare(files(following))
        both = files(use.current) | {"root-cert.pem": use.current.root_pem + certificate_pem(following.root)}
        use.offer(both)
        await until(lambda: world.settings.own_trust == OwnTrust(roots=tuple(sorted((old, new))), proved=(new,)))
        use.offer(files(following) | {"root-cert.pem": both["root-cert.pem"]})
        record = {old: {"state": "tainted", "since": "2026-03-01T12:00:00Z"}}
        await cluster.put(CONFIG_MAPS, rotation.CONFIG_MAP, SYSTEM, data={"roots": json.dumps(record)})
        await until(lambda: world.settings.own_trust.tainted == (old,))
        await cluster.put(CONFIG_MAPS, rotation.CONFIG_MAP, SYSTEM, data={"roots": "torn"})
        await until(lambda: world.settings.own_trust.tainted == ())


async def test_a_question_is_answered_but_not_before_proxies_of_before_a_start_may_be_back(
    fake_cluster, use, monkeypatch
):
    monkeypatch.setattr(module, "COMING_BACK_SECONDS", 1.0)
    cluster, streams = await fake_cluster(), Streams()
    cluster.collections["/api/v1/configmaps"] = {(str(SYSTEM), rotation.REPORTS): {"metadata": {}, "data": {}}}
    await cluster.put(CONFIG_MAPS, rotation.CONFIG_MAP, SYSTEM, data={"question": "how far?"})

    async with on_duty(cluster, use, streams) as world:
        await until(lambda: world.settings.own_trust.roots)
        agent = Client(streams, "web")
        found = await until(lambda: answer(cluster))
        assert (found["question"], found["proxies"], found["behindTotal"]) == ("how far?", 1, 1)
        assert found["behind"][0]["proxy"] == "web.shop"
        agent.told(world.settings.own_trust)
        agent.answers()
        await cluster.put(CONFIG_MAPS, rotation.CONFIG_MAP, SYSTEM, data={"question": "and now?"})
        await until(lambda: answer(cluster)["question"] == "and now?")

    found = answer(cluster)
    root = x509.fingerprint(use.current.root)
    assert (found["proxies"], found["behindTotal"]) == (1, 0)
    assert (found["signsUnder"], found["shows"], found["roots"]) == (root, root, [root])
