"""Server-side apply: who owns which field, what is a conflict, and what goes when nobody says it any more."""

from __future__ import annotations

import pytest

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


@pytest.fixture
def config_maps(namespace):
    return f"/api/v1/namespaces/{namespace}/configmaps"


@pytest.fixture
def deployments(namespace):
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


@pytest.fixture
def services(namespace):
    return f"/api/v1/namespaces/{namespace}/services"


@pytest.fixture
def apply(api):
    async def run(path, body, manager="m1", **parameters):
        return await api.call("PATCH", path, body, content_type=APPLY, fieldManager=manager, **parameters)

    return run


def config_map(**data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def deployment(*containers, **spec):
    template = {"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": list(containers)}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "shop"}}, "template": template} | spec,
    }


def owners(obj):
    return {(entry["manager"], entry["operation"]): entry["fieldsV1"] for entry in obj["metadata"]["managedFields"]}


async def test_applying_creates_and_the_applier_owns_what_it_said(apply, config_maps):
    made = await apply(f"{config_maps}/a", config_map(x="1"))

    assert (made.code, made.body["data"]) == (201, {"x": "1"})
    (entry,) = made.body["metadata"]["managedFields"]
    assert entry | {"time": ""} == {
        "manager": "m1",
        "operation": "Apply",
        "apiVersion": "v1",
        "time": "",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:x": {}}},
    }


async def test_labels_and_annotations_that_are_applied_again_stay(apply, config_maps):
    body = config_map(x="1")
    body["metadata"] |= {"labels": {"app": "shop"}, "annotations": {"note": "n"}}
    made = await apply(f"{config_maps}/a", body)

    assert (await apply(f"{config_maps}/a", body)).body == made.body


