"""Changing objects: conflicts, the three patches, marks before removal, and what a server fills in."""

from __future__ import annotations

import pytest

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
ANYTHING = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}


@pytest.fixture
def config_maps(namespace):
    return f"/api/v1/namespaces/{namespace}/configmaps"


@pytest.fixture
def deployments(namespace):
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


def deployment(*images):
    containers = [{"name": image, "image": f"{image}:1"} for image in images]
    template = {"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": containers}}
    return {
        "metadata": {"name": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "shop"}}, "template": template},
    }


async def test_a_created_object_has_what_the_server_gives(api, config_maps, namespace):
    made = await api.made(config_maps, {"metadata": {"generateName": "settings-"}, "data": {"a": "b"}})

    metadata = made["metadata"]
    assert metadata["name"].startswith("settings-")
    assert len(metadata["name"]) > len("settings-")
    assert metadata["namespace"] == namespace
    assert {"uid", "creationTimestamp", "resourceVersion"} <= metadata.keys()
    assert (made["apiVersion"], made["kind"]) == ("v1", "ConfigMap")


async def test_empty_maps_and_lists_of_metadata_say_nothing(api, config_maps):
    metadata = {"name": "a", "labels": {"x": "y"}, "annotations": {}, "finalizers": [], "ownerReferences": []}
    made = await api.made(config_maps, {"metadata": metadata})

    patched = await api.call("PATCH", f"{config_maps}/a", {"metadata": {"labels": {"x": None}}}, content_type=MERGE)

    assert not {"annotations", "finalizers", "ownerReferences"} & made["metadata"].keys()
    assert "labels" not in patched.body["metadata"]


async def test_a_name_is_taken_once(api, config_maps):
    await api.made(config_maps, {"metadata": {"name": "a"}})

    again = await api.call("POST", config_maps, {"metadata": {"name": "a"}})

    assert (again.code, again.body["reason"]) == (409, "AlreadyExists")
    assert again.body["details"] == {"name": "a", "kind": "configmaps"}


async def test_a_stale_version_is_a_conflict_and_changes_nothing(api, config_maps):
    stale = await api.made(config_maps, {"metadata": {"name": "a"}, "data": {"n": "1"}})
    fresh = await api.call("PUT", f"{config_maps}/a", stale | {"data": {"n": "2"}})

    put = await api.call("PUT", f"{config_maps}/a", stale | {"data": {"n": "3"}})
    patch = {"metadata": {"resourceVersion": stale["metadata"]["resourceVersion"]}, "data": {"n": "4"}}
    patched = await api.call("PATCH", f"{config_maps}/a", patch, content_type=MERGE)
    options = {"preconditions": {"resourceVersion": stale["metadata"]["resourceVersion"]}}
    deleted = await api.call("DELETE", f"{config_maps}/a", options)

    assert fresh.code == 200
    assert [answer.code for answer in (put, patched, deleted)] == [409] * 3
    assert {answer.body["reason"] for answer in (put, patched, deleted)} == {"Conflict"}
    assert (await api.get(f"{config_maps}/a")).body == fresh.body


async def test_a_merge_patch_replaces_lists_and_removes_nulls(api, deployments):
    await api.made(deployments, deployment("a", "b"))

    patch = {"spec": {"replicas": None, "template": {"spec": {"containers": [{"name": "c", "image": "c:2"}]}}}}
    answer = await api.call("PATCH", f"{deployments}/shop", patch, content_type=MERGE)

    containers = answer.body["spec"]["template"]["spec"]["containers"]
    assert [container["name"] for container in containers] == ["c"]
    assert answer.body["spec"]["replicas"] == 1
    assert answer.body["metadata"]["generation"] == 2


async def test_a_strategic_patch_merges_lists_by_their_keys(api, deployments):
    await api.made(deployments, deployment("a", "b"))
    containers = [{"name": "a", "image": "a:2"}, {"name": "b", "$patch": "delete"}, {"name": "c", "image": "c:1"}]
    order = [{"name": "c"}, {"name": "a"}]

    patch = {"spec": {"template": {"spec": {"containers": containers, "$setElementOrder/containers": order}}}}
    answer = await api.call("PATCH", f"{deployments}/shop", patch, content_type=STRATEGIC)

    found = answer.body["spec"]["template"]["spec"]["containers"]
    assert [container["image"] for container in found] == ["c:1", "a:2"]
    assert found[1]["terminationMessagePath"] == "/dev/termination-log"


