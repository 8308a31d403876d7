"""Watches: what a client hears, from which version on, and when it is told to list anew."""

from __future__ import annotations

import asyncio


def config_map(name: str, **labels: str) -> dict:
    return {"metadata": {"name": name, "labels": labels}, "data": {"key": "value"}}


async def test_a_watch_from_a_list_hears_every_later_change_in_order(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await api.made(path, config_map("before"))
    listed = (await api.get(path)).body

    async with api.watch(path, resourceVersion=listed["metadata"]["resourceVersion"]) as watch:
        await api.made(path, config_map("after"))
        await api.call(
            "PATCH", f"{path}/after", {"data": {"key": "other"}}, content_type="application/merge-patch+json"
        )
        await api.call("DELETE", f"{path}/after")
        seen = [await watch.next() for _ in range(3)]

    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in seen]
    assert versions == sorted(set(versions))
    assert versions[0] > int(listed["metadata"]["resourceVersion"])
    assert {event["object"]["kind"] for event in seen} == {"ConfigMap"}


async def test_a_watch_from_an_earlier_version_is_told_what_it_missed(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    first = await api.made(path, config_map("a"))
    await api.made(path, config_map("b"))
    await api.call("DELETE", f"{path}/a")

    async with api.watch(path, resourceVersion=first["metadata"]["resourceVersion"]) as watch:
        seen = await watch.next_names(2)

    assert seen == [("ADDED", "b"), ("DELETED", "a")]


async def test_clients_that_watch_the_same_hear_each_what_it_does_not_know_and_go_by_themselves(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    first = await api.made(path, config_map("a"))
    second = await api.made(path, config_map("b"))

    async with api.watch(path, resourceVersion=first["metadata"]["resourceVersion"]) as early:
        async with api.watch(path, resourceVersion=second["metadata"]["resourceVersion"]) as late:
            await api.made(path, config_map("c"))
            heard_late = await late.next_names(1)
        await api.made(path, config_map("d"))
        heard_early = await early.next_names(3)

    assert heard_late == [("ADDED", "c")]
    assert heard_early == [("ADDED", "b"), ("ADDED", "c"), ("ADDED", "d")]


async def test_a_watch_without_a_version_begins_with_what_there_is(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await api.made(path, config_map("a"))

    async with api.watch(path) as watch:
        await api.made(path, config_map("b"))
        seen = await watch.next_names(2)

    assert seen == [("ADDED", "a"), ("ADDED", "b")]


async def test_after_a_restart_a_watch_from_before_it_is_expired(fresh_server, connected):
    async with connected(fresh_server) as api:
        listed = (await api.get("/api/v1/configmaps")).body
    assert fresh_server.stop() == 0
    fresh_server.start()

    async with (
        connected(fresh_server) as api,
        api.watch("/api/v1/configmaps", resourceVersion=listed["metadata"]["resourceVersion"]) as watch,
    ):
        event = await watch.next()
        end = await watch.next()

    status = event["object"]
    assert (event["type"], status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")
    assert end == {}


async def test_a_server_that_stops_ends_its_watches(fresh_server, connected):
    async with connected(fresh_server) as api, api.watch("/api/v1/configmaps") as watch:
        code = await asyncio.to_thread(fresh_server.stop)
        end = await watch.next()

    assert (code, end) == (0, {})


async def test_a_watch_from_a_version_that_has_not_been_is_expired(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/secrets"

    async with api.watch(path, resourceVersion="999999999999") as watch:
        event = await watch.next()

    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_initial_events_end_with_a_bookmark_and_the_watch_goes_on(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await api.made(path, config_map("a"))
    options = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}

    async with api.watch(path, **options) as watch:
        initial = await watch.next()
        bookmark = await watch.next()
        await api.made(path, config_map("b"))
        later = await watch.next()

    assert (initial["type"], initial["object"]["metadata"]["name"]) == ("ADDED", "a")
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["kind"] == "ConfigMap"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(later["object"]["metadata"]["resourceVersion"]) > int(bookmark["object"]["metadata"]["resourceVersion"])


async def test_initial_events_without_a_version_match_are_refused(api, namespace):
    answer = await api.get(f"/api/v1/namespaces/{namespace}/configmaps", watch="1", sendInitialEvents="true")

    assert (answer.code, answer.body["reason"]) == (422, "Invalid")


async def test_a_watch_that_ends_leaves_a_bookmark_from_which_nothing_is_missed(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    async with api.watch(path, allowWatchBookmarks="true", timeoutSeconds="1") as watch:
        bookmark = await watch.next()
        end = await watch.next()
    await api.made(path, config_map("later"))

    async with api.watch(path, resourceVersion=bookmark["object"]["metadata"]["resourceVersion"]) as watch:
        seen = await watch.next_names(1)

    assert (bookmark["type"], end, seen) == ("BOOKMARK", {}, [("ADDED", "later")])


async def test_objects_enter_and_leave_a_selection(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    merge = "application/merge-patch+json"

    async with api.watch(path, labelSelector="app=shop") as watch:
        await api.made(path, config_map("other", app="till"))
        await api.made(path, config_map("one"))
        await api.call("PATCH", f"{path}/one", {"metadata": {"labels": {"app": "shop"}}}, content_type=merge)
        await api.call("PATCH", f"{path}/one", {"metadata": {"labels": {"app": "till"}}}, content_type=merge)
        seen = await watch.next_names(2)

    assert seen == [("ADDED", "one"), ("DELETED", "one")]


async def test_a_watch_of_one_object_hears_of_no_other(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"

    async with api.watch(path, fieldSelector="metadata.name=mine") as watch:
        await api.made(path, config_map("theirs"))
        await api.made(path, config_map("mine"))
        seen = await watch.next_names(1)

    assert seen == [("ADDED", "mine")]


async def test_an_equal_write_is_silent(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = await api.made(path, config_map("same"))

    async with api.watch(path, resourceVersion=made["metadata"]["resourceVersion"]) as watch:
        again = await api.call("PUT", f"{path}/same", config_map("same"))
        await api.made(path, config_map("next"))
        seen = await watch.next_names(1)

    assert again.body["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert seen == [("ADDED", "next")]


async def test_a_table_watch_sends_rows_as_kubectl_reads_them(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await api.made(path, config_map("a"))

    answer = await api.call(
        "GET",
        path,
        headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"},
        watch="1",
        timeoutSeconds="1",
    )

    event = answer.body
    assert event["object"]["kind"] == "Table"
    assert event["object"]["rows"][0]["object"]["metadata"]["name"] == "a"
