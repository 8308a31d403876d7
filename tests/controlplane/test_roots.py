"""Who publishes the mesh's roots in a cluster, when several control planes could."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isthmus.controlplane.roots import CONFIG_MAP, KEY, PUBLISHED_BY, WRITERS, RootPublisher
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.model.identity import TrustDomain
from isthmus.model.issues import Issue
from isthmus.model.names import ClusterId, Namespace
from isthmus.trust import x509

NAMESPACES, CONFIG_MAPS = "/api/v1/namespaces", "/api/v1/configmaps"
SYSTEM = Namespace("istio-system")


def root() -> str:
    made = x509.new_root(TrustDomain.parse("cluster.local"), datetime.now(UTC), timedelta(days=1))
    return x509.certificate_pem(made.certificate)


OURS, THEIRS = root(), root()


@asynccontextmanager
async def publishing(
    cluster: Any, roots: str = OURS, *, home: str = "east", is_own: bool = False, system: str = SYSTEM
) -> AsyncIterator[Any]:
    """A publisher of the control plane of `home`; gives the issues that it reports."""
    reported: list[Issue] = []

    def report(issues: Any) -> None:
        reported[:] = issues

    async with ApiClient(ApiAddress(server=cluster.url)) as client, asyncio.TaskGroup() as tasks:
        publisher = RootPublisher(
            client,
            roots,
            cluster=ClusterId("west"),
            home=ClusterId(home),
            is_own=is_own,
            system_namespace=Namespace(system),
            report=report,
        )
        task = tasks.create_task(publisher.run(), name="publisher")
        yield reported
        task.cancel()


async def until(holds: Callable[[], Any]) -> None:
    for _ in range(6000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not in a minute")


def published(cluster: Any) -> dict[str, str]:
    return {namespace: found["data"][KEY] for (namespace, _), found in cluster.collections.get(CONFIG_MAPS, {}).items()}


def publishers(cluster: Any) -> set[str]:
    return {found["metadata"]["annotations"][PUBLISHED_BY] for found in cluster.collections[CONFIG_MAPS].values()}


@pytest.fixture
async def west(fake_cluster):
    """A remote that lets the control planes of east and center write."""
    cluster = await fake_cluster()
    await cluster.put(NAMESPACES, SYSTEM, metadata={"annotations": {WRITERS: "east, center"}})
    await cluster.put(NAMESPACES, "shop")
    return cluster


async def test_the_roots_are_in_every_namespace_also_in_one_that_comes_later(west):
    async with publishing(west):
        await until(lambda: published(west) == {"istio-system": OURS, "shop": OURS})
        await west.put(NAMESPACES, "later")
        await until(lambda: "later" in published(west))


async def test_a_cluster_that_does_not_allow_it_is_not_written_into(west):
    await west.put(NAMESPACES, SYSTEM, metadata={"annotations": {WRITERS: "center"}})
    async with publishing(west) as reported:
        await until(lambda: CONFIG_MAPS in west.asked)
        await west.put(NAMESPACES, SYSTEM, metadata={"annotations": {WRITERS: "*"}})
        await until(lambda: len(published(west)) == 2)
    assert west.written == [f"POST istio-system/{CONFIG_MAP}", f"POST shop/{CONFIG_MAP}"]
    assert reported == []


async def test_another_root_is_told_and_what_is_published_stays(west):
    async with publishing(west, THEIRS, home="center"):
        await until(lambda: len(published(west)) == 2)

    async with publishing(west, OURS, home="east") as reported:
        await until(lambda: reported)
        await west.put(NAMESPACES, "later")
        await until(lambda: west.events[-1][2]["object"]["metadata"]["name"] == "later")

    [issue] = reported
    assert (issue.code, issue.subject.cluster, issue.subject.name) == ("ISM0205", "west", CONFIG_MAP)
    assert "those of center" in issue.what
    assert set(published(west).values()) == {THEIRS}
    assert len(west.written) == 2, "nothing was overwritten"


async def test_one_root_among_several_is_no_contradiction_and_new_namespaces_get_what_the_others_have(west):
    async with publishing(west, OURS + THEIRS, home="center"):
        await until(lambda: len(published(west)) == 2)
    async with publishing(west, OURS, home="east") as reported:
        await west.put(NAMESPACES, "later")
        await until(lambda: published(west).get("later") == OURS + THEIRS)
    assert reported == []
    assert set(published(west).values()) == {OURS + THEIRS}


async def test_a_cluster_s_own_control_plane_publishes_whatever_is_there(west):
    await west.put(
        CONFIG_MAPS, CONFIG_MAP, SYSTEM, data={KEY: THEIRS}, metadata={"annotations": {PUBLISHED_BY: "east"}}
    )
    async with publishing(west, OURS, home="west", is_own=True):
        await until(lambda: published(west) == {"istio-system": OURS, "shop": OURS})


async def test_new_roots_of_the_same_control_plane_replace_its_old_ones(west):
    async with publishing(west, OURS, home="east"):
        await until(lambda: len(published(west)) == 2)
    async with publishing(west, OURS + THEIRS, home="east"):
        await until(lambda: set(published(west).values()) == {OURS + THEIRS})


async def test_a_cluster_s_own_control_plane_takes_over_what_another_one_published_first(west):
    """What the other writes when it comes back with another root would take the cluster's own proxies from it."""
    async with publishing(west, OURS, home="east"):
        await until(lambda: len(published(west)) == 2)

    async with publishing(west, OURS, home="west", is_own=True):
        await until(lambda: publishers(west) == {"west"})
        async with publishing(west, THEIRS, home="east") as reported:
            await until(lambda: reported)

    assert [issue.code for issue in reported] == ["ISM0205"]
    seen = [event["object"]["data"][KEY] for path, _, event in west.events if path == CONFIG_MAPS]
    assert set(seen) == {OURS}, "proxies never saw the other root"


