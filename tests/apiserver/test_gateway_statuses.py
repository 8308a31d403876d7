"""Control planes that tell Gateway API's objects what became of them, on a real API server: one of several writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import leading_control_plane
import pytest
from leading_control_plane import Leading, until

from isthmus.api.crds import all_crds
from isthmus.controlplane.gateway_deployments import GatewayDeployer
from isthmus.controlplane.gateway_writer import GatewayWriter
from isthmus.kubernetes.lease_client import Leadership
from isthmus.model.identity import TrustDomain
from isthmus.model.names import MeshId
from isthmus.model.snapshot import MeshSettings

MERGE = "application/merge-patch+json"
GATEWAYS = "/apis/gateway.networking.k8s.io/v1/namespaces/edge/gateways"
SERVICES = "/api/v1/namespaces/edge/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/edge/deployments"
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/edge/httproutes"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/edge/leases/statuses"
SETTINGS = MeshSettings(mesh=MeshId("m"), trust_domain=TrustDomain("cluster.local"))
GATEWAY = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "front", "namespace": "edge"},
    "spec": {"gatewayClassName": "istio", "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}]},
}
ROUTE = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "shop", "namespace": "edge"},
    "spec": {"parentRefs": [{"name": "front"}], "rules": [{"backendRefs": [{"name": "absent", "port": 80}]}]},
}


@pytest.fixture
async def cluster(fresh_server, connected):
    """An API server that knows Gateway API, with a namespace for the test."""
    async with connected(fresh_server) as api:
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        await asyncio.gather(*(api.made(definitions, each) for each in all_crds()))
        for name in ("edge", "istio-system"):
            await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        yield api, fresh_server


@asynccontextmanager
async def control_plane(server: Any, name: str) -> AsyncIterator[Leadership]:
    """One that reads the cluster, and writes while it leads."""

    def writers(leading: Leading) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        made = (leading.client, leading.world, leading.delivery)
        return [GatewayWriter(*made).run, GatewayDeployer(*made).run]

    async with leading_control_plane.control_plane(server, SETTINGS, ("edge", "statuses", name), writers) as leading:
        yield leading.leadership


async def spec(api: Any, path: str) -> dict[str, Any]:
    return (await api.get(path)).body.get("spec", {})


async def conditions(api: Any, path: str, place: str) -> dict[str, str]:
    """The reasons of an object's conditions; of a route those of its first parent."""
    status = (await api.get(path)).body.get("status", {})
    found = status if place == "gateway" else next(iter(status.get("parents", [])), {})
    return {each["type"]: f"{each['status']} {each['reason']}" for each in found.get("conditions", [])}


async def test_writers_learn_what_became_of_their_objects_and_of_changes(cluster):
    api, server = cluster
    await api.made(GATEWAYS, GATEWAY)
    await api.made(ROUTES, ROUTE)
    async with control_plane(server, "one"):
        seen = await until(lambda: conditions(api, f"{ROUTES}/shop", "route"))
        assert seen == {"Accepted": "True Accepted", "ResolvedRefs": "False BackendNotFound"}

        async def waits() -> bool:
            return (await conditions(api, f"{GATEWAYS}/front", "gateway")).get(
                "Programmed"
            ) == "False AddressNotAssigned"

        await until(waits)
        ports = [{"name": "http", "port": 80}]
        await api.made(SERVICES, {"metadata": {"name": "absent"}, "spec": {"ports": ports}})
        balanced = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
        await until(lambda: spec(api, f"{SERVICES}/front-istio"))
        await api.call("PATCH", f"{SERVICES}/front-istio/status", balanced, content_type=MERGE)

        async def resolved() -> bool:
            return (await conditions(api, f"{ROUTES}/shop", "route"))["ResolvedRefs"] == "True ResolvedRefs"

        async def programmed() -> bool:
            return (await conditions(api, f"{GATEWAYS}/front", "gateway"))["Programmed"] == "True Programmed"

        await until(resolved)
        await until(programmed)
        assert (await api.get(f"{GATEWAYS}/front")).body["status"]["addresses"] == [
            {"type": "IPAddress", "value": "192.0.2.1"}
        ]
        classes = (await api.get("/apis/gateway.networking.k8s.io/v1/gatewayclasses")).body["items"]
        assert [each["metadata"]["name"] for each in classes] == ["isthmus", "istio", "istio-remote"]


async def test_one_of_two_writes_and_the_other_follows_when_it_is_gone(cluster):
    api, server = cluster
    await api.made(GATEWAYS, GATEWAY)
    async with control_plane(server, "two") as two:
        await until(lambda: conditions(api, f"{GATEWAYS}/front", "gateway"))
        async with control_plane(server, "one") as one:
            assert (two.held, one.held) == (True, False)
            generation = (await api.get(LEASE)).body["spec"]["leaseTransitions"]
            await api.made(ROUTES, ROUTE)
            await until(lambda: conditions(api, f"{ROUTES}/shop", "route"))
            version = (await api.get(f"{ROUTES}/shop")).body["metadata"]["resourceVersion"]
            assert (one.held, (await api.get(LEASE)).body["spec"]["leaseTransitions"]) == (False, generation)

            stolen = {"spec": {"holderIdentity": "one", "renewTime": "2030-01-01T00:00:00.000000Z"}}
            assert (await api.call("PATCH", LEASE, stolen, content_type=MERGE)).code == 200

            async def follows() -> bool:
                return one.held and not two.held

            await until(follows)
            await api.call("DELETE", f"{GATEWAYS}/front")
            await api.made(GATEWAYS, GATEWAY)
            await until(lambda: conditions(api, f"{GATEWAYS}/front", "gateway"))
            assert (await api.get(f"{ROUTES}/shop")).body["metadata"]["resourceVersion"] >= version