async def test_a_strategic_patch_replaces_lists_that_have_no_key(api, namespace):
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    slice_ = {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [], "ports": [{"name": "a", "port": 1}]}
    await api.made(slices, slice_)

    answer = await api.call("PATCH", f"{slices}/s", {"ports": [{"name": "a", "port": 2}]}, content_type=STRATEGIC)

    assert answer.body["ports"] == [{"name": "a", "port": 2}]


async def test_a_json_patch_is_done_whole_or_not_at_all(api, config_maps):
    await api.made(config_maps, {"metadata": {"name": "a"}, "data": {"x": "1", "y": "2"}})
    good = [
        {"op": "test", "path": "/data/x", "value": "1"},
        {"op": "move", "from": "/data/x", "path": "/data/z"},
        {"op": "replace", "path": "/data/y", "value": "3"},
        {"op": "add", "path": "/metadata/labels", "value": {"example.com/b": "c"}},
        {"op": "copy", "from": "/metadata/labels/example.com~1b", "path": "/data/w"},
    ]
    bad = [{"op": "remove", "path": "/data/z"}, {"op": "test", "path": "/data/y", "value": "2"}]

    done = await api.call("PATCH", f"{config_maps}/a", good, content_type=JSON_PATCH)
    refused = await api.call("PATCH", f"{config_maps}/a", bad, content_type=JSON_PATCH)

    assert done.body["data"] == {"y": "3", "z": "1", "w": "c"}
    assert (refused.code, refused.body["reason"]) == (422, "Invalid")
    assert (await api.get(f"{config_maps}/a")).body == done.body


async def test_an_object_with_finalizers_is_marked_and_goes_with_the_last_one(api, config_maps):
    await api.made(config_maps, {"metadata": {"name": "a", "finalizers": ["one.example/x", "two.example/y"]}})

    async with api.watch(config_maps) as watch:
        deleted = await api.call("DELETE", f"{config_maps}/a")
        added = await api.call(
            "PATCH",
            f"{config_maps}/a",
            {"metadata": {"finalizers": ["one.example/x", "three.example/z"]}},
            content_type=MERGE,
        )
        first = await api.call(
            "PATCH", f"{config_maps}/a", {"metadata": {"finalizers": ["two.example/y"]}}, content_type=MERGE
        )
        await api.call("PATCH", f"{config_maps}/a", {"metadata": {"finalizers": None}}, content_type=MERGE)
        types = [(await watch.next())["type"] for _ in range(5)]

    assert deleted.body["metadata"]["deletionTimestamp"] == first.body["metadata"]["deletionTimestamp"]
    assert (added.code, added.body["reason"]) == (422, "Invalid")
    assert types == ["ADDED", "MODIFIED", "MODIFIED", "MODIFIED", "DELETED"]
    assert (await api.get(f"{config_maps}/a")).code == 404


async def test_a_pod_on_a_node_is_given_its_time(api, namespace):
    pods = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"nodeName": "node-1", "containers": [{"name": "a", "image": "a:1"}], "terminationGracePeriodSeconds": 7}
    await api.made(pods, {"metadata": {"name": "a"}, "spec": spec})

    marked = await api.call("DELETE", f"{pods}/a")
    still = await api.get(f"{pods}/a")
    await api.call("DELETE", f"{pods}/a", {"gracePeriodSeconds": 0})

    assert marked.body["metadata"]["deletionGracePeriodSeconds"] == 7
    assert still.body["metadata"]["deletionTimestamp"]
    assert (await api.get(f"{pods}/a")).code == 404


async def test_a_namespace_takes_nothing_new_while_it_ends(api, namespace, config_maps):
    await api.made(config_maps, {"metadata": {"name": "held", "finalizers": ["example.com/held"]}})
    await api.call("DELETE", f"/api/v1/namespaces/{namespace}")

    refused = await api.call("POST", config_maps, {"metadata": {"name": "late"}})
    ending = (await api.get(f"/api/v1/namespaces/{namespace}")).body
    finalize = ending | {"spec": {"finalizers": []}}
    finalize["metadata"].pop("resourceVersion")
    await api.call("PUT", f"/api/v1/namespaces/{namespace}/finalize", finalize)

    assert (refused.code, refused.body["reason"]) == (403, "Forbidden")
    assert ending["status"]["phase"] == "Terminating"
    assert (await api.get(f"/api/v1/namespaces/{namespace}")).code == 404


