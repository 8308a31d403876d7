"""Host names of network gateways: what the mesh knows of them as name servers answer, answer differently, and do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from isthmus.api.core import Service
from isthmus.api.registry import KINDS, decode
from isthmus.controlplane.host_names import HostNames
from isthmus.controlplane.world import ImportedCluster, World
from isthmus.dns.client import Found, LookupFailed
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ImportState

pytestmark = pytest.mark.looptime(start=0)

WEST = ClusterId("west")
NAME = "lb.example.com"


class Zone:
    """What name servers know, and what they were asked. A family that is None has no answer."""

    def __init__(self) -> None:
        self.a: list[str] | None = ["192.0.2.1"]
        self.aaaa: list[str] | None = []
        self.seconds = 60.0
        self.asked: list[float] = []

    async def look_up(self, name: str, kind: str) -> Found:
        assert name == NAME
        if kind == "A":
            self.asked.append(asyncio.get_running_loop().time())
        known = self.a if kind == "A" else self.aaaa
        if known is None:
            raise LookupFailed("the name server answers SERVFAIL")
        return Found(tuple(sorted(known)), self.seconds)


@pytest.fixture
def zone() -> Zone:
    return Zone()


def gateway_service(name: str = NAME) -> Service:
    found = decode(
        KINDS["Service"],
        {
            "metadata": {"name": "gw", "namespace": "istio-system", "labels": {"topology.istio.io/network": "n2"}},
            "spec": {"ports": [{"name": "tls", "port": 15443}]},
            "status": {"loadBalancer": {"ingress": [{"hostname": name}]}},
        },
    )
    assert isinstance(found, Service)
    return found


@pytest.fixture
def world() -> World:
    settings = MeshSettings(
        mesh=MeshId("mesh1"), trust_domain=TrustDomain("cluster.local"), root_namespace=Namespace("istio-system")
    )
    world, west = World(settings, WEST), ImportedCluster()
    west.state = ImportState.LIVE
    west.objects["Service"] = {("istio-system", "gw"): gateway_service()}
    world.put(WEST, west)
    return world


@asynccontextmanager
async def resolving(world: World, zone: Zone) -> AsyncIterator[None]:
    names = HostNames(world, zone.look_up)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(names.run())
        await names.first_round()
        yield
        running.cancel()


def gateways(world: World) -> list[str]:
    return [str(each) for found in world.snapshot().gateways.values() for each in found]


def said(world: World) -> list[str]:
    return [issue.what for issue in world.snapshot().issues if issue.code == "ISM0105"]


async def test_a_network_is_entered_at_every_address_of_the_name_from_the_first_snapshot_on(world, zone):
    zone.aaaa = ["2001:db8::1"]
    async with resolving(world, zone):
        assert gateways(world) == ["192.0.2.1:15443", "2001:db8::1:15443"]
        assert said(world) == []


async def test_a_changed_answer_is_delivered_when_the_old_one_has_ended(world, zone):
    async with resolving(world, zone):
        gateways(world)
        world.changed.clear()
        zone.a = ["192.0.2.7"]

        await world.changed.wait()

        assert gateways(world) == ["192.0.2.7:15443"]
        assert asyncio.get_running_loop().time() == 60


async def test_an_equal_answer_says_nothing(world, zone):
    async with resolving(world, zone):
        gateways(world)
        world.changed.clear()

        await asyncio.sleep(600)

        assert not world.changed.is_set()
        assert len(zone.asked) > 9


@pytest.mark.parametrize(("seconds", "again"), [(0.0, 30), (29.0, 30), (45.0, 45), (86400.0, 3600)])
async def test_answers_hold_as_long_as_they_say_but_within_bounds(world, zone, seconds, again):
    zone.seconds = seconds
    async with resolving(world, zone):
        await asyncio.sleep(again + 1)

    assert zone.asked == [0, again]


async def test_without_an_answer_the_addresses_of_before_stay_and_it_is_said(world, zone):
    async with resolving(world, zone):
        zone.a = None
        await asyncio.sleep(61)

        assert gateways(world) == ["192.0.2.1:15443"]
        [what] = said(world)
        assert "SERVFAIL" in what
        assert "192.0.2.1 of before stays" in what

        zone.a = ["192.0.2.9"]
        await asyncio.sleep(5)

        assert gateways(world) == ["192.0.2.9:15443"]
        assert said(world) == []


async def test_a_name_that_has_lost_all_addresses_keeps_those_of_before(world, zone):
    async with resolving(world, zone):
        zone.a = []
        await asyncio.sleep(61)

        assert gateways(world) == ["192.0.2.1:15443"]
        assert "it has no address" in said(world)[0]


async def test_a_name_server_that_answers_for_one_family_only_is_enough(world, zone):
    zone.aaaa = None
    async with resolving(world, zone):
        assert gateways(world) == ["192.0.2.1:15443"]
        assert said(world) == []


async def test_a_name_without_any_answer_leaves_the_network_without_gateway_and_says_so(world, zone):
    zone.a = zone.aaaa = None
    async with resolving(world, zone):
        assert gateways(world) == []
        assert f"the host name {NAME}, which has no address: the name server answers SERVFAIL" in said(world)[0]


async def test_a_name_that_is_gone_is_asked_for_no_longer(world, zone):
    async with resolving(world, zone):
        west = world.clusters[WEST]
        west.objects["Service"][("istio-system", "gw")] = gateway_service("192.0.2.50")
        world.touched(west, "Service", [("istio-system", "gw")])

        assert gateways(world) == ["192.0.2.50:15443"]
        await asyncio.sleep(600)

    assert zone.asked == [0]


def test_where_nobody_asks_name_servers_it_is_said(world):
    assert gateways(world) == []
    assert "RESOLVE_HOSTNAME_GATEWAYS" in said(world)[0]
