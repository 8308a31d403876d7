"""Bad days of remote clusters: what each test saw is in the summary, under figures."""

from __future__ import annotations

import base64
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from isthmus.localruntime.entering import host_pid
from isthmus.localruntime.launch import supervisor_of

pytestmark = pytest.mark.live

SYSTEM = "istio-system"
SECRET = "istio-remote-secret-west"
READER = "istio-reader-service-account"


class Load:
    """Requests of east's client to helloworld, sent all the time; and what its Envoy knows of west meanwhile."""

    def __init__(self, mesh: Any) -> None:
        self._mesh = mesh
        self.answers: list[dict[str, str]] = []
        self.looks: list[bool] = []

    @contextmanager
    def applied(self) -> Iterator[Load]:
        stop = threading.Event()
        threads = [threading.Thread(target=self._send, args=(stop,)), threading.Thread(target=self._look, args=(stop,))]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def goes_on(self, until: Any) -> None:
        """Waits for some more requests and looks."""
        sent, looked = len(self.answers), len(self.looks)
        until("the load goes on", lambda: len(self.answers) >= sent + 100 and len(self.looks) >= looked + 3)

    @property
    def failed(self) -> list[dict[str, str]]:
        return [answer for answer in self.answers if "error" in answer]

    @property
    def told(self) -> str:
        by_cluster = Counter(answer.get("cluster", "failed") for answer in self.answers)
        known = f"west known in {sum(self.looks)} of {len(self.looks)} looks"
        return f"{len(self.answers)} requests sent, {len(self.failed)} failed, {dict(by_cluster)}; {known}"

    def _send(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.answers += self._mesh.ask("east", 50)

    def _look(self, stop: threading.Event) -> None:
        while not stop.wait(0.02):
            self.looks.append(west_is_known(self._mesh))


def west_is_known(mesh: Any) -> bool:
    """Whether east's client has west's gateway among its endpoints."""
    return f"helloworld.sample.svc.cluster.local::{mesh.gateway('west')}:15443::" in mesh.envoy(
        "east", "sample", "client", "clusters"
    )


def row(mesh: Any, cluster: str = "west") -> dict[str, Any]:
    """What east's control plane says of a remote cluster; empty while it does not answer, or does not know it."""
    try:
        rows = mesh.client.control_plane("east", "debug/clusterz")
    except Exception:
        return {}
    return next((found for found in rows if found["id"] == cluster), {})


def issues(mesh: Any) -> list[dict[str, Any]]:
    return [issue for issue in mesh.client.control_plane("east", "debug/issues") if issue["code"] == "ISM0201"]


def kubeconfig_of(secret: Any) -> dict[str, Any]:
    return yaml.safe_load(base64.b64decode(secret.data["west"]))


def as_data(**kubeconfigs: str) -> dict[str, str]:
    return {cluster: base64.b64encode(text.encode()).decode() for cluster, text in kubeconfigs.items()}


def remote_secret(name: str, **kubeconfigs: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"istio/multiCluster": "true"}}, "data": as_data(**kubeconfigs)}


def test_a_credential_is_rotated_under_load(mesh, until, figure):
    core = mesh.core("east")
    secret = core.read_namespaced_secret(SECRET, SYSTEM)
    document = kubeconfig_of(secret)
    spec = {"spec": {"audiences": [], "expirationSeconds": 7200}}
    until("west is known", lambda: west_is_known(mesh))
    before = row(mesh)["credentialExpires"]

    with Load(mesh).applied() as load:
        until("requests are sent", lambda: load.answers)
        started = time.monotonic()
        token = mesh.core("west").create_namespaced_service_account_token(READER, SYSTEM, spec).status.token
        document["users"][0]["user"]["token"] = token
        core.patch_namespaced_secret(SECRET, SYSTEM, {"data": as_data(west=yaml.safe_dump(document))})
        until("the new one is used", lambda: row(mesh)["credentialExpires"] != before and not row(mesh)["replacement"])
        seconds = time.monotonic() - started
        load.goes_on(until)

    figure(f"rotated in {seconds:.2f} s: {load.told}")
    assert load.failed == []
    assert load.looks
    assert all(load.looks), "endpoints never vanish"


