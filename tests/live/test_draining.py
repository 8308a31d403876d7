"""Traffic away from a cluster and back; rules that are one primary's own, compared and replicated."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.live


def command(mesh, *arguments: str):
    return mesh.isthmus(*arguments, KUBECONFIG=str(mesh.client.state.kubeconfig))


def answering(status: int) -> dict:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "answered", "namespace": "sample"},
        "spec": {
            "hosts": ["helloworld"],
            "http": [
                {"match": [{"uri": {"exact": "/hello"}}], "directResponse": {"status": status}},
                {"route": [{"destination": {"host": "helloworld"}}]},
            ],
        },
    }


def answered(mesh, cluster: str) -> set[str]:
    return {answer.get("cluster", "failed") for answer in mesh.ask(cluster, 20)}


def dump(mesh, cluster: str, app: str) -> str:
    """All that an Envoy was given, without when that was."""
    [pod, *_] = mesh.pods(cluster, app)
    found = json.loads(mesh.envoy(cluster, pod["namespace"], pod["name"], "config_dump?include_eds"))
    return json.dumps(
        [config for config in found["configs"] if "SecretsConfigDump" not in config["@type"]], sort_keys=True
    )


def test_a_cluster_is_drained_under_load_and_comes_back_and_no_request_fails(mesh, until):
    until("both answer", lambda: answered(mesh, "east") == answered(mesh, "west") == {"east", "west"})
    with mesh.load("east") as east, mesh.load("west") as west:
        done = command(mesh, "drain", "west", "--over", "2s", "--for", "1h")
        try:
            until("west has nothing to do", lambda: answered(mesh, "east") == answered(mesh, "west") == {"east"})
            east.goes_on(50)
        finally:
            back = command(mesh, "undrain", "west")
        until("west is back", lambda: answered(mesh, "east") == answered(mesh, "west") == {"east", "west"})

    print(f"{done.stdout}{done.stderr}from east: {east.summary}\nfrom west: {west.summary}")
    assert (done.returncode, back.returncode) == (0, 0), done.stderr + back.stderr
    assert east.summary.failed == west.summary.failed == 0


def test_a_drain_ends_by_itself(mesh, until):
    command(mesh, "drain", "west", "--over", "1s", "--for", "4s")

    until("west has nothing to do", lambda: answered(mesh, "east") == {"east"})
    until("west is back", lambda: answered(mesh, "east") == {"east", "west"})


def test_a_service_that_is_nowhere_else_is_told_and_goes_on_to_be_answered(mesh, until):
    with mesh.scaled("east", "helloworld-v1", 0):
        until("east has none", lambda: answered(mesh, "west") == {"west"})

        refused = command(mesh, "drain", "west", "--over", "1s")
        drained = command(mesh, "drain", "west", "--over", "1s", "--yes")
        answers = mesh.ask("east", 20)
        command(mesh, "undrain", "west")

    assert refused.returncode == 1
    assert "1 services stay in west" in refused.stderr
    assert "stays: no other cluster has a ready endpoint" in drained.stdout
    assert {answer.get("cluster", "failed") for answer in answers} == {"west"}
    until("both answer", lambda: answered(mesh, "east") == {"east", "west"})


def test_a_cluster_that_is_not_there_cannot_be_drained(mesh):
    assert command(mesh, "drain", "north").returncode == 65
    assert command(mesh, "undrain", "west-nowhere").returncode == 65


def test_a_rule_of_one_primary_leaves_the_other_s_proxies_byte_identical(mesh, until):
    until("both answer", lambda: answered(mesh, "west") == {"east", "west"})
    before = {app: dump(mesh, "west", app) for app in ("client", "helloworld")}

    with mesh.applied("east", answering(418)):
        until("east obeys", lambda: "error" in mesh.ask("east", 1, path="/hello")[0])
        after = {app: dump(mesh, "west", app) for app in ("client", "helloworld")}
        differs = command(mesh, "drift")

    print(f"{differs.stdout}")
    assert after == before
    assert differs.returncode == 2
    assert differs.stdout.splitlines()[1].split() == ["VirtualService", "sample", "answered", "west", "<none>"]


UNUSABLE = {
    "apiVersion": "networking.istio.io/v1alpha3",
    "kind": "EnvoyFilter",
    "metadata": {"name": "unusable", "namespace": "sample"},
    "spec": {
        "configPatches": [
            {
                "applyTo": "CLUSTER",
                "match": {"context": "SIDECAR_OUTBOUND"},
                "patch": {"operation": "MERGE", "value": {"connect_timeout": "-1s"}},
            }
        ]
    },
}
"""What no Envoy takes, in every cluster of each sidecar."""


def test_what_one_cluster_s_envoys_refuse_leaves_the_other_s_proxies_byte_identical(mesh, until):
    """And nobody's requests fail: those who refuse it keep what they had."""

    def refusals(cluster: str) -> set[str]:
        """Who has refused something, by the beginning of its name."""
        rows = mesh.client.control_plane(cluster, "debug/syncz")
        return {
            row["proxy"].partition("-")[0]
            for row in rows
            if any(kind["lastError"] for kind in row["resources"].values())
        }

    before = {app: dump(mesh, "west", app) for app in ("client", "helloworld")}
    with mesh.load("east") as east, mesh.load("west") as west, mesh.applied("east", UNUSABLE):
        found = until("east's refuse it", lambda: {"client", "helloworld"} <= (told := refusals("east")) and told)
        east.goes_on(50)
        west.goes_on(50)
        after = {app: dump(mesh, "west", app) for app in ("client", "helloworld")}
        elsewhere = refusals("west")

    print(f"refused by {sorted(found)} in east")
    assert after == before
    assert elsewhere == set()
    assert (east.summary.failed, west.summary.failed) == (0, 0)
    until("everybody has what he should have", lambda: refusals("east") == set())


def test_rules_are_replicated_on_request_and_another_hand_s_are_left_alone(mesh, until):
    def status() -> str:
        return mesh.ask("west", 1, path="/hello")[0].get("error", "")[:8]

    with mesh.applied("east", answering(418)):
        shown = command(mesh, "sync", "--from", "east", "--dry-run")
        assert status() != "HTTP 418"
        done = command(mesh, "sync", "--from", "east")
        until("west obeys, too", lambda: status() == "HTTP 418")
        same = command(mesh, "drift")

        with mesh.applied("west", answering(451)):
            conflict = command(mesh, "sync", "--from", "east")
            forced = command(mesh, "sync", "--from", "east", "--overwrite")
            mesh.remove("east", answering(418))
            pruned = command(mesh, "sync", "--from", "east", "--prune")

    print(f"{shown.stdout}{same.stdout}{conflict.stdout}{conflict.stderr}{forced.stdout}{pruned.stdout}")
    assert [run.returncode for run in (shown, done, same, conflict, forced, pruned)] == [0, 0, 0, 1, 0, 0]
    assert "conflict" in conflict.stdout
    assert "it was made there by another hand" in conflict.stdout
    assert command(mesh, "drift").returncode == 0
