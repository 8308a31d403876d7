"""Laws of lists and watches: pages, versions, selections, and that a watch misses nothing."""

from __future__ import annotations

import asyncio

import pytest

MERGE = "application/merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"


def config_map(name, **labels):
    return {"metadata": {"name": name, "labels": labels | {"law": "yes"}}}


@pytest.fixture
def make(server, maps):
    async def run(*names, **labels):
        return [await server.made(maps, config_map(name, **labels)) for name in names]

    return run


ONLY = {"labelSelector": "law=yes"}
"""A cluster may have put objects of its own into the namespace."""


async def test_a_list_has_a_version_from_which_a_watch_goes_on(server, maps, make):
    await make("a", "b")
    listed = await server.get(maps, **ONLY)

    async with server.watch(maps, resourceVersion=listed.version, **ONLY) as watch:
        await make("c")
        await server.call("PATCH", f"{maps}/a", {"data": {"x": "1"}}, content_type=MERGE)
        await server.call("DELETE", f"{maps}/b")
        events = [await watch.next() for _ in range(3)]

    assert listed.names == ["a", "b"]
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "c"),
        ("MODIFIED", "a"),
        ("DELETED", "b"),
    ]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert versions[0] > int(listed.version)


async def test_a_watch_from_an_objects_own_version_begins_after_it(server, maps, make):
    (made,) = await make("a")

    async with server.watch(maps, resourceVersion=made["metadata"]["resourceVersion"], **ONLY) as watch:
        await make("b")
        event = await watch.next()

    assert event["object"]["metadata"]["name"] == "b"


async def test_a_watch_without_a_version_begins_with_what_there_is(server, maps, make):
    await make("a", "b")

    async with server.watch(maps, **ONLY) as watch:
        events = [await watch.next() for _ in range(2)]

    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "a"),
        ("ADDED", "b"),
    ]


async def test_initial_events_end_with_a_bookmark(server, maps, make):
    await make("a")
    options = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}

    async with server.watch(maps, **options, **ONLY) as watch:
        first, mark = await watch.next(), await watch.next()
        await make("b")
        later = await watch.next()

    assert [first["type"], mark["type"], later["type"]] == ["ADDED", "BOOKMARK", "ADDED"]
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert mark["object"]["kind"] == "ConfigMap"
    assert later["object"]["metadata"]["name"] == "b"


async def test_initial_events_without_a_match_are_invalid(server, maps):
    answer = await server.get(maps, watch="true", sendInitialEvents="true")

    assert (answer.code, answer.body["reason"]) == (422, "Invalid")


async def test_a_watch_ends_when_its_time_is_over(server, maps):
    async with server.watch(maps, timeoutSeconds="1", labelSelector="law=never") as watch:
        assert await watch.next() == {}


async def test_a_version_that_is_too_old_is_gone(server, maps):
    async with server.watch(maps, resourceVersion="1") as watch:
        event = await watch.next()

    if event["type"] == "ADDED" and not server.is_embedded:
        pytest.skip("the server is so young that it still knows its first version")
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_an_object_that_enters_a_selection_is_added_and_one_that_leaves_it_is_deleted(server, maps, make):
    await make("a")
    version = (await server.get(maps)).version

    async with server.watch(maps, resourceVersion=version, labelSelector="colour=red") as watch:
        await server.call("PATCH", f"{maps}/a", {"metadata": {"labels": {"colour": "red"}}}, content_type=MERGE)
        left = await server.call("PATCH", f"{maps}/a", {"metadata": {"labels": {"colour": "blue"}}}, content_type=MERGE)
        events = [await watch.next() for _ in range(2)]

    assert [event["type"] for event in events] == ["ADDED", "DELETED"]
    assert events[1]["object"]["metadata"]["labels"]["colour"] == "red"
    assert events[1]["object"]["metadata"]["resourceVersion"] == left.version


async def test_what_a_watch_tells_is_what_a_list_shows_in_the_end(server, maps, make):
    version = (await server.get(maps, **ONLY)).version

    async def change(number):
        name = f"m{number % 4}"
        match number % 3:
            case 0:
                await server.call("POST", maps, config_map(name))
            case 1:
                await server.call("PATCH", f"{maps}/{name}", {"data": {"n": str(number)}}, content_type=MERGE)
            case _:
                await server.call("DELETE", f"{maps}/{name}")

    async with server.watch(maps, resourceVersion=version, **ONLY) as watch:
        await asyncio.gather(*(change(number) for number in range(60)))
        await make("last")
        seen = {}
        while "last" not in seen:
            event = await watch.next()
            name = event["object"]["metadata"]["name"]
            if event["type"] == "DELETED":
                del seen[name]
            else:
                assert (event["type"] == "ADDED") is (name not in seen)
                seen[name] = event["object"]
    listed = (await server.get(maps, **ONLY)).body["items"]

    plain = {name: obj | {"kind": "", "apiVersion": ""} for name, obj in seen.items()}
    assert plain == {obj["metadata"]["name"]: obj | {"kind": "", "apiVersion": ""} for obj in listed}