async def test_status_and_the_rest_are_written_apart(api, deployments):
    await api.made(deployments, deployment("a"))

    status = {"status": {"readyReplicas": 1}, "spec": {"replicas": 9}}
    by_status = await api.call("PATCH", f"{deployments}/shop/status", status, content_type=MERGE)
    by_spec = await api.call(
        "PATCH", f"{deployments}/shop", {"status": {"readyReplicas": 7}, "spec": {"replicas": 2}}, content_type=MERGE
    )

    assert (by_status.body["spec"]["replicas"], by_status.body["metadata"]["generation"]) == (1, 1)
    assert by_spec.body["status"] == {"readyReplicas": 1}
    assert (by_spec.body["spec"]["replicas"], by_spec.body["metadata"]["generation"]) == (2, 2)


async def test_scale_reads_and_writes_replicas(api, deployments):
    await api.made(deployments, deployment("a"))

    scale = (await api.get(f"{deployments}/shop/scale")).body
    await api.call("PUT", f"{deployments}/shop/scale", scale | {"spec": {"replicas": 4}})
    refused = await api.call("PATCH", f"{deployments}/shop/scale", {"spec": {"replicas": -1}}, content_type=MERGE)

    assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 1}, "app=shop")
    assert (await api.get(f"{deployments}/shop")).body["spec"]["replicas"] == 4
    assert refused.code == 422


async def test_services_get_addresses_keep_them_and_give_them_back(api, namespace):
    services = f"/api/v1/namespaces/{namespace}/services"
    ports = [{"port": 80}]
    one = await api.made(services, {"metadata": {"name": "one"}, "spec": {"ports": ports}})
    two = await api.made(services, {"metadata": {"name": "two"}, "spec": {"ports": ports}})
    none = await api.made(services, {"metadata": {"name": "none"}, "spec": {"ports": ports, "clusterIP": "None"}})
    address = one["spec"]["clusterIP"]

    replaced = await api.call(
        "PUT", f"{services}/one", {"metadata": {"name": "one"}, "spec": {"ports": [{"port": 81}]}}
    )
    taken = await api.call(
        "POST", services, {"metadata": {"name": "three"}, "spec": {"ports": ports, "clusterIP": address}}
    )
    moved = await api.call("PATCH", f"{services}/one", {"spec": {"clusterIP": "10.96.9.9"}}, content_type=MERGE)
    await api.call("DELETE", f"{services}/one")
    again = await api.made(services, {"metadata": {"name": "four"}, "spec": {"ports": ports, "clusterIP": address}})

    assert address != two["spec"]["clusterIP"]
    assert none["spec"]["clusterIPs"] == ["None"]
    assert replaced.body["spec"]["clusterIP"] == address
    assert [taken.code, moved.code] == [422, 422]
    assert again["spec"]["clusterIP"] == address


@pytest.mark.parametrize(
    ("path", "body", "strange"),
    [
        (
            "/apis/networking.k8s.io/v1/ingressclasses",
            {"spec": {"controller": "istio.io/ingress-controller"}},
            {"controler": "x"},
        ),
        (
            "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers",
            {
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
                    "maxReplicas": 3,
                }
            },
            {"maximum": 3},
        ),
        (
            "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
            {"spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "a"}}}},
            {"minimum": 1},
        ),
    ],
)
async def test_what_comes_with_a_gateway_is_kept(api, namespace, path, body, strange):
    """Charts of gateways make these, and control planes watch them, and wait until they can."""
    where = path.format(namespace=namespace)

    made = await api.made(where, {"metadata": {"name": "a"}, **body})
    refused = await api.call("POST", where, {"metadata": {"name": "b"}, "spec": strange}, fieldValidation="Strict")

    assert made["spec"] == body["spec"]
    assert refused.code == 400
    assert "unknown field" in refused.text
    assert [each["metadata"]["name"] for each in (await api.get(where)).body["items"]] == ["a"]


async def test_secrets_take_text_and_immutable_ones_stay(api, namespace):
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    made = await api.made(secrets, {"metadata": {"name": "s"}, "stringData": {"a": "text"}, "immutable": True})

    refused = await api.call("PATCH", f"{secrets}/s", {"stringData": {"a": "other"}}, content_type=MERGE)

    assert (made["data"], made["type"]) == ({"a": "dGV4dA=="}, "Opaque")
    assert "stringData" not in made
    assert refused.code == 422