def test_a_bad_secret_is_told_and_touches_no_other(mesh, until, figure):
    core = mesh.core("east")
    good = yaml.safe_dump(kubeconfig_of(core.read_namespaced_secret(SECRET, SYSTEM)))
    runs_a_program = yaml.safe_load(good)
    runs_a_program["users"][0]["user"] = {"exec": {"command": "id", "apiVersion": "client.authentication.k8s.io/v1"}}

    with Load(mesh).applied() as load:
        started = time.monotonic()
        bad = remote_secret("bad", north=yaml.safe_dump(runs_a_program), south="users: [")
        core.create_namespaced_secret(SYSTEM, bad)
        try:
            found = until("both are told", lambda: (told := issues(mesh)) and len(told) == 2 and told)
            seconds = time.monotonic() - started
            load.goes_on(until)
            assert row(mesh)["state"] == "live"
        finally:
            core.delete_namespaced_secret("bad", SYSTEM)

    figure(f"told in {seconds:.2f} s: {[issue['message'][:70] for issue in found]}: {load.told}")
    assert "exec is not allowed in a remote secret" in found[0]["message"]
    assert {issue["origin"] for issue in found} == {"Secret istio-system/bad in east"}
    assert load.failed == []
    assert all(load.looks)
    until("nothing is wrong any longer", lambda: issues(mesh) == [])


def test_a_cluster_that_is_unreachable_at_the_start_holds_nothing_up_for_long(mesh, until, figure):
    core, apps = mesh.core("east"), mesh.apps("east")
    document = kubeconfig_of(core.read_namespaced_secret(SECRET, SYSTEM))
    document["clusters"][0]["cluster"]["server"] = "https://172.30.0.99:6443"
    core.create_namespaced_secret(SYSTEM, remote_secret("dead", north=yaml.safe_dump(document)))
    before = mesh.pods("east", "istiod")[0]["name"]
    try:
        with Load(mesh).applied() as load:
            started = time.monotonic()
            apps.patch_namespaced_deployment("istiod", SYSTEM, with_timeout("1s"))
            until("a new control plane has given north up", lambda: row(mesh, "north").get("syncStatus") == "timeout")
            until("it has replaced the old one", lambda: before not in [p["name"] for p in mesh.pods("east", "istiod")])
            until("it is ready", lambda: [p["ready"] for p in mesh.pods("east", "istiod")] == ["1/1"])
            seconds = time.monotonic() - started
            assert row(mesh)["syncStatus"] == "synced"
    finally:
        core.delete_namespaced_secret("dead", SYSTEM)

    figure(f"ready without north after {seconds:.2f} s: {load.told}")
    assert load.failed == []
    assert all(load.looks)
    until("north is gone", lambda: row(mesh, "north").get("state") == "gone")


def with_timeout(text: str) -> dict[str, Any]:
    variable = {"name": "PILOT_REMOTE_CLUSTER_TIMEOUT", "value": text}
    return {"spec": {"template": {"spec": {"containers": [{"name": "discovery", "env": [variable]}]}}}}


def test_a_cluster_whose_api_server_hangs_is_stale_and_its_endpoints_stay(mesh, until, figure):
    pid = host_pid(supervisor_of(mesh.running()), mesh.cluster("west")["processIds"]["apiserver"])
    assert row(mesh)["state"] == "live"

    with Load(mesh).applied() as load:
        started = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            found = until("it is stale", lambda: (seen := row(mesh)).get("state") == "stale" and seen)
            stale = time.monotonic() - started
        finally:
            os.kill(pid, signal.SIGCONT)
        started = time.monotonic()
        until("it is live again", lambda: row(mesh)["state"] == "live")
        live = time.monotonic() - started

    figure(f"stale after {stale:.1f} s ({found['reason']}), live again after {live:.2f} s: {load.told}")
    assert found["staleSince"]
    assert load.failed == []
    assert all(load.looks)


def test_a_cluster_leaves_with_its_secret_and_comes_back_with_it(mesh, until, figure):
    core = mesh.core("east")
    secret = core.read_namespaced_secret(SECRET, SYSTEM)
    again = {"metadata": {"name": SECRET, "labels": secret.metadata.labels}, "data": secret.data}

    with Load(mesh).applied() as load:
        started = time.monotonic()
        core.delete_namespaced_secret(SECRET, SYSTEM)
        try:
            until("west is forgotten", lambda: not west_is_known(mesh))
            gone = time.monotonic() - started
            assert row(mesh)["state"] == "gone"
            load.goes_on(until)
            answered_when_gone = {answer.get("cluster") for answer in load.answers[-50:]}
        finally:
            started = time.monotonic()
            core.create_namespaced_secret(SYSTEM, again)
        until("west is known again", lambda: west_is_known(mesh))
        back = time.monotonic() - started
        load.goes_on(until)
        answered_when_back = {answer.get("cluster") for answer in load.answers[-50:]}

    figure(f"gone after {gone:.2f} s, back after {back:.2f} s: {load.told}")
    assert answered_when_gone == {"east"}
    assert answered_when_back == {"east", "west"}
    assert load.failed == []


