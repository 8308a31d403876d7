"""The HTTP surface: every refusal is a Status, lists come in pages, and clients find out what there is."""

from __future__ import annotations

import pytest


@pytest.fixture
def config_maps(namespace):
    return f"/api/v1/namespaces/{namespace}/configmaps"


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [
        ("GET", "/nowhere", 404, "NotFound"),
        ("GET", "/api/v2", 404, "NotFound"),
        ("GET", "/api/v1/gadgets", 404, "NotFound"),
        ("GET", "/apis/none.example/v1/gadgets", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/pods/a/b", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/pods/a/status/c", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/nodes", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/pods/none", 404, "NotFound"),
        ("PUT", "/api/v1/pods", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/namespaces/default", 405, "MethodNotAllowed"),
        ("GET", "/apis/authentication.k8s.io/v1/tokenreviews", 405, "MethodNotAllowed"),
        ("DELETE", "/version", 405, "MethodNotAllowed"),
        ("GET", "/api/v1/pods?labelSelector=a%20b%20c", 400, "BadRequest"),
        ("GET", "/api/v1/pods?fieldSelector=spec.colour=red", 400, "BadRequest"),
        ("GET", "/api/v1/pods?resourceVersion=soon", 400, "BadRequest"),
        ("GET", "/api/v1/pods?continue=xyz", 400, "BadRequest"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_status(api, method, path, code, reason):
    answer = await api.call(method, path)

    assert (answer.code, answer.body["kind"], answer.body["status"]) == (code, "Status", "Failure")
    assert (answer.body["reason"], answer.body["code"]) == (reason, code)
    assert answer.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    ("content_type", "raw", "code", "reason"),
    [
        ("application/json", b"{not json", 400, "BadRequest"),
        ("application/json", b"[]", 400, "BadRequest"),
        ("application/json", b'{"metadata": []}', 400, "BadRequest"),
        ("application/json", b"\xff\xfe", 400, "BadRequest"),
        ("application/json", b"[" * 100_000, 400, "BadRequest"),
        ("application/yaml", b"a: [", 400, "BadRequest"),
        ("text/html", b"<html>", 415, "UnsupportedMediaType"),
        ("application/vnd.kubernetes.protobuf", b"k8s\x00garbage", 415, "UnsupportedMediaType"),
        ("application/json", b'{"kind":"Secret","metadata":{"name":"a"}}', 400, "BadRequest"),
        ("application/json", b'{"apiVersion":"v2","metadata":{"name":"a"}}', 400, "BadRequest"),
        ("application/json", b'{"metadata":{"name":"a","namespace":"elsewhere"}}', 400, "BadRequest"),
        ("application/json", b'{"metadata":{"name":"a","labels":{"n":1}}}', 400, "BadRequest"),
        ("application/json", b'{"metadata":{"name":"a","resourceVersion":"1"}}', 400, "BadRequest"),
        ("application/json", b'{"metadata":{"name":"Not_A_Name"}}', 422, "Invalid"),
        ("application/json", b'{"metadata":{"name":7}}', 400, "BadRequest"),
        ("application/json", b"{}", 422, "Invalid"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_and_stores_nothing(
    api, config_maps, content_type, raw, code, reason
):
    answer = await api.call("POST", config_maps, raw=raw, content_type=content_type)

    assert (answer.code, answer.body["kind"], answer.body["reason"]) == (code, "Status", reason)
    assert (await api.get(config_maps)).body["items"] == []


async def test_a_body_that_is_too_large_is_refused(api, config_maps):
    answer = await api.call("POST", config_maps, {"metadata": {"name": "a"}, "data": {"a": "x" * 4_000_000}})

    assert (answer.code, answer.body["reason"]) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize(
    ("content_type", "raw", "code"),
    [
        ("application/json", b"{}", 415),
        ("application/merge-patch+json", b"{oops", 400),
        ("application/merge-patch+json", b"7", 400),
        ("application/json-patch+json", b"{}", 400),
        ("application/json-patch+json", b'[{"op":"fly","path":"/data"}]', 400),
        ("application/json-patch+json", b'[{"op":"remove","path":"/data/none"}]', 422),
        ("application/json-patch+json", b'[{"op":"remove","path":""}]', 400),
        ("application/merge-patch+json", b'{"metadata":{"name":"other"}}', 400),
        ("application/merge-patch+json", b'{"metadata":{"labels":{"a":true}}}', 400),
    ],
)
async def test_a_patch_that_cannot_be_made_changes_nothing(api, config_maps, content_type, raw, code):
    made = await api.made(config_maps, {"metadata": {"name": "a"}, "data": {"k": "v"}})

    answer = await api.call("PATCH", f"{config_maps}/a", raw=raw, content_type=content_type)

    assert (answer.code, answer.body["kind"]) == (code, "Status")
    assert (await api.get(f"{config_maps}/a")).body == made


async def test_an_object_may_come_as_yaml(api, config_maps):
    raw = b"metadata: {name: a, annotations: {when: '2020-01-01'}}\ndata: {key: value}\n"

    answer = await api.call("POST", config_maps, raw=raw, content_type="application/yaml")

    assert (answer.code, answer.body["data"]) == (201, {"key": "value"})


async def test_a_list_comes_in_pages_that_a_watch_can_follow(api, config_maps):
    for name in "abcde":
        await api.made(config_maps, {"metadata": {"name": name}})

    first = (await api.get(config_maps, limit="2")).body
    await api.call("DELETE", f"{config_maps}/a")
    await api.made(config_maps, {"metadata": {"name": "dd"}})
    second = (await api.get(config_maps, limit="2", **{"continue": first["metadata"]["continue"]})).body
    third = (await api.get(config_maps, limit="9", **{"continue": second["metadata"]["continue"]})).body
    async with api.watch(config_maps, resourceVersion=third["metadata"]["resourceVersion"]) as watch:
        later = await watch.next_names(2)

    pages = [[item["metadata"]["name"] for item in page["items"]] for page in (first, second, third)]
    assert pages == [["a", "b"], ["c", "d"], ["e"]]
    assert first["metadata"]["remainingItemCount"] == 3
    assert "continue" not in third["metadata"]
    assert {page["metadata"]["resourceVersion"] for page in (first, second, third)} == {
        first["metadata"]["resourceVersion"]
    }
    assert later == [("DELETED", "a"), ("ADDED", "dd")]


async def test_a_page_of_a_list_that_is_forgotten_is_gone(fresh_server, connected):
    maps = "/api/v1/namespaces/default/configmaps"
    async with connected(fresh_server) as api:
        for name in "abc":
            await api.made(maps, {"metadata": {"name": name}})
        token = (await api.get(maps, limit="1")).body["metadata"]["continue"]
    fresh_server.stop()
    fresh_server.start()

    async with connected(fresh_server) as api:
        answer = await api.get(maps, **{"continue": token})

    assert (answer.code, answer.body["reason"]) == (410, "Expired")


async def test_a_version_that_has_not_been_is_told_as_such(api, config_maps):
    answer = await api.get(config_maps, resourceVersion="999999999999")

    assert (answer.code, answer.body["reason"]) == (504, "Timeout")
    assert answer.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_a_list_at_an_exact_version_that_has_passed_is_gone(api, config_maps):
    version = (await api.get(config_maps)).body["metadata"]["resourceVersion"]
    await api.made(config_maps, {"metadata": {"name": "a"}})

    answer = await api.get(config_maps, resourceVersion=version, resourceVersionMatch="Exact")

    assert (answer.code, answer.body["reason"]) == (410, "Expired")


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=shop", ["a", "b"]),
        ("app==shop,tier=front", ["a"]),
        ("app!=shop", ["c", "d"]),
        ("app in (shop, till),tier notin (front)", ["b", "c"]),
        ("tier", ["a"]),
        ("!app", ["d"]),
    ],
)
async def test_label_selectors(api, config_maps, selector, names):
    for name, labels in (("a", {"app": "shop", "tier": "front"}), ("b", {"app": "shop"}), ("c", {"app": "till"})):
        await api.made(config_maps, {"metadata": {"name": name, "labels": labels}})
    await api.made(config_maps, {"metadata": {"name": "d"}})

    listed = (await api.get(config_maps, labelSelector=selector)).body

    assert [item["metadata"]["name"] for item in listed["items"]] == names


async def test_field_selectors_find_the_pods_of_a_node(api, namespace):
    pods = f"/api/v1/namespaces/{namespace}/pods"
    for name, node in (("a", "n1"), ("b", "n2")):
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
        await api.made(pods, {"metadata": {"name": name}, "spec": spec})

    listed = (await api.get("/api/v1/pods", fieldSelector=f"spec.nodeName=n1,metadata.namespace={namespace}")).body
    others = (await api.get(pods, fieldSelector="spec.nodeName!=n1,status.phase=Pending")).body

    assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]
    assert [item["metadata"]["name"] for item in others["items"]] == ["b"]


async def test_metadata_alone_is_given_to_those_who_want_no_more(api, config_maps):
    await api.made(config_maps, {"metadata": {"name": "a"}, "data": {"k": "v"}})
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}

    listed = (await api.call("GET", config_maps, headers=accept)).body

    assert listed["kind"] == "PartialObjectMetadataList"
    assert "data" not in listed["items"][0]
    assert listed["items"][0]["metadata"]["name"] == "a"


async def test_a_dry_run_shows_and_keeps_nothing(api, config_maps):
    shown = await api.call("POST", config_maps, {"metadata": {"name": "a"}}, dryRun="All")

    assert (shown.code, shown.body["metadata"]["name"]) == (201, "a")
    assert (await api.get(f"{config_maps}/a")).code == 404


async def test_discovery_in_both_forms_and_only_once(api):
    legacy = (await api.get("/apis")).body
    wanted = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    aggregated = await api.call("GET", "/apis", headers=wanted)
    again = await api.call("GET", "/apis", headers=wanted | {"If-None-Match": aggregated.headers["ETag"]})
    core = (await api.get("/api/v1")).body

    assert {group["name"] for group in legacy["groups"]} == {
        item["metadata"]["name"] for item in aggregated.body["items"]
    }
    assert again.code == 304
    assert {"pods", "pods/status", "serviceaccounts/token"} <= {row["name"] for row in core["resources"]}


async def test_the_servers_keys_are_published_for_those_who_check_tokens_themselves(api):
    document = (await api.get("/.well-known/openid-configuration")).body
    keys = (await api.get("/openid/v1/jwks")).body["keys"]

    assert document["issuer"] == "https://kubernetes.default.svc.cluster.local"
    assert [(key["kty"], key["crv"], key["alg"]) for key in keys] == [("EC", "P-256", "ES256")]


async def test_every_cluster_begins_with_its_namespaces_and_the_service_of_its_server(api, server):
    namespaces = {item["metadata"]["name"] for item in (await api.get("/api/v1/namespaces")).body["items"]}
    service = (await api.get("/api/v1/namespaces/default/services/kubernetes")).body
    slice_ = (await api.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")).body

    assert {"default", "kube-system", "kube-public", "kube-node-lease"} <= namespaces
    assert service["spec"]["clusterIP"] == "10.96.0.1"
    assert f"{slice_['endpoints'][0]['addresses'][0]}:{slice_['ports'][0]['port']}" == server.public


def test_what_is_secret_is_for_its_owner_only(server):
    modes = {path.name: path.stat().st_mode & 0o777 for path in server.directory.iterdir()}

    assert {name: mode for name, mode in modes.items() if name not in ("ca.crt",)} == {
        name: 0o600 for name in modes if name != "ca.crt"
    }
    assert server.directory.stat().st_mode & 0o777 == 0o700
