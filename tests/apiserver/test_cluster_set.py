"""The controller of the cluster set on a real API server: what it makes is its own, and what others made stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import leading_control_plane
import pytest
from leading_control_plane import EAST, Leading, until

from isthmus.api.crds import all_crds
from isthmus.controlplane.cluster_set_writer import ClusterSetWriter
from isthmus.controlplane.world import ImportedCluster, World
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId
from isthmus.model.snapshot import ClusterSet, MeshSettings
from isthmus.model.topology import ImportState

MERGE = "application/merge-patch+json"
MULTICLUSTER = "/apis/multicluster.x-k8s.io/v1alpha1/namespaces/shop"
EXPORTS, IMPORTS = f"{MULTICLUSTER}/serviceexports", f"{MULTICLUSTER}/serviceimports"
SERVICES = "/api/v1/namespaces/shop/services"
SETTINGS = MeshSettings(
    mesh=MeshId("m"), trust_domain=TrustDomain("cluster.local"), cluster_set=ClusterSet(exports=True, hosts=True)
)
WEST = ClusterId("west")


def named(name: str, **said: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **said}


@pytest.fixture
async def cluster(fresh_server, connected):
    async with connected(fresh_server) as api:
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        await asyncio.gather(*(api.made(definitions, each) for each in all_crds()))
        for name in ("shop", "istio-system"):
            await api.call("POST", "/api/v1/namespaces", named(name))
        yield api, fresh_server


class Running:
    """A control plane of east that leads, and reads no other cluster; what it knows of west is put into its world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.knows_all = True

    def west_has(self, east: ImportedCluster, *kinds: str) -> None:
        """The same objects of these kinds as east has now."""
        west = ImportedCluster()
        west.state = ImportState.LIVE
        west.objects = {kind: dict(east.objects.get(kind, {})) for kind in kinds}
        self.world.put(WEST, west)


@asynccontextmanager
async def control_plane(server: Any) -> AsyncIterator[Running]:
    running: list[Running] = []

    def writers(leading: Leading) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        running.append(Running(leading.world))
        writer = ClusterSetWriter(leading.client, leading.world, leading.delivery, lambda: running[0].knows_all)
        return [writer.run]

    async with leading_control_plane.control_plane(server, SETTINGS, ("istio-system", "cluster-set", "one"), writers):
        yield running[0]


async def imports(api: Any) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in (await api.get(IMPORTS)).body["items"]}


async def told(api: Any, name: str) -> dict[str, str]:
    status = (await api.get(f"{EXPORTS}/{name}")).body.get("status", {})
    return {each["type"]: f"{each['status']} {each['reason']}" for each in status.get("conditions", [])}


def finished(api: Any, name: str) -> Callable[[], Coroutine[Any, Any, Any]]:
    async def is_it() -> Any:
        found = (await imports(api)).get(name, {})
        return found if found.get("status") else None

    return is_it


async def test_an_export_makes_an_import_it_follows_the_service_and_goes_with_the_export(cluster):
    api, server = cluster
    await api.made(SERVICES, named("hello", spec={"ports": [{"name": "http", "port": 80}]}))
    async with control_plane(server):
        await api.made(EXPORTS, named("hello"))
        made = await until(finished(api, "hello"))
        assert made["spec"]["ports"] == [{"name": "http", "port": 80, "protocol": "TCP"}]
        assert made["spec"]["ips"][0].startswith("240.241.")
        assert made["status"]["clusters"] == [{"cluster": "east"}]
        assert [(each["type"], each["status"]) for each in made["status"]["conditions"]] == [("Ready", "True")]
        assert await told(api, "hello") == {
            "Valid": "True Valid",
            "Ready": "True Exported",
            "Conflict": "False NoConflicts",
        }

        more = {"spec": {"ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 9000}]}}
        await api.call("PATCH", f"{SERVICES}/hello", more, content_type=MERGE)

        async def grown() -> bool:
            return [port["port"] for port in (await imports(api))["hello"]["spec"]["ports"]] == [80, 9000]

        await until(grown)
        assert (await imports(api))["hello"]["spec"]["ips"] == made["spec"]["ips"]

        await api.call("DELETE", f"{EXPORTS}/hello")

        async def gone() -> bool:
            return not await imports(api)

        await until(gone)


async def test_an_import_that_somebody_takes_away_or_changes_comes_back_as_it_was(cluster):
    api, server = cluster
    await api.made(SERVICES, named("hello", spec={"ports": [{"name": "http", "port": 80}]}))
    await api.made(EXPORTS, named("hello"))
    async with control_plane(server):
        made = await until(finished(api, "hello"))
        await api.call("PATCH", f"{IMPORTS}/hello", {"spec": {"type": "Headless"}}, content_type=MERGE)

        async def as_before() -> bool:
            return (await imports(api)).get("hello", {}).get("spec") == made["spec"]

        await until(as_before)
        await api.call("DELETE", f"{IMPORTS}/hello")
        await until(as_before)


async def test_an_import_of_another_controller_is_neither_changed_nor_deleted(cluster):
    api, server = cluster
    theirs = named("hello", spec={"type": "ClusterSetIP", "ips": ["10.112.0.1"], "ports": [{"port": 80}]})
    version = (await api.made(IMPORTS, theirs))["metadata"]["resourceVersion"]
    await api.made(SERVICES, named("hello", spec={"ports": [{"name": "http", "port": 80}]}))
    await api.made(SERVICES, named("other", spec={"ports": [{"name": "http", "port": 80}]}))
    await api.made(EXPORTS, named("hello"))
    async with control_plane(server):
        await until(lambda: told(api, "hello"))
        await api.call("DELETE", f"{EXPORTS}/hello")
        await api.made(EXPORTS, named("other"))
        await until(finished(api, "other"))

        assert (await imports(api))["hello"]["metadata"]["resourceVersion"] == version


async def test_an_export_without_a_service_is_told_and_becomes_valid_when_one_is_made(cluster):
    api, server = cluster
    await api.made(EXPORTS, named("hello"))
    async with control_plane(server):
        first = await until(lambda: told(api, "hello"))
        assert (first, await imports(api)) == (
            {"Valid": "False NoService", "Ready": "False Pending", "Conflict": "False NoConflicts"},
            {},
        )

        await api.made(SERVICES, named("hello", spec={"ports": [{"name": "http", "port": 80}]}))
        await until(finished(api, "hello"))

        async def valid() -> bool:
            return (await told(api, "hello"))["Valid"] == "True Valid"

        await until(valid)


async def test_until_every_cluster_has_been_read_imports_are_added_and_none_is_taken_away(cluster):
    """A control plane that starts while another cluster does not answer must not take that one's services from callers."""
    api, server = cluster
    for name in ("hello", "other"):
        await api.made(SERVICES, named(name, spec={"ports": [{"name": "http", "port": 80}]}))
    await api.made(EXPORTS, named("hello"))
    async with control_plane(server) as running:
        await until(finished(api, "hello"))
        east = running.world.clusters[EAST]
        running.knows_all = False
        await api.call("DELETE", f"{EXPORTS}/hello")
        await api.made(EXPORTS, named("other"))

        async def added() -> bool:
            return "other" in await imports(api)

        await until(added)
        assert sorted(await imports(api)) == ["hello", "other"]

        running.knows_all = True
        running.west_has(east, "Namespace", "Service", "ServiceExport")

        async def settled() -> bool:
            found = await imports(api)
            clusters = found["other"].get("status", {}).get("clusters", [])
            return sorted(found) == ["other"] and [each["cluster"] for each in clusters] == ["east", "west"]

        await until(settled)
