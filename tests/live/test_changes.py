"""What people change with kubectl, under traffic."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.live


class Traffic:
    """Requests from one cluster's client, on and on, in a thread."""

    def __init__(self, mesh, cluster: str) -> None:
        self.answers: list[dict[str, str]] = []
        self._mesh, self._cluster = mesh, cluster
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def errors(self) -> list[str]:
        return [answer["error"] for answer in self.answers if "error" in answer]

    def latest(self) -> set[str]:
        """The clusters that answered the last requests."""
        return {answer.get("cluster", "") for answer in self.answers[-20:]}

    def _run(self) -> None:
        while not self._stop.is_set():
            self.answers += self._mesh.ask(self._cluster, 20)


@pytest.fixture
def traffic(mesh) -> Iterator[Traffic]:
    with Traffic(mesh, "west") as running:
        yield running


def test_scaled_to_zero_and_up_again_without_a_failed_request(mesh, until, traffic):
    until("both answer", lambda: traffic.latest() == {"east", "west"})

    with mesh.scaled("west", "helloworld-v2", 0):
        until("only east answers", lambda: traffic.latest() == {"east"})
        until("the Pod is gone", lambda: not mesh.pods("west", "helloworld"))
    until("west answers, too", lambda: "west" in traffic.latest())

    assert traffic.errors() == []


def test_a_rolling_update_without_a_failed_request(mesh, until, traffic):
    def update(version: str) -> None:
        container = {"name": "helloworld", "env": [{"name": "SERVICE_VERSION", "value": version}]}
        body = {"spec": {"template": {"spec": {"containers": [container]}}}}
        mesh.apps("west").patch_namespaced_deployment("helloworld-v2", "sample", body)

    update("v3")
    try:
        until("the new version answers", lambda: any(answer.get("version") == "v3" for answer in traffic.answers))
        until("the old Pod is gone", lambda: len(mesh.pods("west", "helloworld")) == 1)
    finally:
        update("v2")
    until("the old version is back", lambda: "v2" in {a.get("version") for a in traffic.answers[-10:]})
    until("one Pod is left", lambda: len(mesh.pods("west", "helloworld")) == 1)

    assert traffic.errors() == []


def test_a_deleted_pod_comes_back(mesh, until):
    [pod] = mesh.pods("east", "helloworld")

    mesh.core("east").delete_namespaced_pod(pod["name"], "sample")

    others = lambda: [p["ready"] for p in mesh.pods("east", "helloworld") if p["name"] != pod["name"]]  # noqa: E731
    until("another Pod is ready", lambda: others() == ["2/2"])
    until("it answers", lambda: "east" in {answer.get("cluster") for answer in mesh.ask("west", 20)})


def test_a_namespace_with_everything_in_it_can_be_deleted(mesh, until):
    core, apps = mesh.core("east"), mesh.apps("east")
    core.create_namespace({"metadata": {"name": "short-lived"}})
    core.create_namespaced_config_map("short-lived", {"metadata": {"name": "settings"}, "data": {"a": "1"}})
    apps.create_namespaced_deployment(
        "short-lived",
        {
            "metadata": {"name": "client"},
            "spec": {
                "selector": {"matchLabels": {"app": "short"}},
                "template": {
                    "metadata": {"labels": {"app": "short"}},
                    "spec": {"containers": [{"name": "client", "image": "isthmus/client"}]},
                },
            },
        },
    )
    try:
        until("its Pod runs", lambda: [pod["ready"] for pod in mesh.pods("east", "short")] == ["1/1"])
    finally:
        core.delete_namespace("short-lived")

    names = lambda: [namespace.metadata.name for namespace in core.list_namespace().items]  # noqa: E731
    until("the namespace is gone", lambda: "short-lived" not in names())
    assert mesh.pods("east", "short") == []


def test_an_image_that_is_not_there_is_told_on_the_pod_and_disturbs_nobody(mesh, until):
    mesh.core("east").create_namespaced_pod(
        "default",
        {
            "metadata": {"name": "odd", "labels": {"app": "odd"}},
            "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
        },
    )

    try:
        until("the reason is told", lambda: [p["status"] for p in mesh.pods("east", "odd")] == ["ErrImagePull"])
        assert "give the container a command" in mesh.pods("east", "odd")[0]["message"]
        assert not [answer for answer in mesh.ask("east", 5) if "error" in answer]
    finally:
        mesh.core("east").delete_namespaced_pod("odd", "default")
    until("it is gone", lambda: not mesh.pods("east", "odd"))


def test_the_way_out_of_a_network_stays_the_same_as_pods_come_and_go(mesh, until):
    """A neighbour's address that changes under a Pod leads its packets nowhere for half a minute."""
    neighbour = """
import pathlib, socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    probe.connect(("172.30.0.1", 9))
    probe.send(b"")
print([line.split()[3] for line in pathlib.Path("/proc/net/arp").read_text().splitlines() if line.startswith("10.10.0.1 ")])
"""
    before = mesh.python("east", neighbour)
    with mesh.scaled("east", "helloworld-v1", 6):
        until("six Pods", lambda: [pod["ready"] for pod in mesh.pods("east", "helloworld")] == ["2/2"] * 6)
    until("one Pod", lambda: [pod["ready"] for pod in mesh.pods("east", "helloworld")] == ["2/2"])

    assert mesh.python("east", neighbour) == before
    assert "02:69:73:74:68:6d" in before
    assert not [answer for answer in mesh.ask("east", 20) if "error" in answer]
