"""Laws of single objects: making, changing and deleting them."""

from __future__ import annotations

import asyncio

import msgspec

MERGE = "application/merge-patch+json"


def config_map(name="a", **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_a_made_object_is_read_as_it_was_answered(server, maps, namespace):
    made = await server.made(maps, config_map(x="1"))

    read = await server.get(f"{maps}/a")

    assert read.body == made
    assert made["metadata"].keys() >= {"name", "namespace", "uid", "creationTimestamp", "resourceVersion"}
    assert made["metadata"]["namespace"] == namespace


async def test_a_generated_name_begins_as_asked_and_is_given_once(server, maps):
    body = {"metadata": {"generateName": "law-"}}

    names = {(await server.made(maps, body))["metadata"]["name"] for _ in range(5)}

    assert len(names) == 5
    assert all(name.startswith("law-") and len(name) == 9 for name in names)


async def test_a_name_is_taken_once(server, maps):
    await server.made(maps, config_map())

    again = await server.call("POST", maps, config_map())

    assert (again.code, again.body["reason"]) == (409, "AlreadyExists")
    assert again.body["details"]["name"] == "a"


async def test_what_is_not_there_is_not_found_whatever_is_done_with_it(server, maps):
    answers = [
        await server.get(f"{maps}/none"),
        await server.call("PUT", f"{maps}/none", config_map("none")),
        await server.call("PATCH", f"{maps}/none", {}, content_type=MERGE),
        await server.call("DELETE", f"{maps}/none"),
    ]

    assert [answer.code for answer in answers] in ([404, 404, 404, 404], [404, 201, 404, 404])
    assert answers[0].body["kind"] == "Status"
    assert answers[0].body["reason"] == "NotFound"


async def test_a_path_that_leads_nowhere_has_details_too(server, maps):
    """`kubectl debug` looks into them to find out what it is that is missing."""
    answer = await server.call("PATCH", f"{maps}/none/no-such-part", {}, content_type=MERGE)

    assert (answer.code, answer.body["reason"], answer.body["details"]) == (404, "NotFound", {})


async def test_a_stale_version_is_a_conflict_and_changes_nothing(server, maps):
    stale = await server.made(maps, config_map(n="1"))
    fresh = await server.call("PUT", f"{maps}/a", stale | {"data": {"n": "2"}})

    put = await server.call("PUT", f"{maps}/a", stale | {"data": {"n": "3"}})
    version = {"metadata": {"resourceVersion": stale["metadata"]["resourceVersion"]}}
    patched = await server.call("PATCH", f"{maps}/a", version | {"data": {"n": "4"}}, content_type=MERGE)

    assert [answer.body["reason"] for answer in (put, patched)] == ["Conflict"] * 2
    assert (await server.get(f"{maps}/a")).body == fresh.body


async def test_a_write_without_a_version_replaces_whatever_is_there(server, maps):
    await server.made(maps, config_map(n="1"))

    put = await server.call("PUT", f"{maps}/a", config_map(n="2"))

    assert (put.code, put.body["data"]) == (200, {"n": "2"})


async def test_a_write_that_changes_nothing_keeps_the_version(server, maps):
    made = await server.made(maps, config_map(n="1"))

    put = await server.call("PUT", f"{maps}/a", made)
    patched = await server.call("PATCH", f"{maps}/a", {"data": {"n": "1"}}, content_type=MERGE)

    assert put.version == patched.version == made["metadata"]["resourceVersion"]


async def test_concurrent_patches_all_count(server, maps):
    await server.made(maps, config_map())

    answers = await asyncio.gather(
        *(server.call("PATCH", f"{maps}/a", {"data": {f"k{n}": "x"}}, content_type=MERGE) for n in range(10))
    )

    assert {answer.code for answer in answers} == {200}
    assert len((await server.get(f"{maps}/a")).body["data"]) == 10


async def test_concurrent_writes_of_one_version_have_one_winner(server, maps):
    made = await server.made(maps, config_map())

    answers = await asyncio.gather(*(server.call("PUT", f"{maps}/a", made | {"data": {"n": str(n)}}) for n in range(8)))

    assert sorted(answer.code for answer in answers) == [200, *[409] * 7]


async def test_deletions_keep_to_their_preconditions(server, maps):
    made = await server.made(maps, config_map())

    other = await server.call("DELETE", f"{maps}/a", {"preconditions": {"uid": "another"}})
    stale = await server.call("DELETE", f"{maps}/a", {"preconditions": {"resourceVersion": "1"}})
    right = await server.call("DELETE", f"{maps}/a", {"preconditions": {"uid": made["metadata"]["uid"]}})

    assert [other.code, stale.code, right.code] == [409, 409, 200]


async def test_a_name_that_is_free_again_is_another_object(server, maps):
    first = await server.made(maps, config_map())
    await server.call("DELETE", f"{maps}/a")

    second = await server.made(maps, config_map())

    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])


