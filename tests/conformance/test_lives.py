"""Laws of what goes with what: owners, namespaces, custom kinds."""

from __future__ import annotations

import secrets

import pytest

MERGE = "application/merge-patch+json"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def make(server, maps):
    async def run(name, *owners, blocks=False, **metadata):
        references = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "blockOwnerDeletion": blocks,
            }
            for owner in owners
        ]
        return await server.made(maps, {"metadata": {"name": name, "ownerReferences": references} | metadata})

    return run


async def test_dependents_go_after_their_owner(server, maps, make):
    owner = await make("owner")
    child = await make("child", owner)
    await make("grandchild", child)
    version = (await server.get(maps)).version

    async with server.watch(maps, resourceVersion=version) as watch:
        await server.call("DELETE", f"{maps}/owner", {"propagationPolicy": "Background"})
        await watch.until("DELETED", "child")
        await watch.until("DELETED", "grandchild")


async def test_an_owner_that_waits_goes_after_what_blocks_it(server, maps, make):
    owner = await make("owner")
    await make("child", owner, blocks=True)
    version = (await server.get(maps)).version

    async with server.watch(maps, resourceVersion=version) as watch:
        answer = await server.call("DELETE", f"{maps}/owner", {"propagationPolicy": "Foreground"})
        await watch.until("DELETED", "child")
        await watch.until("DELETED", "owner")

    assert answer.body["metadata"]["finalizers"] == ["foregroundDeletion"]


async def test_orphans_stay_and_forget_their_owner(server, maps, make):
    owner = await make("owner")
    await make("child", owner)
    version = (await server.get(maps)).version

    async with server.watch(maps, resourceVersion=version) as watch:
        await server.call("DELETE", f"{maps}/owner", {"propagationPolicy": "Orphan"})
        await watch.until("DELETED", "owner")

    assert "ownerReferences" not in (await server.get(f"{maps}/child")).body["metadata"]


async def test_whoever_has_another_owner_stays(server, maps, make):
    one, two = await make("one"), await make("two")
    await make("child", one, two)
    version = (await server.get(maps)).version

    async with server.watch(maps, resourceVersion=version) as watch:
        await server.call("DELETE", f"{maps}/one")
        changed = await watch.until("MODIFIED", "child")

    assert [reference["name"] for reference in changed["metadata"]["ownerReferences"]] == ["two"]


async def test_a_namespace_is_emptied_before_it_goes_and_takes_nothing_new(server, namespace, maps, make):
    await make("held", finalizers=["law.example/held"])
    await make("free")
    version = (await server.get("/api/v1/namespaces")).version
    selected = {"fieldSelector": f"metadata.name={namespace}"}

    async with server.watch("/api/v1/namespaces", resourceVersion=version, **selected) as watch:
        deleted = await server.call("DELETE", f"/api/v1/namespaces/{namespace}")
        late = await server.call("POST", maps, {"metadata": {"name": "late"}})
        await server.call("PATCH", f"{maps}/held", {"metadata": {"finalizers": None}}, content_type=MERGE)
        await watch.until("DELETED", namespace)

    assert deleted.body["status"]["phase"] == "Terminating"
    assert (late.code, late.body["reason"]) == (403, "Forbidden")
    assert (await server.get(maps)).body["items"] == []


@pytest.fixture
async def lamps(server, namespace):
    """The path of a custom kind of this law's own, which is served."""
    group = f"g{secrets.token_hex(4)}.law.example"
    spec = {
        "type": "object",
        "required": ["colour"],
        "properties": {
            "colour": {"type": "string", "enum": ["red", "green"]},
            "watts": {"type": "integer", "minimum": 1, "default": 5},
            "port": {"x-kubernetes-int-or-string": True},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    status = {"type": "object", "properties": {"on": {"type": "boolean"}}}
    column = {"name": "Colour", "type": "string", "jsonPath": ".spec.colour"}
    version = {
        "served": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [column],
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
    }
    names = {"plural": "lamps", "singular": "lamp", "kind": "Lamp", "listKind": "LampList"}
    versions = [version | {"name": "v1", "storage": True}, version | {"name": "v1beta1", "storage": False}]
    body = {
        "metadata": {"name": f"lamps.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
    }
    listed = (await server.get(CRDS)).version
    async with server.watch(CRDS, resourceVersion=listed, fieldSelector=f"metadata.name=lamps.{group}") as watch:
        await server.made(CRDS, body)
        while True:
            event = await watch.next()
            conditions = event["object"].get("status", {}).get("conditions") or ()
            if any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
                break
    yield f"/apis/{group}/v1/namespaces/{namespace}/lamps"
    await server.call("DELETE", f"{CRDS}/lamps.{group}")


def lamp(path, **spec):
    api_version = "/".join(path.split("/")[2:4])
    return {"apiVersion": api_version, "kind": "Lamp", "metadata": {"name": "hall"}, "spec": {"colour": "red"} | spec}


async def test_a_custom_object_is_completed_and_pruned(server, lamps):
    made = await server.call(
        "POST", lamps, lamp(lamps, colur="x", free={"a": [1]}, port="http"), fieldValidation="Warn"
    )

    assert made.body["spec"] == {"colour": "red", "watts": 5, "free": {"a": [1]}, "port": "http"}
    assert "spec.colur" in made.warnings[0]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"colour": "blue"}, "spec.colour"), ({"watts": 0}, "spec.watts"), ({"watts": "5"}, "spec.watts")],
)
async def test_a_custom_object_is_refused_where_its_schema_does_not_allow_it(server, lamps, wrong, field):
    refused = await server.call("POST", lamps, lamp(lamps, **wrong))

    assert (refused.code, refused.body["reason"]) == (422, "Invalid")
    assert field in [cause["field"] for cause in refused.body["details"]["causes"]]


async def test_a_custom_object_is_one_in_all_versions(server, lamps):
    await server.made(lamps, lamp(lamps))

    old = (await server.get(lamps.replace("/v1/", "/v1beta1/") + "/hall")).body

    assert (old["apiVersion"].rpartition("/")[2], old["spec"]["colour"]) == ("v1beta1", "red")


async def test_a_custom_objects_status_is_apart_and_strategic_patches_are_not_for_it(server, lamps):
    await server.made(lamps, lamp(lamps) | {"status": {"on": True}})

    told = await server.call(
        "PATCH", f"{lamps}/hall/status", {"status": {"on": True}, "spec": {"watts": 9}}, content_type=MERGE
    )
    strategic = await server.call(
        "PATCH", f"{lamps}/hall", {"spec": {"watts": 9}}, content_type="application/strategic-merge-patch+json"
    )

    assert (told.body["status"], told.body["spec"]["watts"], told.body["metadata"]["generation"]) == (
        {"on": True},
        5,
        1,
    )
    assert strategic.code == 415


async def test_a_custom_kinds_columns_are_shown(server, lamps):
    await server.made(lamps, lamp(lamps))

    table = await server.call("GET", lamps, headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})

    assert [column["name"] for column in table.body["columnDefinitions"]] == ["Name", "Colour"]
    assert table.body["rows"][0]["cells"] == ["hall", "red"]