async def test_one_of_several_that_comes_back_with_nothing_of_what_it_published_is_told_and_changes_nothing(west):
    async with publishing(west, OURS, home="east"), publishing(west, OURS, home="center") as of_center:
        await until(lambda: len(published(west)) == 2)
    async with publishing(west, OURS, home="center") as of_center:
        async with publishing(west, THEIRS, home="east") as of_east:
            await until(lambda: of_east)
        await west.put(NAMESPACES, "later")
        await until(lambda: "later" in published(west))

    [issue] = of_east
    assert issue.code == "ISM0205"
    assert of_center == []
    assert set(published(west).values()) == {OURS}


async def test_the_only_one_that_may_write_replaces_its_roots_whatever_they_are(west):
    await west.put(NAMESPACES, SYSTEM, metadata={"annotations": {WRITERS: "east"}})
    async with publishing(west, OURS, home="east"):
        await until(lambda: len(published(west)) == 2)
    async with publishing(west, THEIRS, home="east"):
        await until(lambda: set(published(west).values()) == {THEIRS})


async def test_two_of_one_cluster_with_different_roots_leave_each_other_s_namespaces_alone(west):
    await west.put(NAMESPACES, "other-system")
    async with publishing(west, OURS, home="west", is_own=True):
        await until(lambda: len(published(west)) == 3)
        async with publishing(west, THEIRS, home="west", is_own=True, system="other-system") as reported:
            await until(lambda: published(west)["other-system"] == THEIRS and reported)

    assert [issue.code for issue in reported] == ["ISM0205"]
    assert "in istio-system, shop are those of another control plane" in reported[0].what
    seen = [event["object"] for path, _, event in west.events if path == CONFIG_MAPS]
    of_the_first = [each["data"][KEY] for each in seen if each["metadata"]["namespace"] != "other-system"]
    of_the_other = [each["data"][KEY] for each in seen if each["metadata"]["namespace"] == "other-system"]
    assert set(of_the_first) == {OURS}
    assert of_the_other == sorted(of_the_other, key=[OURS, THEIRS].index), "once changed, never changed back"


async def test_a_namespace_is_another_control_plane_s_when_its_config_map_says_so(west):
    async with publishing(west, OURS, home="west", is_own=True):
        await until(lambda: len(published(west)) == 2)
        said = {"annotations": {PUBLISHED_BY: "west/other-system"}}
        await west.put(CONFIG_MAPS, CONFIG_MAP, "shop", data={KEY: OURS}, metadata=said)
        async with publishing(west, THEIRS, home="west", is_own=True, system="other-system"):
            await until(lambda: published(west) == {"istio-system": OURS, "shop": THEIRS})
