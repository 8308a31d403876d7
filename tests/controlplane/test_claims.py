"""What a proxy says of itself against what it has proved: a stream that claims more is refused before anything is computed for it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from isthmus.api.networking import WorkloadGroup
from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.machines import Machines
from isthmus.controlplane.world import ImportedCluster, World
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ImportState
from isthmus.trust import x509
from isthmus.trust.authentication import Authenticator, CannotReview, ServiceAccount
from isthmus.trust.authority import CertificateAuthority
from isthmus.xds.directory import CallFacts, Refused
from isthmus.xds.node import NodeClaims

DOMAIN, EAST = TrustDomain("cluster.local"), ClusterId("east")
ACCOUNTS = {(EAST, "token"): ServiceAccount(Namespace("shop"), "cart"), (ClusterId("west"), "west-token"): None}


async def review(token: str, cluster: ClusterId) -> ServiceAccount | None:
    if token == "slow":
        raise CannotReview("it does not answer")
    if cluster not in ("east", "west"):
        raise KeyError(cluster)
    return ACCOUNTS.get((cluster, token))


def group(account: str) -> WorkloadGroup:
    return msgspec.convert({"spec": {"template": {"serviceAccount": account}}}, WorkloadGroup)


async def admitted(call: CallFacts, node_id: str = "sidecar~10.0.0.1~cart-1.shop~shop.svc", **said: str) -> str:
    """The code of the refusal, or OK."""
    world, east = World(MeshSettings(mesh=MeshId("m"), trust_domain=DOMAIN), EAST), ImportedCluster()
    east.state = ImportState.LIVE
    east.objects["WorkloadGroup"] = {("shop", "carts"): group("cart"), ("shop", "vaults"): group("vault")}
    world.put(EAST, east)
    machines = Machines(world, me="east/istiod", system_namespace=Namespace("istio-system"), grace_seconds=10)
    delivery = Delivery(world, Authenticator(DOMAIN, EAST, review, lambda: 0.0), machines)
    claims = NodeClaims(id=node_id, metadata={"CLUSTER_ID": "east"} | said, locality=("", "", ""), user_agent="")
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(delivery.run(), name="delivery")
        try:
            delivery.gone(await delivery.admit(claims, call))
        except Refused as refused:
            return refused.code
        finally:
            running.cancel()
    return "OK"


def by_token(token: str = "token", **metadata: str) -> CallFacts:
    return CallFacts(metadata={"authorization": f"Bearer {token}"} | metadata, peer_certificate="", peer="p")


def by_certificate(identity: str) -> CallFacts:
    now = datetime.now(UTC)
    authority = CertificateAuthority.self_signed(DOMAIN, now)
    chain = authority.sign(x509.new_request(x509.new_key()), SpiffeId.parse(identity), now, timedelta(hours=1))
    return CallFacts(metadata={}, peer_certificate=chain[0], peer="p")


CART = "spiffe://cluster.local/ns/shop/sa/cart"
OTHER_ID = "sidecar~10.0.0.1~cart-1.bank~bank.svc"


@pytest.mark.parametrize("call", [by_token(), by_certificate(CART)], ids=["token", "certificate"])
@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({}, "OK"),
        ({"NAMESPACE": "shop", "SERVICE_ACCOUNT": "cart"}, "OK"),
        ({"NAMESPACE": "bank"}, "PERMISSION_DENIED"),
        ({"node_id": OTHER_ID}, "PERMISSION_DENIED"),
        ({"node_id": OTHER_ID, "NAMESPACE": "shop"}, "PERMISSION_DENIED"),
        ({"node_id": "router~10.0.0.1~gw.istio-system~x", "NAMESPACE": "shop"}, "PERMISSION_DENIED"),
        ({"SERVICE_ACCOUNT": "admin"}, "PERMISSION_DENIED"),
        ({"node_id": "x"}, "INVALID_ARGUMENT"),
    ],
)
async def test_a_proxy_is_of_the_namespace_and_account_that_it_has_proved(call: CallFacts, said: Any, code: str):
    assert await admitted(call, **said) == code


@pytest.mark.parametrize(
    ("call", "said", "code"),
    [
        (by_token(clusterid="west"), {}, "UNAUTHENTICATED"),
        (by_token("west-token", clusterid="west"), {}, "UNAUTHENTICATED"),
        (by_token(), {"CLUSTER_ID": "west"}, "PERMISSION_DENIED"),
        (by_token(clusterid="nowhere"), {}, "UNAUTHENTICATED"),
        (by_token("slow"), {}, "UNAVAILABLE"),
        (by_token(""), {}, "UNAUTHENTICATED"),
        (CallFacts(metadata={}, peer_certificate="", peer="p"), {}, "UNAUTHENTICATED"),
        (by_certificate("spiffe://elsewhere/ns/shop/sa/cart"), {}, "UNAUTHENTICATED"),
        (by_certificate("spiffe://cluster.local/gateway"), {}, "PERMISSION_DENIED"),
    ],
    ids=range(9),
)
async def test_who_has_proved_nothing_for_this_cluster_gets_no_configuration(call: CallFacts, said: Any, code: str):
    assert await admitted(call, **said) == code


@pytest.mark.parametrize(
    ("said", "code"),
    [({"AUTO_REGISTER_GROUP": "carts"}, "OK"), ({"AUTO_REGISTER_GROUP": "vaults"}, "FAILED_PRECONDITION")],
)
async def test_a_machine_is_let_in_as_one_of_a_group_that_its_account_belongs_to(said, code):
    assert await admitted(by_token(), **said) == code