async def test_a_leader_that_goes_gives_its_lease_back(cluster):
    api, server = cluster
    async with control_plane(server, "one"):

        async def is_held() -> bool:
            return bool((await api.get(LEASE)).body.get("spec", {}).get("holderIdentity"))

        await until(is_held)

    assert (await api.get(LEASE)).body["spec"]["holderIdentity"] == ""


async def test_what_another_controller_says_of_a_route_stays(cluster):
    api, server = cluster
    await api.made(GATEWAYS, GATEWAY)
    await api.made(ROUTES, ROUTE)
    theirs = {"parentRef": {"name": "other"}, "controllerName": "example.com/theirs", "conditions": []}
    patch = {"status": {"parents": [theirs]}}
    answer = await api.call("PATCH", f"{ROUTES}/shop/status", patch, content_type=MERGE)
    assert answer.code == 200
    async with control_plane(server, "one"):

        async def both() -> list[str]:
            parents = (await api.get(f"{ROUTES}/shop")).body["status"]["parents"]
            return [each["controllerName"] for each in parents] if len(parents) > 1 else []

        assert await until(both) == ["example.com/theirs", "istio.io/gateway-controller"]


async def test_a_gateway_is_deployed_follows_its_listeners_and_comes_back_when_it_is_taken_away(cluster):
    api, server = cluster
    made = await api.made(GATEWAYS, GATEWAY)
    async with control_plane(server, "one"):
        service = await until(lambda: spec(api, f"{SERVICES}/front-istio"))
        assert [(port["name"], port["port"]) for port in service["ports"]] == [("status-port", 15021), ("web", 80)]
        deployment = (await api.get(f"{DEPLOYMENTS}/front-istio")).body
        assert deployment["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
        template = deployment["spec"]["template"]
        assert template["metadata"]["annotations"]["inject.istio.io/templates"] == "gateway"
        assert template["spec"]["containers"][0]["image"] == "auto"

        scaled = await api.call("PATCH", f"{DEPLOYMENTS}/front-istio", {"spec": {"replicas": 3}}, content_type=MERGE)
        assert scaled.code == 200
        listeners = [*GATEWAY["spec"]["listeners"], {"name": "more", "port": 8080, "protocol": "HTTP"}]
        await api.call("PATCH", f"{GATEWAYS}/front", {"spec": {"listeners": listeners}}, content_type=MERGE)

        async def grown() -> bool:
            return [port["port"] for port in (await spec(api, f"{SERVICES}/front-istio"))["ports"]] == [15021, 80, 8080]

        await until(grown)
        assert (await spec(api, f"{DEPLOYMENTS}/front-istio"))["replicas"] == 3, "what people set is theirs"

        await api.call("DELETE", f"{DEPLOYMENTS}/front-istio")
        assert (await until(lambda: spec(api, f"{DEPLOYMENTS}/front-istio")))["replicas"] == 1


async def test_a_gateway_that_names_a_service_of_its_own_is_not_deployed(cluster):
    api, server = cluster
    named = {"addresses": [{"type": "Hostname", "value": "ingress"}]}
    await api.made(GATEWAYS, GATEWAY | {"spec": GATEWAY["spec"] | named})
    async with control_plane(server, "one"):
        await until(lambda: conditions(api, f"{GATEWAYS}/front", "gateway"))
        assert (await api.get(DEPLOYMENTS)).body["items"] == []


async def test_a_service_entry_learns_the_addresses_that_the_mesh_gives_its_hosts(cluster):
    api, server = cluster
    entries = "/apis/networking.istio.io/v1/namespaces/edge/serviceentries"
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    made = {
        "metadata": {"name": "store"},
        "spec": {"hosts": ["a.example", "b.example"], "resolution": "DNS", "ports": ports},
    }
    head = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry"}
    await api.made(entries, head | made)

    async def told() -> list[dict[str, str]]:
        return (await api.get(f"{entries}/store")).body.get("status", {}).get("addresses", [])

    async with control_plane(server, "one"):
        first = await until(told)
    async with control_plane(server, "two"):
        assert [each["host"] for each in first] == ["a.example", "a.example", "b.example", "b.example"]
        assert all(each["value"].startswith(("240.240.", "2001:2::")) for each in first)

        own = {"spec": {"hosts": ["a.example"], "addresses": ["192.0.2.7"]}}
        await api.call("PATCH", f"{entries}/store", own, content_type=MERGE)

        async def none_are_left() -> bool:
            return not await told()

        await until(none_are_left)