async def test_pages_show_one_moment(server, maps, make):
    await make("a", "b", "c", "d", "e")

    first = await server.get(maps, limit="2", **ONLY)
    await server.call("DELETE", f"{maps}/d")
    await make("dd")
    second = await server.get(maps, limit="2", **ONLY, **{"continue": first.body["metadata"]["continue"]})
    third = await server.get(maps, limit="2", **ONLY, **{"continue": second.body["metadata"]["continue"]})

    assert [page.names for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
    assert first.version == second.version == third.version
    assert not third.body["metadata"].get("continue")


async def test_a_token_that_is_none_is_a_bad_request(server, maps):
    answer = await server.get(maps, limit="1", **{"continue": "nonsense"})

    assert (answer.code, answer.body["reason"]) == (400, "BadRequest")


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=shop", ["a"]),
        ("app==shop", ["a"]),
        ("app!=shop", ["b", "c"]),
        ("app in (shop, till)", ["a", "b"]),
        ("app notin (shop)", ["b", "c"]),
        ("app", ["a", "b"]),
        ("!app", ["c"]),
        ("app,app!=till", ["a"]),
    ],
)
async def test_labels_select(server, maps, make, selector, names):
    await make("a", app="shop")
    await make("b", app="till")
    await make("c")

    found = await server.get(maps, labelSelector=f"{selector},law=yes")

    assert found.names == names


async def test_fields_select_and_unknown_ones_are_refused(server, maps, make):
    await make("a", "b")

    one = await server.get(maps, fieldSelector="metadata.name=a", **ONLY)
    others = await server.get(maps, fieldSelector="metadata.name!=a", **ONLY)
    wrong = await server.get(maps, fieldSelector="data.x=1")
    labels = await server.get(maps, labelSelector="not a selector(")

    assert (one.names, others.names) == (["a"], ["b"])
    assert [wrong.code, labels.code] == [400, 400]


async def test_a_collection_is_deleted_by_selection(server, maps, make):
    await make("a", "b", app="shop")
    await make("c")

    await server.call("DELETE", maps, labelSelector="app=shop")

    assert (await server.get(maps, **ONLY)).names == ["c"]


async def test_a_table_has_columns_and_a_row_for_each_object(server, maps, make):
    await make("a", "b")

    table = (await server.call("GET", maps, headers={"Accept": TABLE}, **ONLY)).body

    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert [row["cells"][0] for row in table["rows"]] == ["a", "b"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


async def test_metadata_is_given_alone(server, maps, make):
    await make("a")

    found = (await server.call("GET", maps, headers={"Accept": PARTIAL}, **ONLY)).body

    assert found["kind"] == "PartialObjectMetadataList"
    assert found["items"][0].keys() == {"kind", "apiVersion", "metadata"} or found["items"][0].keys() == {"metadata"}


async def test_discovery_names_what_is_served(server):
    core, groups = (await server.get("/api/v1")).body, (await server.get("/apis")).body
    apps = (await server.get("/apis/apps/v1")).body

    assert {"configmaps", "serviceaccounts/token", "pods/status"} <= {entry["name"] for entry in core["resources"]}
    assert {"apps", "rbac.authorization.k8s.io"} <= {group["name"] for group in groups["groups"]}
    assert "deployments/scale" in {entry["name"] for entry in apps["resources"]}


async def test_every_error_is_a_status(server, namespace):
    answers = [
        await server.get("/api/v1/nothing"),
        await server.get(f"/apis/no.such.group/v1/namespaces/{namespace}/things"),
        await server.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", [1]),
        await server.call("PUT", f"/api/v1/namespaces/{namespace}/configmaps", {}),
    ]

    assert [answer.code for answer in answers[2:]] == [400, 405]
    assert answers[0].code == 404
    assert all(answer.body.get("kind") == "Status" for answer in answers if answer.text.startswith("{"))


@pytest.mark.parametrize("number", ["ten", "1.5", "99999999999999999999"])
async def test_a_number_that_is_none_is_refused_and_not_passed_over(server, maps, number):
    answers = [
        await server.get(maps, limit=number),
        await server.get(maps, watch="true", timeoutSeconds=number),
    ]

    assert [(answer.code, answer.body["reason"]) for answer in answers] == [(400, "BadRequest")] * 2