async def test_finalizers_keep_an_object_until_the_last_one_is_gone(server, maps):
    body = config_map() | {"metadata": {"name": "a", "finalizers": ["law.example/x", "law.example/y"]}}
    await server.made(maps, body)

    await server.call("DELETE", f"{maps}/a")
    marked = (await server.get(f"{maps}/a")).body
    added = {"metadata": {"finalizers": ["law.example/x", "law.example/new"]}}
    refused = await server.call("PATCH", f"{maps}/a", added, content_type=MERGE)
    await server.call("PATCH", f"{maps}/a", {"metadata": {"finalizers": ["law.example/y"]}}, content_type=MERGE)
    still = await server.get(f"{maps}/a")
    await server.call("PATCH", f"{maps}/a", {"metadata": {"finalizers": None}}, content_type=MERGE)

    assert marked["metadata"]["deletionTimestamp"]
    assert (refused.code, refused.body["reason"]) == (422, "Invalid")
    assert still.code == 200
    assert (await server.get(f"{maps}/a")).code == 404


async def test_generation_counts_changes_of_what_is_wanted_only(server, deployments, deployment):
    made = await server.made(deployments, deployment)

    labelled = await server.call("PATCH", f"{deployments}/law", {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)  # fmt: skip
    status = await server.call(
        "PATCH", f"{deployments}/law/status", {"status": {"observedGeneration": 1}}, content_type=MERGE
    )
    wanted = await server.call("PATCH", f"{deployments}/law", {"spec": {"paused": True}}, content_type=MERGE)

    found = [body["metadata"]["generation"] for body in (made, labelled.body, status.body, wanted.body)]
    assert found == [1, 1, 1, 2]


async def test_the_status_is_written_apart_from_the_rest(server, deployments, deployment):
    await server.made(deployments, deployment)
    both = {"spec": {"paused": True}, "status": {"conditions": [{"type": "Law", "status": "True"}]}}

    by_status = await server.call("PATCH", f"{deployments}/law/status", both, content_type=MERGE)
    by_spec = await server.call("PATCH", f"{deployments}/law", {"status": {"conditions": None}}, content_type=MERGE)

    assert "paused" not in by_status.body["spec"]
    assert "Law" in [condition["type"] for condition in by_spec.body["status"]["conditions"]]


async def test_who_creates_an_object_does_not_say_its_status(server, namespace, deployments, deployment):
    pods = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"containers": [{"name": "a", "image": "a:1"}], "nodeName": "no-machine"}
    ready = {"phase": "Running", "podIP": "192.0.2.1", "conditions": [{"type": "Ready", "status": "True"}]}
    pod = await server.call("POST", pods, {"metadata": {"name": "p"}, "spec": spec, "status": ready})
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    address = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}

    made = [
        await server.made(f"/api/v1/namespaces/{namespace}/services", service | {"status": address}),
        await server.made(deployments, deployment | {"status": {"replicas": 7}}),
        # A server may want its account to be there before a Pod is.
        *([pod.body] if pod.code == 201 else []),
    ]

    assert "192.0.2.1" not in str(made)
    assert made[1].get("status", {}).get("replicas", 0) == 0


async def test_a_scale_reads_and_writes_replicas(server, deployments, deployment):
    await server.made(deployments, deployment | {"spec": deployment["spec"] | {"paused": True}})

    scale = (await server.get(f"{deployments}/law/scale")).body
    del scale["metadata"]["resourceVersion"]  # Controllers write the object meanwhile.
    scaled = await server.call("PUT", f"{deployments}/law/scale", scale | {"spec": {"replicas": 1}}, dryRun="All")

    assert (scale["kind"], scale["apiVersion"], scale["status"]["selector"]) == ("Scale", "autoscaling/v1", "app=law")
    assert scaled.body["spec"] == {"replicas": 1}


async def test_a_scale_says_which_pods_are_counted_and_is_a_row_of_its_own(server, deployments, deployment):
    expressions = [
        {"key": "tier", "operator": "NotIn", "values": ["b", "a"]},
        {"key": "zone", "operator": "DoesNotExist"},
        {"key": "app", "operator": "Exists"},
    ]
    selector = {"matchLabels": {"app": "law"}, "matchExpressions": expressions}
    await server.made(deployments, deployment | {"spec": deployment["spec"] | {"selector": selector, "paused": True}})

    scale = (await server.get(f"{deployments}/law/scale")).body
    as_table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = (await server.call("GET", f"{deployments}/law/scale", headers=as_table)).body

    assert sorted(scale["status"]["selector"].replace("(a,b)", "(a b)").split(",")) == [
        "!zone",
        "app",
        "app=law",
        "tier notin (a b)",
    ]
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
    assert table["rows"][0]["cells"][:3] == ["law", 0, 0]


