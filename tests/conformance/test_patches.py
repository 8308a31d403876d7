"""Laws of the four patches."""

from __future__ import annotations

import pytest

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


def config_map(**data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


@pytest.fixture
def apply(server):
    async def run(path, body, manager, **parameters):
        return await server.call("PATCH", path, body, content_type=APPLY, fieldManager=manager, **parameters)

    return run


def owned(answer, manager):
    entries = answer.body["metadata"].get("managedFields", [])
    return [entry["fieldsV1"] for entry in entries if entry["manager"] == manager]


async def test_a_merge_patch_merges_maps_removes_nulls_and_replaces_lists(server, deployments, deployment):
    await server.made(deployments, deployment)

    template = {"spec": {"containers": [{"name": "c", "image": "c:1"}]}}
    patch = {"metadata": {"labels": {"x": "y"}}, "spec": {"paused": True, "template": template}}
    first = await server.call("PATCH", f"{deployments}/law", patch, content_type=MERGE)
    second = await server.call("PATCH", f"{deployments}/law", {"metadata": {"labels": {"x": None}}}, content_type=MERGE)

    assert [container["name"] for container in first.body["spec"]["template"]["spec"]["containers"]] == ["c"]
    assert first.body["metadata"]["labels"] == {"x": "y"}
    assert second.body["metadata"].get("labels", {}) == {}


async def test_a_strategic_patch_merges_lists_by_their_keys(server, deployments, deployment):
    await server.made(deployments, deployment)

    containers = [{"name": "a", "image": "a:2"}, {"name": "b", "$patch": "delete"}, {"name": "c", "image": "c:1"}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    answer = await server.call("PATCH", f"{deployments}/law", patch, content_type=STRATEGIC)

    found = {c["name"]: c["image"] for c in answer.body["spec"]["template"]["spec"]["containers"]}
    assert found == {"a": "a:2", "c": "c:1"}


async def test_a_json_patch_is_done_whole_or_not_at_all(server, maps):
    await server.made(maps, config_map(x="1"))

    good = [{"op": "test", "path": "/data/x", "value": "1"}, {"op": "add", "path": "/data/y", "value": "2"}]
    bad = [{"op": "remove", "path": "/data/x"}, {"op": "test", "path": "/data/y", "value": "other"}]
    done = await server.call("PATCH", f"{maps}/a", good, content_type=JSON_PATCH)
    refused = await server.call("PATCH", f"{maps}/a", bad, content_type=JSON_PATCH)

    assert done.body["data"] == {"x": "1", "y": "2"}
    assert refused.code == 422
    assert (await server.get(f"{maps}/a")).body == done.body


async def test_an_unknown_patch_is_an_unsupported_media_type(server, maps):
    await server.made(maps, config_map())

    answer = await server.call("PATCH", f"{maps}/a", {}, content_type="application/json")

    assert (answer.code, answer.body["reason"]) == (415, "UnsupportedMediaType")


async def test_applying_makes_an_object_once_and_then_changes_nothing(apply, maps):
    made = await apply(f"{maps}/a", config_map(x="1"), "m1")
    again = await apply(f"{maps}/a", config_map(x="1"), "m1")

    assert (made.code, again.code) == (201, 200)
    assert again.version == made.version
    assert owned(made, "m1") == [{"f:data": {"f:x": {}}}]


async def test_what_an_applier_says_no_more_goes_unless_another_says_it(apply, maps):
    await apply(f"{maps}/a", config_map(x="1", y="1", z="1"), "m1")
    await apply(f"{maps}/a", config_map(y="1"), "m2")

    after = await apply(f"{maps}/a", config_map(z="1"), "m1")

    assert after.body["data"] == {"y": "1", "z": "1"}


async def test_another_owners_value_is_a_conflict_unless_it_is_forced(apply, maps):
    await apply(f"{maps}/a", config_map(x="1"), "m1")

    refused = await apply(f"{maps}/a", config_map(x="2"), "m2")
    forced = await apply(f"{maps}/a", config_map(x="2"), "m2", force="true")

    assert (refused.code, refused.body["reason"]) == (409, "Conflict")
    causes = [(cause["reason"], cause["field"]) for cause in refused.body["details"]["causes"]]
    assert causes == [("FieldManagerConflict", ".data.x")]
    assert refused.body["message"] == 'Apply failed with 1 conflict: conflict with "m1": .data.x'
    assert (forced.body["data"], owned(forced, "m1")) == ({"x": "2"}, [])


async def test_a_plain_write_owns_what_it_changes(server, apply, maps):
    await apply(f"{maps}/a", config_map(x="1", y="1"), "m1")

    patched = await server.call("PATCH", f"{maps}/a", {"data": {"x": "2"}}, content_type=MERGE, fieldManager="hand")

    assert owned(patched, "hand") == [{"f:data": {"f:x": {}}}]
    assert owned(patched, "m1") == [{"f:data": {"f:y": {}}}]


async def test_containers_are_applied_one_by_one(server, apply, deployments, deployment):
    await apply(f"{deployments}/law", deployment, "m1")
    containers = [{"name": "c", "image": "c:1"}]
    more = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {"containers": containers}}}}

    added = await apply(f"{deployments}/law", more | {"metadata": {"name": "law"}}, "m2")
    deployment["spec"]["template"]["spec"]["containers"].pop()
    removed = await apply(f"{deployments}/law", deployment, "m1")

    def names(answer):
        return sorted(container["name"] for container in answer.body["spec"]["template"]["spec"]["containers"])

    assert names(added) == ["a", "b", "c"]
    assert names(removed) == ["a", "c"]


async def test_an_apply_names_its_manager(server, maps):
    answer = await server.call("PATCH", f"{maps}/a", config_map(), content_type=APPLY)

    assert answer.code == 422


async def test_a_dry_apply_leaves_everything(server, apply, maps):
    answer = await apply(f"{maps}/a", config_map(x="1"), "m1", dryRun="All")

    assert answer.code == 201
    assert (await server.get(f"{maps}/a")).code == 404