def test_ten_clusters_join_while_it_runs_and_five_leave(mesh, until, figure):
    """Ten more names for west, each with a secret of its own: ten times as much behind west's gateway, and half of that when five are gone."""
    core = mesh.core("east")
    good = yaml.safe_dump(kubeconfig_of(core.read_namespaced_secret(SECRET, SYSTEM)))
    [control_plane] = mesh.pods("east", "istiod")
    names = [f"more-{number}" for number in range(10)]
    until("west alone is known", lambda: weight_of_west(mesh) == 1)

    with Load(mesh).applied() as load:
        try:
            started = time.monotonic()
            for name in names:
                core.create_namespaced_secret(SYSTEM, remote_secret(f"remote-{name}", **{name: good}))
            until("all are there", lambda: weight_of_west(mesh) == 11)
            joined = time.monotonic() - started
            assert {row(mesh, name)["state"] for name in names} == {"live"}
            started = time.monotonic()
            for name in names[5:]:
                core.delete_namespaced_secret(f"remote-{name}", SYSTEM)
            until("five have left", lambda: weight_of_west(mesh) == 6)
            left = time.monotonic() - started
            load.goes_on(until)
        finally:
            for secret in core.list_namespaced_secret(SYSTEM).items:
                if secret.metadata.name.startswith("remote-more-"):
                    core.delete_namespaced_secret(secret.metadata.name, SYSTEM)
        until("west alone is known again", lambda: weight_of_west(mesh) == 1)

    figure(f"ten joined in {joined:.2f} s, five left in {left:.2f} s: {load.told}")
    assert load.failed == []
    assert all(load.looks)
    assert mesh.pods("east", "istiod") == [control_plane], "nothing was started again"


def weight_of_west(mesh: Any) -> float:
    """What west's gateway counts for in east's client: as many times as much as the one Pod of east."""
    found = re.findall(
        r"^outbound\|5000\|\|helloworld\.sample\.svc\.cluster\.local::(\S+?):\d+::weight::(\d+)$",
        mesh.envoy("east", "sample", "client", "clusters"),
        re.M,
    )
    weights = {address: int(weight) for address, weight in found}
    far = weights.pop(mesh.gateway("west"), 0)
    return far / sum(weights.values())


def test_a_remote_secret_is_made_renewed_and_taken_away_by_a_command(mesh, until):
    core = mesh.core("east")
    secret = core.read_namespaced_secret(SECRET, SYSTEM)
    again = {"metadata": {"name": SECRET, "labels": secret.metadata.labels}, "data": secret.data}

    def command(*arguments: str) -> None:
        done = mesh.isthmus(*arguments, KUBECONFIG=str(mesh.client.state.kubeconfig))
        assert done.returncode == 0, done.stdout + done.stderr

    def token() -> str:
        return str(kubeconfig_of(core.read_namespaced_secret(SECRET, SYSTEM))["users"][0]["user"]["token"])

    core.delete_namespaced_secret(SECRET, SYSTEM)
    try:
        until("west is forgotten", lambda: not west_is_known(mesh))
        command("link", "east", "west", "--one-way")
        until("west is known", lambda: west_is_known(mesh))
        made = token()
        with Load(mesh).applied() as load:
            command("link", "east", "west", "--one-way")
            assert token() == made, "a second run changes nothing"
            command("link", "east", "west", "--one-way", "--renew")
            assert token() != made
            until("the new one is used", lambda: row(mesh)["state"] == "live" and not row(mesh)["replacement"])
            load.goes_on(until)
        command("unlink", "east", "west", "--yes")
        until("west is forgotten again", lambda: not west_is_known(mesh))
    finally:
        present = [found.metadata.name for found in core.list_namespaced_secret(SYSTEM).items]
        if SECRET in present:
            core.delete_namespaced_secret(SECRET, SYSTEM)
        core.create_namespaced_secret(SYSTEM, again)
    until("west is known as before", lambda: west_is_known(mesh) and row(mesh)["state"] == "live")

    assert load.failed == []
    assert all(load.looks)
