"""What goes with what: owners and their dependents, namespaces and what is in them, accounts and their tokens."""

from __future__ import annotations

import base64
import signal

import pytest

MERGE = "application/merge-patch+json"


@pytest.fixture
def config_maps(namespace):
    return f"/api/v1/namespaces/{namespace}/configmaps"


@pytest.fixture
def make(api, config_maps):
    async def run(name, *owners, blocks=False, **metadata):
        references = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
            }
            | ({"blockOwnerDeletion": True} if blocks else {})
            for owner in owners
        ]
        return await api.made(config_maps, {"metadata": {"name": name, "ownerReferences": references} | metadata})

    return run


@pytest.fixture
def until(api, config_maps):
    """Waits for events, from the list's version on, until the names are these."""

    async def run(*names):
        listed = (await api.get(config_maps)).body
        left = {item["metadata"]["name"] for item in listed["items"]}
        async with api.watch(config_maps, resourceVersion=listed["metadata"]["resourceVersion"]) as watch:
            while left != set(names):
                event = await watch.next()
                change = left.discard if event["type"] == "DELETED" else left.add
                change(event["object"]["metadata"]["name"])

    return run


async def test_dependents_go_after_their_owner_and_theirs_after_them(api, config_maps, make, until):
    owner = await make("owner")
    child = await make("child", owner)
    await make("grandchild", child)
    await make("stranger")

    await api.call("DELETE", f"{config_maps}/owner")

    await until("stranger")


async def test_whoever_has_another_owner_stays_and_forgets_the_one_that_is_gone(api, config_maps, make, until):
    one, two = await make("one"), await make("two")
    await make("child", one, two)

    async with api.watch(config_maps, fieldSelector="metadata.name=child") as watch:
        await watch.next()
        await api.call("DELETE", f"{config_maps}/one")
        changed = (await watch.next())["object"]

    assert [reference["name"] for reference in changed["metadata"]["ownerReferences"]] == ["two"]


async def test_an_owner_that_is_deleted_in_the_foreground_stays_until_what_blocks_it_is_gone(
    api, config_maps, make, until
):
    owner = await make("owner")
    await make("held", owner, blocks=True, finalizers=["example.com/held"])
    await make("free", owner)

    deleted = await api.call("DELETE", f"{config_maps}/owner", {"propagationPolicy": "Foreground"})
    await until("owner", "held")
    waiting = (await api.get(f"{config_maps}/owner")).body
    await api.call("PATCH", f"{config_maps}/held", {"metadata": {"finalizers": None}}, content_type=MERGE)
    await until()

    assert deleted.body["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert waiting["metadata"]["deletionTimestamp"]


async def test_orphans_stay_and_forget_their_owner(api, config_maps, make, until):
    owner = await make("owner")
    await make("child", owner)

    await api.call("DELETE", f"{config_maps}/owner", {"propagationPolicy": "Orphan"})
    await until("child")

    assert "ownerReferences" not in (await api.get(f"{config_maps}/child")).body["metadata"]


async def test_whoever_names_an_owner_that_was_never_there_goes(api, config_maps, make, until):
    ghost = {"metadata": {"name": "ghost", "uid": "no-such-uid"}}

    await make("child", ghost)

    await until()


async def test_an_owner_of_a_kind_that_nobody_serves_counts_as_there(api, config_maps, make, until):
    unknown = {"apiVersion": "example.com/v1", "kind": "Unknown", "name": "x", "uid": "some-uid"}
    await api.made(config_maps, {"metadata": {"name": "child", "ownerReferences": [unknown]}})
    ghost = {"metadata": {"name": "ghost", "uid": "no-such-uid"}}

    await make("later", ghost)
    await until("child")  # The one that was made later is looked at later.

    assert (await api.get(f"{config_maps}/child")).code == 200


async def test_a_policy_that_is_none_is_refused(api, config_maps, make):
    await make("a")

    refused = await api.call("DELETE", f"{config_maps}/a", {"propagationPolicy": "Sideways"})

    assert refused.code == 422
    assert (await api.get(f"{config_maps}/a")).code == 200


async def test_an_owner_that_waits_does_so_though_the_server_is_killed_in_between(fresh_server, connected):
    maps = "/api/v1/namespaces/default/configmaps"
    async with connected(fresh_server) as api:
        owner = await api.made(maps, {"metadata": {"name": "owner"}})
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        metadata = {"name": "child", "finalizers": ["example.com/held"]}
        metadata["ownerReferences"] = [reference | {"blockOwnerDeletion": True}]
        await api.made(maps, {"metadata": metadata})
        await api.call("DELETE", f"{maps}/owner", {"propagationPolicy": "Foreground"})
    fresh_server.stop(signal.SIGKILL)
    fresh_server.start()

    async with connected(fresh_server) as api, api.watch(maps) as watch:
        waiting = await watch.next_names(2)
        await api.call("PATCH", f"{maps}/child", {"metadata": {"finalizers": None}}, content_type=MERGE)
        gone = []
        while len(gone) < 2:
            event = await watch.next()
            gone += [event["object"]["metadata"]["name"]] if event["type"] == "DELETED" else []

    assert sorted(waiting) == [("ADDED", "child"), ("ADDED", "owner")]
    assert gone == ["child", "owner"]


async def test_a_namespace_is_emptied_before_it_goes(api, namespace, config_maps, make):
    await make("held", finalizers=["example.com/held"])
    await make("free")

    async with api.watch("/api/v1/namespaces", fieldSelector=f"metadata.name={namespace}") as watch:
        await watch.next()
        deleted = await api.call("DELETE", f"/api/v1/namespaces/{namespace}")
        marked = await watch.next()
        await api.call("PATCH", f"{config_maps}/held", {"metadata": {"finalizers": None}}, content_type=MERGE)
        types = [(await watch.next())["type"] for _ in range(2)]

    assert deleted.body["status"]["phase"] == marked["object"]["status"]["phase"] == "Terminating"
    assert types == ["MODIFIED", "DELETED"]
    assert (await api.get(config_maps)).body["items"] == []


async def test_a_token_secret_is_filled_and_ends_with_its_account(api, namespace, server):
    accounts, secrets = (f"/api/v1/namespaces/{namespace}/{plural}" for plural in ("serviceaccounts", "secrets"))
    await api.made(accounts, {"metadata": {"name": "robot"}})
    annotations = {"kubernetes.io/service-account.name": "robot"}
    secret = {"metadata": {"name": "t", "annotations": annotations}, "type": "kubernetes.io/service-account-token"}

    async with api.watch(secrets) as watch:
        await api.made(secrets, secret)
        await watch.next()
        filled = (await watch.next())["object"]
        token = base64.b64decode(filled["data"]["token"]).decode()
        known = await api.call("GET", "/apis", token=token)
        await api.call("DELETE", f"{accounts}/robot")
        last = await watch.next()
    after = await api.call("GET", "/apis", token=token)

    assert base64.b64decode(filled["data"]["ca.crt"]).decode() == server.ca_pem
    assert base64.b64decode(filled["data"]["namespace"]).decode() == namespace
    assert (known.code, last["type"], after.code) == (200, "DELETED", 401)
