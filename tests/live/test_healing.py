"""kill -9 of any process is a valid experiment."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from isthmus.localruntime.availability import losses
from isthmus.localruntime.mesh_client import MeshRefused
from isthmus.localruntime.plan import decode_plan

pytestmark = pytest.mark.live


def errors(answers: list[dict[str, str]]) -> list[str]:
    return [answer["error"] for answer in answers if "error" in answer]


def connected(mesh) -> set[str]:
    shown = json.loads(mesh.isthmus("proxy-status", "--cluster", "east", "-o", "json").stdout or '{"proxies": []}')
    return {proxy["proxy"].partition("-")[0] for proxy in shown["proxies"]}


def gateway_weight(mesh) -> int:
    """Of east's gateway, in the client of west."""
    page = json.loads(mesh.envoy("west", "sample", "client", "clusters?format=json"))
    return sum(
        host["weight"]
        for cluster in page["cluster_statuses"]
        if cluster["name"] == "outbound|5000||helloworld.sample.svc.cluster.local"
        for host in cluster["host_statuses"]
        if host["address"]["socket_address"]["address"] == mesh.gateway("east")
    )


def test_without_its_control_plane_traffic_goes_on(mesh, until):
    before = mesh.pods("east", "istiod")[0]["restarts"]

    mesh.kill(mesh.container_pid("east", "istio-system", "istiod", "discovery"))
    answers = mesh.ask("east", 50)

    assert errors(answers) == []
    until("it was started again", lambda: mesh.pods("east", "istiod")[0]["restarts"] == before + 1)
    until("it is ready", lambda: mesh.pods("east", "istiod")[0]["ready"] == "1/1")
    until("its proxies are back", lambda: {"client", "helloworld"} <= connected(mesh))


def test_the_share_of_control_that_a_loss_leaves_is_the_computed_one(mesh, until):
    """Half, when east's control plane is gone: that of west's proxies, of which there are as many as in east; and no request fails for it."""
    plan = decode_plan(mesh.client.state.plan_file.read_bytes())
    computed = {loss.what: loss for loss in losses(plan)}["control plane of east"]

    def all_have_control() -> bool:
        rows = [(cluster["id"], pod["hasProxy"]) for cluster in mesh.status()["clusters"] for pod in cluster["pods"]]
        return all(controlled()[each] == rows.count((each, True)) for each in ("east", "west"))

    def controlled() -> Counter[str]:
        """How many proxies of each cluster have a control plane."""
        return Counter({each: sum(map(len, mesh.control_planes_of(each).values())) for each in ("east", "west")})

    until("all have control", all_have_control)
    west = controlled()["west"]
    with mesh.load("east") as load:
        with mesh.scaled("east", "istiod", 0, "istio-system"):
            until("it is gone", lambda: not mesh.pods("east", "istiod"))
            left = controlled()
            load.goes_on(50)
        until("all have control again", all_have_control)

    print(f"{left} had control, {computed.control:.0%} is computed")
    assert left == Counter(west=west)
    assert computed.control == 0.5
    assert (load.summary.failed, computed.requests) == (0, 1.0)