async def test_a_text_that_is_null_is_an_empty_one(api, namespace):
    """So istiod writes an authority without intermediates; Kubernetes keeps it as nothing under that name."""
    where = f"/api/v1/namespaces/{namespace}"

    secret = await api.made(f"{where}/secrets", {"metadata": {"name": "s"}, "data": {"a": "Yg==", "chain": None}})
    config_map = await api.made(f"{where}/configmaps", {"metadata": {"name": "c"}, "data": {"a": None}})

    assert (secret["data"], config_map["data"]) == ({"a": "Yg==", "chain": ""}, {"a": ""})


async def test_a_collection_is_deleted_by_selector(api, config_maps):
    for name, app in (("a", "shop"), ("b", "shop"), ("c", "till")):
        await api.made(config_maps, {"metadata": {"name": name, "labels": {"app": app}}})

    await api.call("DELETE", config_maps, labelSelector="app=shop")

    left = (await api.get(config_maps)).body["items"]
    assert [item["metadata"]["name"] for item in left] == ["c"]


async def test_concurrent_patches_all_count(api, config_maps, parallel):
    await api.made(config_maps, {"metadata": {"name": "a"}})

    answers = await parallel(
        api.call("PATCH", f"{config_maps}/a", {"data": {f"key-{n}": "x"}}, content_type=MERGE) for n in range(40)
    )

    assert {answer.code for answer in answers} == {200}
    assert len((await api.get(f"{config_maps}/a")).body["data"]) == 40
    assert len({answer.body["metadata"]["resourceVersion"] for answer in answers}) == 40


async def test_versions_of_a_custom_kind_are_one_set_of_objects(api, namespace):
    group = f"{namespace}.example"
    versions = [
        {"name": name, "served": True, "storage": name == "v1", "subresources": {"status": {}}, "schema": ANYTHING}
        for name in ("v1", "v1beta1")
    ]
    names = {"plural": "lamps", "kind": "Lamp"}
    crd = {
        "metadata": {"name": f"lamps.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
    }
    await api.made("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    new, old = (f"/apis/{group}/{version}/namespaces/{namespace}/lamps" for version in ("v1", "v1beta1"))
    made = await api.made(old, {"metadata": {"name": "hall"}, "spec": {"on": True}, "status": {"no": 1}})

    async with api.watch(new) as watch:
        watched = await watch.next()
    read = (await api.get(f"{new}/hall")).body
    listed = (await api.get(new)).body

    assert made["apiVersion"] == f"{group}/v1beta1"
    assert "status" not in made
    assert [found["apiVersion"] for found in (watched["object"], read, listed["items"][0])] == [f"{group}/v1"] * 3
    assert read["metadata"] == made["metadata"]


async def test_a_definition_waits_for_its_held_objects(api, namespace):
    group = f"{namespace}.example"
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/lamps.{group}"
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": "lamps", "kind": "Lamp"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": ANYTHING}],
    }
    await api.made(path.rpartition("/")[0], {"metadata": {"name": f"lamps.{group}"}, "spec": spec})
    lamps = f"/apis/{group}/v1/namespaces/{namespace}/lamps"
    await api.made(lamps, {"metadata": {"name": "free"}})
    await api.made(lamps, {"metadata": {"name": "held", "finalizers": ["example.com/held"]}})

    await api.call("DELETE", path)
    left = [item["metadata"]["name"] for item in (await api.get(lamps)).body["items"]]
    late = await api.call("POST", lamps, {"metadata": {"name": "late"}})
    await api.call("PATCH", f"{lamps}/held", {"metadata": {"finalizers": []}}, content_type=MERGE)

    assert left == ["held"]
    assert late.code == 405
    assert [(await api.get(path)).code, (await api.get(lamps)).code] == [404, 404]


async def test_a_definition_that_makes_no_kind_is_refused_whole(api):
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    shapes = [{}, {"group": "x.example", "names": {"plural": "a", "kind": "A"}}, {"group": "x.example", "names": []}]

    answers = [await api.call("POST", path, {"metadata": {"name": "a.x.example"}, "spec": spec}) for spec in shapes]

    assert {answer.code for answer in answers} <= {400, 422}
    assert (await api.get(f"{path}/a.x.example")).code == 404