async def test_a_dry_run_answers_as_if_and_leaves_everything(server, maps):
    kept = await server.made(maps, config_map("kept", n="1"))

    made = await server.call("POST", maps, config_map("new"), dryRun="All")
    put = await server.call("PUT", f"{maps}/kept", config_map("kept", n="2"), dryRun="All")
    patched = await server.call("PATCH", f"{maps}/kept", {"data": {"n": "3"}}, content_type=MERGE, dryRun="All")
    deleted = await server.call("DELETE", f"{maps}/kept", dryRun="All")
    in_body = await server.call("DELETE", f"{maps}/kept", {"dryRun": ["All"]})
    taken = await server.call("POST", maps, config_map("kept"), dryRun="All")
    wrong = await server.call("POST", maps, config_map("other"), dryRun="Some")

    assert [answer.code for answer in (made, put, patched, deleted, in_body, taken)] == [201, 200, 200, 200, 200, 409]
    assert (put.body["data"], patched.body["data"]) == ({"n": "2"}, {"n": "3"})
    assert wrong.code in (400, 422)
    assert (await server.get(f"{maps}/kept")).body == kept
    assert (await server.get(f"{maps}/new")).code == 404


async def test_unknown_fields_are_refused_told_or_dropped(server, maps):
    unknown = config_map("a", x="1") | {"bogus": 1}

    strict = await server.call("POST", maps, unknown, fieldValidation="Strict")
    warned = await server.call("POST", maps, unknown, fieldValidation="Warn")
    silent = await server.call("POST", maps, unknown | {"metadata": {"name": "b"}}, fieldValidation="Ignore")

    assert (strict.code, strict.body["reason"]) == (400, "BadRequest")
    assert 'unknown field "bogus"' in strict.body["message"]
    assert (warned.code, silent.code) == (201, 201)
    assert 'unknown field \\"bogus\\"' in warned.warnings[0]
    assert silent.warnings == []
    assert "bogus" not in warned.body
    assert "bogus" not in silent.body


async def test_a_field_that_is_said_twice_is_refused_where_mistakes_are(server, maps):
    twice = msgspec.Raw(b'{"metadata":{"name":"a"},"data":{"colour":"red","colour":"blue"}}')

    strict = await server.call("POST", maps, twice, fieldValidation="Strict")
    silent = await server.call("POST", maps, twice, fieldValidation="Ignore")

    assert (strict.code, strict.body["reason"]) == (400, "BadRequest")
    assert 'duplicate field "data.colour"' in strict.body["message"]
    assert (silent.code, silent.body["data"]) == (201, {"colour": "blue"})


async def test_values_of_the_wrong_type_are_refused(server, maps, deployments, deployment):
    number = await server.call("POST", maps, config_map() | {"data": {"a": 1}})
    text = await server.call("POST", deployments, deployment | {"spec": deployment["spec"] | {"replicas": "two"}})

    assert [number.code, text.code] == [400, 400]


async def test_names_that_cannot_be_are_invalid_and_say_which_field(server, maps):
    refused = await server.call("POST", maps, config_map("Not_A_Name"))

    assert (refused.code, refused.body["reason"]) == (422, "Invalid")
    assert [cause["field"] for cause in refused.body["details"]["causes"]] == ["metadata.name"]


async def test_immutable_maps_stay_as_they_are(server, maps):
    await server.made(maps, config_map(x="1") | {"immutable": True})

    refused = await server.call("PATCH", f"{maps}/a", {"data": {"x": "2"}}, content_type=MERGE)

    assert (refused.code, refused.body["reason"]) == (422, "Invalid")


async def test_a_service_gets_an_address_that_it_keeps(server, namespace):
    services = f"/api/v1/namespaces/{namespace}/services"
    made = await server.made(services, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    headless = {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}

    without = await server.made(services, headless)
    taken = {"metadata": {"name": "t"}, "spec": {"clusterIP": made["spec"]["clusterIP"], "ports": [{"port": 80}]}}
    refused = await server.call("POST", services, taken)
    changed = await server.call("PATCH", f"{services}/s", {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)

    assert made["spec"]["clusterIPs"] == [made["spec"]["clusterIP"]]
    assert without["spec"]["clusterIP"] == "None"
    assert (refused.code, refused.body["reason"]) == (422, "Invalid")
    assert changed.body["spec"]["clusterIP"] == made["spec"]["clusterIP"]