def test_another_replica_of_a_control_plane_takes_over_and_re_sends_nothing(mesh, until):
    """Two in one cluster; the one that has the client's proxy is killed, and does not come back while another one answers."""

    def having(proxy: str) -> str:
        """Which of east's control planes has the proxy of a Pod."""
        for pod in mesh.pods("east", "istiod"):
            try:
                rows = mesh.client.control_plane("east", "debug/syncz", pod["name"])
            except MeshRefused:
                continue
            for row in rows:
                if row["proxy"].startswith(f"{proxy}.") and "listener" in row["resources"]:
                    sent.update({kind: each["resourcesSent"] for kind, each in row["resources"].items()})
                    return pod["name"]
        return ""

    sent: dict[str, int] = {}
    [client] = mesh.pods("east", "client")
    with mesh.scaled("east", "istiod", 2, "istio-system"), mesh.load("east") as load:
        until("two are ready", lambda: [pod["ready"] for pod in mesh.pods("east", "istiod")] == ["1/1", "1/1"])
        before = until("one has the client's proxy", lambda: having(client["name"]))
        mesh.core("east").delete_namespaced_pod(before, "istio-system", grace_period_seconds=0)
        after = until(
            "another one has it", lambda: having(client["name"]) not in ("", before) and having(client["name"])
        )
        print(f"{client['name']} went from {before} to {after}, which sent it {sent}")
        told = json.loads(
            mesh.isthmus("why-not", "helloworld-v1", "--from", "client", "--in-cluster", "east", "-o", "json").stdout
        )
        load.goes_on(50)

    assert {"client", "helloworld"} <= connected(mesh), "the replicas' proxies are shown together"
    assert load.summary.failed == 0
    assert (sent["cluster"], sent["listener"], sent["route"]) == (0, 0, 0)
    assert told["answers"]


def test_an_envoy_comes_back(mesh, until):
    before = mesh.pods("east", "client")[0]["restarts"]

    mesh.kill(mesh.container_pid("east", "sample", "client", "istio-proxy"))

    until("it was started again", lambda: mesh.pods("east", "client")[0]["restarts"] == before + 1)
    until("both answer again", lambda: {a.get("cluster") for a in mesh.ask("east", 20)} == {"east", "west"})
    assert errors(mesh.ask("east", 20)) == []


def test_the_network_gateway_comes_back(mesh, until):
    mesh.kill(mesh.container_pid("west", "istio-system", "istio-eastwestgateway", "istio-proxy"))

    until("west answers east again", lambda: "west" in {a.get("cluster") for a in mesh.ask("east", 20)})
    until("without errors", lambda: errors(mesh.ask("east", 20)) == [])


def test_an_api_server_comes_back_with_everything_that_it_had_acknowledged(mesh, until):
    core = mesh.core("east")
    written = core.create_namespaced_config_map("default", {"metadata": {"name": "kept"}, "data": {"a": "1"}})
    before = mesh.cluster("east")

    mesh.kill(before["processIds"]["apiserver"])
    assert errors(mesh.ask("east", 20)) == []

    until("it was started again", lambda: mesh.cluster("east")["apiServerRestarts"] == before["apiServerRestarts"] + 1)
    until("it answers", lambda: mesh.client.state.kubeconfig.exists() and _answers(core))
    try:
        read = core.read_namespaced_config_map("kept", "default")
        assert read.data == {"a": "1"}
        changed = core.patch_namespaced_config_map("kept", "default", {"data": {"a": "2"}})
        assert int(changed.metadata.resource_version) > int(written.metadata.resource_version)
    finally:
        core.delete_namespaced_config_map("kept", "default")


def test_an_agent_comes_back_and_looks_after_its_envoys_again(mesh, until):
    before = mesh.cluster("east")

    mesh.kill(before["processIds"]["agent"])

    until("it was started again", lambda: mesh.cluster("east")["agentRestarts"] == before["agentRestarts"] + 1)
    until("names resolve and both answer", lambda: not errors(mesh.ask("east", 20)))
    until("all Pods are ready", lambda: {pod["ready"] for pod in mesh.pods("east", "helloworld")} == {"2/2"})


def test_a_change_made_while_a_control_plane_was_away_arrives_when_it_is_back(mesh, until):
    mesh.kill(mesh.container_pid("west", "istio-system", "istiod", "discovery"))

    with mesh.scaled("east", "helloworld-v1", 2):
        until("two Pods", lambda: [pod["ready"] for pod in mesh.pods("east", "helloworld")] == ["2/2"] * 2)
        until("east's gateway counts for two in west", lambda: gateway_weight(mesh) == 2)
    until("one Pod is left", lambda: len(mesh.pods("east", "helloworld")) == 1)


def _answers(core) -> bool:
    import urllib3

    try:
        core.list_namespace()
    except urllib3.exceptions.HTTPError:
        return False
    return True
