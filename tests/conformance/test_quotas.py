"""Laws of how many objects a namespace may have."""

from __future__ import annotations

import asyncio

import pytest

MERGE = "application/merge-patch+json"


@pytest.fixture
def secrets(namespace):
    return f"/api/v1/namespaces/{namespace}/secrets"


@pytest.fixture
async def quota(server, namespace):
    """Makes one, and waits until it counts: a server may take a moment."""
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"

    async def make(**hard):
        hard = {name.replace("__", "/"): value for name, value in hard.items()}
        await server.made(path, {"metadata": {"name": "law"}, "spec": {"hard": hard}})
        await until(lambda status: status.get("hard") == hard)

    async def until(holds):
        for _ in range(300):
            status = (await server.get(f"{path}/law")).body.get("status", {})
            if holds(status):
                return status
            await asyncio.sleep(0.1)
        raise AssertionError(f"it stays at {status}")

    make.path, make.until = path, until
    return make


def named(name):
    return {"metadata": {"name": name}}


async def test_a_namespace_has_no_more_objects_than_its_quota(server, quota, secrets, maps):
    await quota(secrets="1", count__configmaps="50")
    await server.made(secrets, named("a"))

    more = await server.call("POST", secrets, named("b"))

    assert (more.code, more.body["reason"]) == (403, "Forbidden")
    assert more.body["message"] == (
        'secrets "b" is forbidden: exceeded quota: law, requested: secrets=1, used: secrets=1, limited: secrets=1'
    )
    assert (await server.call("POST", maps, named("b"))).code == 201


async def test_objects_of_any_kind_are_counted_by_their_qualified_name(server, quota, deployments, deployment):
    await quota(**{"count__deployments.apps": "1"})
    await server.made(deployments, deployment)

    more = await server.call("POST", deployments, deployment | named("other"))

    assert more.code == 403
    assert "used: count/deployments.apps=1, limited: count/deployments.apps=1" in more.body["message"]


async def test_a_dry_run_is_refused_too_and_takes_no_room(server, quota, secrets):
    await quota(secrets="1")

    tried = await server.call("POST", secrets, named("a"), dryRun="All")
    made = await server.call("POST", secrets, named("b"))
    refused = await server.call("POST", secrets, named("c"), dryRun="All")

    assert [tried.code, made.code, refused.code] == [201, 201, 403]


async def test_what_goes_makes_room(server, quota, secrets, becomes):
    await quota(secrets="1")
    await server.made(secrets, named("a"))
    await server.call("DELETE", f"{secrets}/a")

    answer = await becomes(403, lambda: server.call("POST", secrets, named("b")))
    assert answer.code == 201


async def test_a_quota_that_is_raised_counts(server, quota, secrets, becomes):
    await quota(secrets="0")
    assert (await server.call("POST", secrets, named("a"))).code == 403

    await server.call("PATCH", f"{quota.path}/law", {"spec": {"hard": {"secrets": "1"}}}, content_type=MERGE)

    answer = await becomes(403, lambda: server.call("POST", secrets, named("a")))
    assert answer.code == 201


async def test_its_status_says_how_much_is_used(server, quota, secrets):
    await quota(secrets="5")
    for name in ("a", "b"):
        await server.made(secrets, named(name))

    status = await quota.until(lambda status: status.get("used") == {"secrets": "2"})

    assert status["hard"] == {"secrets": "5"}


async def test_a_service_that_becomes_more_than_it_was_is_counted_again(server, quota, namespace):
    services = f"/api/v1/namespaces/{namespace}/services"
    await quota(**{"services.loadbalancers": "0", "services": "5"})
    await server.made(services, named("a") | {"spec": {"ports": [{"port": 80}]}})

    more = await server.call("PATCH", f"{services}/a", {"spec": {"type": "LoadBalancer"}}, content_type=MERGE)

    assert more.code == 403
    assert "limited: services.loadbalancers=0" in more.body["message"]


@pytest.mark.parametrize("hard", [{"secrets": "-1"}, {"secrets": "1.5"}, {"bananas": "1"}])
async def test_what_cannot_bound_anything_is_refused(server, namespace, hard):
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"

    answer = await server.call("POST", path, named("law") | {"spec": {"hard": hard}})

    assert (answer.code, answer.body["reason"]) == (422, "Invalid")