async def test_a_definition_that_is_applied_again_changes_nothing(apply):
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "ships.again.example.org"},
        "spec": {
            "group": "again.example.org",
            "scope": "Namespaced",
            "names": {"kind": "Ship", "plural": "ships"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ships.again.example.org"
    made = await apply(path, definition)
    stamps = {condition["lastTransitionTime"] for condition in made.body["status"]["conditions"]}

    other = definition | {"metadata": {"name": "ships.again.example.org", "labels": {"a": "b"}}}
    changed = await apply(path, other)

    assert {condition["lastTransitionTime"] for condition in changed.body["status"]["conditions"]} == stamps
    assert (await apply(path, other)).body == changed.body


async def test_applying_the_same_again_changes_nothing(apply, config_maps):
    made = await apply(f"{config_maps}/a", config_map(x="1"))
    again = await apply(f"{config_maps}/a", config_map(x="1"))

    assert (again.code, again.body) == (200, made.body)


async def test_what_an_applier_says_no_more_goes_and_what_others_said_stays(apply, config_maps):
    await apply(f"{config_maps}/a", config_map(x="1", y="2"))
    await apply(f"{config_maps}/a", config_map(y="2", z="3"), "m2")

    nothing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    after = await apply(f"{config_maps}/a", nothing)

    assert after.body["data"] == {"y": "2", "z": "3"}
    assert owners(after.body) == {("m2", "Apply"): {"f:data": {"f:y": {}, "f:z": {}}}}


async def test_another_owners_value_is_a_conflict_unless_forced(apply, config_maps):
    await apply(f"{config_maps}/a", config_map(x="1", y="2"))

    refused = await apply(f"{config_maps}/a", config_map(x="9"), "m2")
    both = await apply(f"{config_maps}/a", config_map(x="9", y="9"), "m2")
    same = await apply(f"{config_maps}/a", config_map(x="1"), "m2")
    forced = await apply(f"{config_maps}/a", config_map(x="9"), "m2", force="true")

    assert (refused.code, refused.body["reason"]) == (409, "Conflict")
    assert refused.body["message"] == 'Apply failed with 1 conflict: conflict with "m1": .data.x'
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "m1"', "field": ".data.x"}
    assert refused.body["details"]["causes"] == [cause]
    assert both.body["message"] == 'Apply failed with 2 conflicts: conflicts with "m1":\n- .data.x\n- .data.y'
    assert same.code == 200
    assert forced.body["data"] == {"x": "9", "y": "2"}
    assert owners(forced.body) == {
        ("m1", "Apply"): {"f:data": {"f:y": {}}},
        ("m2", "Apply"): {"f:data": {"f:x": {}}},
    }


async def test_a_plain_write_takes_ownership_and_is_in_the_way_of_the_applier(api, apply, config_maps):
    await apply(f"{config_maps}/a", config_map(x="1", y="2"))
    patched = await api.call("PATCH", f"{config_maps}/a", {"data": {"x": "5"}}, content_type=MERGE, fieldManager="hand")

    refused = await apply(f"{config_maps}/a", config_map(x="1", y="2"))

    assert owners(patched.body) == {
        ("m1", "Apply"): {"f:data": {"f:y": {}}},
        ("hand", "Update"): {"f:data": {"f:x": {}}},
    }
    assert refused.body["message"] == 'Apply failed with 1 conflict: conflict with "hand" using v1: .data.x'


async def test_items_of_keyed_lists_are_owned_one_by_one(apply, deployments):
    await apply(f"{deployments}/shop", deployment({"name": "a", "image": "a:1"}))
    added = await apply(f"{deployments}/shop", deployment({"name": "b", "image": "b:1", "ports": [{"containerPort": 80}]}), "m2")  # fmt: skip

    changed = await apply(f"{deployments}/shop", deployment({"name": "b", "image": "b:2"}), "m3")
    less = await apply(f"{deployments}/shop", deployment(), "m2")

    names = [container["name"] for container in added.body["spec"]["template"]["spec"]["containers"]]
    assert sorted(names) == ["a", "b"]
    assert '.spec.template.spec.containers[name="b"].image' in changed.body["message"]
    left = less.body["spec"]["template"]["spec"]["containers"]
    assert [container["name"] for container in left] == ["a"]
    assert left[0]["imagePullPolicy"] == "IfNotPresent"


async def test_defaults_belong_to_nobody_and_stay(apply, services):
    spec = {"ports": [{"port": 80, "name": "http"}, {"port": 81, "name": "more"}], "selector": {"app": "shop"}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"}, "spec": spec}
    made = await apply(f"{services}/shop", service)

    changed = await apply(f"{services}/shop", service | {"spec": spec | {"ports": spec["ports"][:1]}})

    assert "f:clusterIP" not in owners(made.body)["m1", "Apply"]["f:spec"]
    assert changed.body["spec"]["clusterIP"] == made.body["spec"]["clusterIP"]
    assert changed.body["spec"]["ports"] == [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}]


async def test_a_status_is_applied_apart_and_owned_apart(api, apply, deployments):
    await apply(f"{deployments}/shop", deployment({"name": "a", "image": "a:1"}, replicas=2))
    status = {"status": {"readyReplicas": 2}, "spec": {"replicas": 7}}

    whole = await apply(f"{deployments}/shop", deployment({"name": "a", "image": "a:1"}) | status, "m2", force="true")
    part = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"}} | status
    told = await apply(f"{deployments}/shop/status", part, "controller")

    assert "status" not in whole.body
    assert (told.body["spec"]["replicas"], told.body["status"]) == (7, {"readyReplicas": 2})
    entry = next(e for e in told.body["metadata"]["managedFields"] if e["manager"] == "controller")
    assert (entry["subresource"], entry["fieldsV1"]) == ("status", {"f:status": {"f:readyReplicas": {}}})


async def test_an_object_that_nobody_tracked_is_first_owned_by_what_was_before(api, apply, config_maps):
    await api.made(config_maps, {"metadata": {"name": "a"}, "data": {"x": "1", "y": "2"}})
    await api.call("PATCH", f"{config_maps}/a", {"metadata": {"managedFields": [{}]}}, content_type=MERGE)
    untracked = (await api.get(f"{config_maps}/a")).body

    refused = await apply(f"{config_maps}/a", config_map(x="2"))

    assert "managedFields" not in untracked["metadata"]
    assert refused.body["message"] == 'Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.x'  # fmt: skip


async def test_managed_fields_may_be_moved_by_hand(api, apply, config_maps):
    made = await api.call("POST", config_maps, config_map(x="1"), fieldManager="old")
    entries = [entry | {"manager": "m1", "operation": "Apply"} for entry in made.body["metadata"]["managedFields"]]
    move = [{"op": "replace", "path": "/metadata/managedFields", "value": entries}]
    await api.call("PATCH", f"{config_maps}/a", move, content_type=JSON_PATCH)

    after = await apply(f"{config_maps}/a", config_map(y="2"))

    assert after.body["data"] == {"y": "2"}


async def test_a_client_that_does_not_know_managed_fields_does_not_lose_them(api, apply, config_maps):
    made = (await apply(f"{config_maps}/a", config_map(x="1"))).body
    plain = made | {"metadata": {k: v for k, v in made["metadata"].items() if k != "managedFields"}}

    put = await api.call("PUT", f"{config_maps}/a", plain | {"data": {"x": "1", "y": "2"}}, fieldManager="old")

    assert owners(put.body) == {
        ("m1", "Apply"): {"f:data": {"f:x": {}}},
        ("old", "Update"): {"f:data": {"f:y": {}}},
    }


async def test_only_so_many_writers_are_remembered_one_by_one(api, config_maps):
    await api.call("POST", config_maps, config_map(), fieldManager="first")
    for number in range(15):
        patch = {"data": {f"key-{number}": "x"}}
        await api.call("PATCH", f"{config_maps}/a", patch, content_type=MERGE, fieldManager=f"writer-{number:02}")

    entries = (await api.get(f"{config_maps}/a")).body["metadata"]["managedFields"]

    assert len(entries) == 10
    assert "ancient-changes" in [entry["manager"] for entry in entries]


@pytest.mark.parametrize(
    ("body", "parameters", "code"),
    [
        (config_map(x="1"), {"fieldManager": ""}, 422),
        (config_map(x="1") | {"kind": "Secret"}, {}, 400),
        (config_map(x="1") | {"metadata": {"name": "b"}}, {}, 400),
        (config_map(x="1") | {"metadata": {"name": "a", "managedFields": [{"manager": "x"}]}}, {}, 400),
        ([], {}, 400),
        (config_map(x="1") | {"bogus": 1}, {"fieldValidation": "Strict"}, 400),
    ],
)
async def test_what_cannot_be_applied_is_refused(api, config_maps, body, parameters, code):
    answer = await api.call(
        "PATCH", f"{config_maps}/a", body, content_type=APPLY, **({"fieldManager": "m1"} | parameters)
    )

    assert answer.code == code
    assert (await api.get(f"{config_maps}/a")).code == 404


async def test_a_stale_version_in_a_configuration_is_a_conflict(api, apply, config_maps):
    made = (await apply(f"{config_maps}/a", config_map(x="1"))).body
    await apply(f"{config_maps}/a", config_map(x="2"))

    stale = config_map(x="3")
    stale["metadata"] = {"name": "a", "resourceVersion": made["metadata"]["resourceVersion"]}
    refused = await apply(f"{config_maps}/a", stale)

    assert (refused.code, refused.body["reason"]) == (409, "Conflict")


async def test_a_dry_run_of_an_apply_says_what_would_be_and_leaves_everything(api, apply, config_maps):
    made = (await apply(f"{config_maps}/a", config_map(x="1"))).body

    would = await apply(f"{config_maps}/a", config_map(x="2"), dryRun="All")
    new = await apply(f"{config_maps}/b", config_map(x="2") | {"metadata": {"name": "b"}}, dryRun="All")

    assert (would.body["data"], new.code) == ({"x": "2"}, 201)
    assert (await api.get(f"{config_maps}/a")).body == made
    assert (await api.get(f"{config_maps}/b")).code == 404


async def test_items_that_cannot_be_told_apart_are_refused(apply, deployments):
    twice = deployment({"name": "a", "image": "a:1"}, {"name": "a", "image": "a:2"})

    refused = await apply(f"{deployments}/shop", twice)

    assert refused.code == 422
    assert "same name" in refused.body["message"]
