"""Clusters join, change and leave: over real connections to small API servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from isthmus.controlplane import clusters, feeds
from isthmus.controlplane.cluster_table import add_metrics
from isthmus.controlplane.clusters import RemoteClusters, RemoteSettings
from isthmus.controlplane.kept_clusters import KeptClusters
from isthmus.controlplane.remote_secrets import RemoteRules
from isthmus.controlplane.staleness import HOLD, StalePolicy
from isthmus.controlplane.world import ImportedCluster, World
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ImportState, Standing

EAST, WEST = ClusterId("east"), ClusterId("west")
SERVICES = "/api/v1/services"
SECRETS = "/api/v1/namespaces/istio-system/secrets"
NAMESPACES = "/api/v1/namespaces"
RULES = RemoteRules(own_cluster=EAST, system_namespace=Namespace("istio-system"))


class Followed:
    """A world, and the remote clusters that are followed into it."""

    def __init__(self, world: World, remotes: RemoteClusters) -> None:
        self.world = world
        self.remotes = remotes

    async def until(self, holds: Callable[[], Any]) -> Any:
        for _ in range(6000):
            found = holds()
            if found:
                return found
            await asyncio.sleep(0.01)
        raise AssertionError("not in a minute")

    def row(self, cluster: str = "west") -> Any:
        return next((row for row in self.remotes.table() if row.id == cluster), None)

    def services(self, cluster: ClusterId = WEST) -> list[str]:
        imported = self.world.clusters.get(cluster)
        return sorted(name for _, name in imported.objects["Service"]) if imported else []

    def issues(self) -> list[tuple[str, str]]:
        return [(issue.code, issue.subject.name) for issue in self.world.snapshot().issues]


@asynccontextmanager
async def following(own: Any, **settings: Any) -> AsyncIterator[Followed]:
    world = World(MeshSettings(mesh=MeshId("m"), trust_domain=TrustDomain("cluster.local")), EAST)
    wanted = RemoteSettings(**({"rules": RULES, "sync_seconds": 5.0, "policy": HOLD} | settings))
    async with ApiClient(ApiAddress(server=own.url)) as client, asyncio.TaskGroup() as tasks:
        remotes = RemoteClusters(world, client, wanted)
        task = tasks.create_task(remotes.run(), name="remotes")
        yield Followed(world, remotes)
        task.cancel()


@pytest.fixture
async def own(fake_cluster):
    return await fake_cluster()


@pytest.fixture
async def west(fake_cluster):
    cluster = await fake_cluster()
    await cluster.put(SERVICES, "web", "shop")
    return cluster


@pytest.fixture
def quickly(monkeypatch):
    """Looks more often than a mesh has to."""
    monkeypatch.setattr(feeds, "_CHECK_SECONDS", 0.02)
    monkeypatch.setattr(clusters, "_RETRY_SECONDS_FIRST", 0.02)


async def test_a_cluster_appears_with_everything_in_it_and_goes_with_its_secret(own, west):
    await own.put_secret("s", west=west.kubeconfig())
    async with following(own) as mesh:
        assert await mesh.remotes.settled()
        assert mesh.services() == ["web"]
        row = mesh.row()
        assert (row.secretName, row.syncStatus, row.state, row.server) == ("istio-system/s", "synced", "live", west.url)
        assert row.lastContact

        await own.delete(SECRETS, "s", "istio-system")

        await mesh.until(lambda: WEST not in mesh.world.clusters)
        assert (mesh.row().state, mesh.row().syncStatus) == ("gone", "closed")


async def test_ten_clusters_join_while_it_runs_and_five_leave(own, fake_cluster):
    names = [ClusterId(f"c{number}") for number in range(10)]
    async with following(own) as mesh:
        await mesh.remotes.settled()
        for name in names:
            cluster = await fake_cluster()
            await cluster.put(SERVICES, f"web-{name}", "shop")
            await own.put_secret(name, **{name: cluster.kubeconfig()})
        await mesh.until(lambda: all(mesh.services(name) == [f"web-{name}"] for name in names))

        for name in names[:5]:
            await own.delete(SECRETS, name, "istio-system")

        await mesh.until(lambda: set(mesh.world.clusters) == set(names[5:]))
        assert {row.id: row.state for row in mesh.remotes.table()} == {
            name: "gone" if name in names[:5] else "live" for name in names
        }


async def test_a_rotated_credential_takes_over_without_a_gap(own, west):
    west.tokens = {"old", "new"}
    await own.put_secret("s", west=west.kubeconfig("old"))
    async with following(own) as mesh:
        await mesh.remotes.settled()
        seen: list[list[str]] = []
        before = mesh.world.clusters[WEST]

        await own.put_secret("s", west=west.kubeconfig("new"))
        while mesh.world.clusters[WEST] is before:
            seen.append(mesh.services())
            await asyncio.sleep(0)
        west.tokens = {"new"}
        await west.put(SERVICES, "more", "shop")
        await mesh.until(lambda: mesh.services() == ["more", "web"])

        assert set(map(tuple, seen)) == {("web",)}
        assert mesh.row().replacement == ""


async def test_a_rotated_credential_that_does_not_work_changes_nothing_and_is_shown(own, west):
    west.tokens = {"old"}
    await own.put_secret("s", west=west.kubeconfig("old"))
    async with following(own) as mesh:
        await mesh.remotes.settled()

        await own.put_secret("s", west=west.kubeconfig("wrong"))
        await mesh.until(lambda: mesh.row().replacement)
        await west.put(SERVICES, "more", "shop")

        await mesh.until(lambda: mesh.services() == ["more", "web"])
        assert mesh.row().state == "live"


async def test_a_change_that_is_taken_back_before_it_is_made_leaves_the_connection(own, west):
    west.tokens = {"old"}
    await own.put_secret("s", west=west.kubeconfig("old"))
    async with following(own) as mesh:
        await mesh.remotes.settled()
        before = mesh.world.clusters[WEST]
        await own.put_secret("s", west=west.kubeconfig("wrong"))
        await mesh.until(lambda: mesh.row().replacement)

        await own.put_secret("s", west=west.kubeconfig("old"))

        await mesh.until(lambda: not mesh.row().replacement)
        assert mesh.world.clusters[WEST] is before


async def test_a_bad_secret_is_an_issue_and_touches_no_other(own, west):
    await own.put_secret("bad", north="users: [")
    await own.put_secret("keys", south=west.kubeconfig().replace("certificate-authority-data: ''", "x: y"))
    await own.put_secret("s", west=west.kubeconfig())
    async with following(own) as mesh:
        await mesh.remotes.settled()

        assert mesh.services() == ["web"]
        assert ("ISM0201", "bad") in mesh.issues()


async def test_certificates_that_cannot_be_used_hold_nothing_up_and_are_an_issue(own, west):
    text = west.kubeconfig().replace("http://", "https://")
    await own.put_secret(
        "s", north=text.replace("certificate-authority-data: ''", "certificate-authority-data: bm9uZQ==")
    )
    async with following(own, sync_seconds=0.0) as mesh:
        assert not await mesh.remotes.settled()

        assert mesh.issues() == [("ISM0201", "s")]
        assert "bad certificates" in mesh.row("north").reason


async def test_a_dead_cluster_holds_up_the_start_only_for_a_while_and_joins_when_it_is_back(own, west, quickly):
    west.is_away = True
    await own.put_secret("s", west=west.kubeconfig())
    async with following(own, sync_seconds=0.2) as mesh:
        with capture_logs() as logs:
            assert not await mesh.remotes.settled()
        [late] = [line for line in logs if line["event"] == "cluster could not be read in time"]
        assert "Namespace" in late["error"]
        assert (mesh.row().syncStatus, mesh.row().state, mesh.remotes.timeouts) == ("timeout", "syncing", 1)
        assert mesh.row().waitingFor

        west.is_away = False

        await mesh.until(lambda: mesh.services() == ["web"])
        assert mesh.row().syncStatus == "synced"


async def test_a_lost_cluster_is_stale_ages_as_the_policy_says_and_recovers(own, west, quickly):
    await own.put_secret("s", west=west.kubeconfig())
    policy = StalePolicy(demote_after=0.1, withdraw_after=0.3)
    async with following(own, policy=policy) as mesh:
        await mesh.remotes.settled()
        standings: list[Standing] = []

        west.go_away()
        await mesh.until(lambda: standings.append(imported_of(mesh).standing) or standings[-1] is Standing.WITHDRAWN)
        assert list(dict.fromkeys(standings)) == [Standing.FULL, Standing.DEMOTED, Standing.WITHDRAWN]
        assert mesh.services() == ["web"], "what was known stays"
        assert mesh.world.snapshot().clusters[WEST].state is ImportState.STALE
        assert mesh.row().staleSince
        assert mesh.row().reason

        west.is_away = False
        await mesh.until(lambda: imported_of(mesh).state is ImportState.LIVE)
        assert imported_of(mesh).standing is Standing.FULL


def imported_of(mesh: Followed) -> Any:
    return mesh.world.clusters[WEST]


async def test_a_silent_server_is_asked_whether_it_is_there_and_takes_our_credentials(own, west, quickly, monkeypatch):
    monkeypatch.setattr(feeds, "_PROBE_AFTER_SECONDS", 0.05)
    west.tokens = {"t"}
    await own.put_secret("s", west=west.kubeconfig("t"))
    async with following(own) as mesh:
        await mesh.remotes.settled()
        await mesh.until(lambda: "/readyz" in west.asked)
        assert mesh.row().state == "live"

        west.tokens = {"other"}

        await mesh.until(lambda: mesh.row().state == "stale")
        assert "the credentials are refused" in mesh.row().reason
        west.tokens = {"t"}
        await mesh.until(lambda: mesh.row().state == "live")


async def test_a_cluster_that_calls_itself_otherwise_and_two_ids_for_one_are_told(own, west):
    await west.put(NAMESPACES, "kube-system", metadata={"uid": "u-1"})
    await west.put(NAMESPACES, "istio-system", metadata={"labels": {"topology.istio.io/cluster": "west"}})
    await own.put_secret("right", west=west.kubeconfig())
    await own.put_secret("wrong", vest=west.kubeconfig("other"))
    async with following(own) as mesh:
        await mesh.remotes.settled()

        await mesh.until(lambda: ("ISM0202", "wrong") in mesh.issues())
        await mesh.until(lambda: {("ISM0203", "west"), ("ISM0203", "vest")} <= set(mesh.issues()))
        assert ("ISM0202", "right") not in mesh.issues()
        assert mesh.row("vest").callsItself == ["west"]

        await own.delete(SECRETS, "wrong", "istio-system")
        await mesh.until(lambda: mesh.issues() == [])


async def test_a_directory_of_kubeconfigs_takes_the_place_of_secrets(own, west, tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.controlplane.remote_files._LOOK_SECONDS", 0.02)
    await own.put_secret("s", north=west.kubeconfig())
    (tmp_path / "one").write_text(west.kubeconfig().replace(": c\n", ": west\n"))
    async with following(own, directory=str(tmp_path)) as mesh:
        await mesh.remotes.settled()
        assert [row.id for row in mesh.remotes.table()] == ["west"]

        (tmp_path / "one").write_text("{")
        await mesh.until(lambda: mesh.issues() == [("ISM0201", "one")])
        assert mesh.services() == ["web"]

        (tmp_path / "one").unlink()
        await mesh.until(lambda: mesh.services() == [])


async def test_nothing_is_read_of_a_remotes_secrets_and_config_maps(own, west):
    await own.put_secret("s", west=west.kubeconfig())
    async with following(own) as mesh:
        await mesh.remotes.settled()
        await mesh.until(lambda: mesh.remotes.table()[0].uid or "/api/v1/namespaces/istio-system/pods" in west.asked)

    assert not [path for path in west.asked if "secrets" in path or "configmaps" in path]


async def test_the_state_of_each_cluster_is_a_metric(own, west):
    await own.put_secret("s", west=west.kubeconfig("e30.eyJleHAiOjE5MDAwMDAwMDB9.x"))
    async with following(own) as mesh:
        await mesh.remotes.settled()
        registry = CollectorRegistry()

        add_metrics(registry, mesh.remotes.table(), mesh.remotes.events, mesh.remotes.timeouts)

        shown = generate_latest(registry).decode()
        for line in (
            'istiod_managed_clusters{cluster_type="remote"} 1.0',
            'istiod_remote_cluster_sync_status{cluster_id="west",status="synced"} 1.0',
            'isthmus_remote_cluster_credential_expiry_timestamp_seconds{cluster_id="west"} 1.9e+09',
            'remote_cluster_secret_events_total{event="add"} 1.0',
            "remote_cluster_sync_timeouts_total 0.0",
        ):
            assert line in shown


async def test_a_kind_that_may_not_be_read_is_told_and_keeps_no_cluster_away(own, west):
    west.forbidden = {"/apis/multicluster.x-k8s.io/v1alpha1/serviceexports"}
    await own.put_secret("s", west=west.kubeconfig())
    async with following(own) as mesh:
        assert await mesh.remotes.settled()

        assert mesh.services() == ["web"]
        assert mesh.issues() == [("ISM0204", "*")]
        assert mesh.row().state == "live"


async def test_a_cluster_that_is_away_at_the_start_is_shown_as_it_was_last_known(own, west, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "_PATIENCE_SECONDS", 0.1)
    await own.put_secret("remote", west=west.kubeconfig())
    async with following(own, kept=KeptClusters(str(tmp_path))) as before:
        await before.until(lambda: before.services() == ["web"])
        await before.until(lambda: list(tmp_path.glob("west.json")))
    west.go_away()

    async with following(own, kept=KeptClusters(str(tmp_path))) as after:
        await after.until(lambda: after.services() == ["web"])
        imported = after.world.clusters[WEST]
        assert (imported.state, bool(imported.stale_since)) == (ImportState.STALE, True)
        assert not await after.remotes.settled(), "it is not waited for any longer"
        row = after.row()
        assert (row.syncStatus, row.state, bool(row.staleSince)) == ("timeout", "stale", True)

        west.is_away = False
        await west.put(SERVICES, "more", "shop")
        await after.until(lambda: after.services() == ["more", "web"])
        assert after.world.clusters[WEST].state is ImportState.LIVE


async def test_a_cluster_that_has_left_does_not_come_back_from_what_was_kept(own, west, tmp_path):
    await own.put_secret("remote", west=west.kubeconfig())
    async with following(own, kept=KeptClusters(str(tmp_path))) as followed:
        await followed.until(lambda: list(tmp_path.glob("west.json")))
        await own.delete(SECRETS, "remote", "istio-system")
        await followed.until(lambda: followed.row().state == "gone")
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_for_its_owner_alone_and_a_torn_file_is_as_none(tmp_path):
    kept = KeptClusters(str(tmp_path / "state"))
    kept.keep(WEST, ImportedCluster())
    [path] = (tmp_path / "state").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600

    path.write_bytes(path.read_bytes()[:-3])
    assert kept.recalled(WEST) is None
    assert KeptClusters("").recalled(WEST) is None
