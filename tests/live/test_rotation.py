"""Another root for the whole mesh while everything runs: short requests, and connections that stay open all the time, none of which fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from isthmus.cli.errors import TIMED_OUT
from isthmus.localruntime.entering import host_pid
from isthmus.localruntime.launch import supervisor_of
from isthmus.localruntime.traffic import inside

pytestmark = pytest.mark.live

KEPT_OPEN = """
import json, socket, sys, threading, time
connections, stop, echoed, errors = [], threading.Event(), 0, []
for _ in range(4):
    connection = socket.create_connection(("tcp-echo.sample", 9000), timeout=10)
    connections.append((connection, connection.makefile("rb")))
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
print("open", flush=True)
while not stop.wait(0.02) and not errors:
    for connection, lines in connections:
        try:
            connection.sendall(b"still here\\n")
            line = lines.readline()
            if not line.endswith(b"still here\\n"):
                errors.append(repr(line))
            echoed += 1
        except OSError as error:
            errors.append(repr(error))
print(json.dumps({"echoed": echoed, "errors": errors}))
"""


class Trust:
    """`isthmus trust …` for the running mesh; each transcript is in the test's output."""

    def __init__(self, mesh: Any) -> None:
        self._mesh = mesh
        self.seconds: dict[str, float] = {}

    def __call__(self, step: str, *more: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        began = time.monotonic()
        done: subprocess.CompletedProcess[str] = self._mesh.isthmus(
            "trust", step, *more, KUBECONFIG=str(self._mesh.client.state.kubeconfig)
        )
        self.seconds[step] = time.monotonic() - began
        assert done.returncode == code, done.stderr
        return done

    def states(self) -> dict[str, str]:
        """Of the roots, by the beginning of their fingerprint."""
        found = json.loads(self("status", "-o", "json").stdout)
        return {root["fingerprint"][:12]: root["state"] for root in found["roots"]}

    def of(self, state: str) -> list[str]:
        return [root for root, found in self.states().items() if found == state]


@pytest.fixture
def trust(mesh) -> Trust:
    return Trust(mesh)


@contextmanager
def kept_open(mesh, cluster: str) -> Iterator[dict[str, Any]]:
    """Connections of the cluster's client to tcp-echo; what became of them is there after the block."""
    pod = mesh.pods(cluster, "client")[0]["name"]
    command, environment = inside(mesh.client, (cluster, "sample", pod), [sys.executable, "-c", KEPT_OPEN])
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    found: dict[str, Any] = {}
    assert process.stdout.readline() == "open\n"
    try:
        yield found
    finally:
        process.stdin.close()
        found |= json.loads(process.stdout.readline())
        process.wait(10)


@contextmanager
def paused(mesh, cluster: str) -> Iterator[None]:
    """The agent of a cluster answers nobody; its Envoys go on."""
    pid = host_pid(supervisor_of(mesh.running()), mesh.cluster(cluster)["processIds"]["agent"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def roots_of_certificates(mesh, cluster: str) -> set[str]:
    """Who has issued the certificates that the cluster's Envoys show: the intermediates' serial numbers."""
    found = set()
    for pod in mesh.cluster(cluster)["pods"]:
        if pod["labels"].get("app") != "istiod":
            page = json.loads(mesh.envoy(cluster, pod["namespace"], pod["name"], "certs"))
            for entry in page["certificates"]:
                found |= {each["serial_number"] for each in entry["cert_chain"][1:]}
    return found


def test_a_proxy_that_cannot_acknowledge_is_waited_for_and_named_and_the_step_can_be_taken_back(mesh, trust, until):
    [before] = trust.of("active")
    west = {pod["name"] for pod in mesh.cluster("west")["pods"] if pod["labels"].get("app") != "istiod"}

    def waited_for() -> dict[str, set[str]]:
        """Proxies without which the next step is not taken, by cluster."""
        said = trust("activate", "--timeout", "1s", code=TIMED_OUT).stderr
        named = [(line.split()[0].rstrip(":"), line.split()[1]) for line in said.splitlines() if line.startswith("  ")]
        return {cluster: {proxy.partition(".")[0] for of, proxy in named if of == cluster} for cluster, _ in named}

    with paused(mesh, "west"):
        trust("prepare", "--timeout", "1s", code=TIMED_OUT)
        until(
            "east has acknowledged, and every proxy of the paused agent is named",
            lambda: waited_for() == {"west": west},
        )
        assert trust.of("active") == [before], "nothing else signs"

    trust("prepare", "--undo")
    assert trust.of("prepared") == []


def test_the_root_changes_under_traffic_and_nothing_fails(mesh, trust, until, figure):
    until("both answer", lambda: {a.get("cluster") for a in mesh.ask("east", 20)} == {"east", "west"})
    [old] = trust.of("active")
    issuers = roots_of_certificates(mesh, "east") | roots_of_certificates(mesh, "west")

    with (
        mesh.load("east") as east,
        mesh.load("west") as west,
        kept_open(mesh, "east") as long,
        kept_open(mesh, "west") as longer,
    ):
        trust("prepare")
        [new] = trust.of("prepared")
        east.goes_on(50)
        trust("activate")
        east.goes_on(50)
        trust("taint")
        east.goes_on(50)
        trust("revoke")
        east.goes_on(50)
        west.goes_on(50)

    took = ", ".join(f"{step} {trust.seconds[step]:.1f} s" for step in ("prepare", "activate", "taint", "revoke"))
    figure(f"{took}; from east: {east.summary}; from west: {west.summary}; kept open: {long}, {longer}")
    assert (east.summary.failed, west.summary.failed) == (0, 0)
    assert (long["errors"], longer["errors"]) == ([], [])
    assert (trust.states()[old], trust.states()[new]) == ("revoked", "active")
    assert json.loads(trust("status", "-o", "json").stdout)["waiting"] == []
    assert not issuers & (roots_of_certificates(mesh, "east") | roots_of_certificates(mesh, "west")), "all are renewed"
    assert {answer.get("cluster") for answer in mesh.ask("west", 20)} == {"east", "west"}, "new connections, too"


def test_what_begins_after_a_rotation_comes_up_under_the_new_root(mesh, until):
    """The control plane and a workload: nothing of before is needed."""
    [pod] = mesh.pods("west", "istiod")
    mesh.core("west").delete_namespaced_pod(pod["name"], "istio-system")
    [workload] = mesh.pods("west", "helloworld")
    mesh.core("west").delete_namespaced_pod(workload["name"], "sample")

    def is_back() -> bool:
        pods = [*mesh.pods("west", "istiod"), *mesh.pods("west", "helloworld")]
        return len(pods) == 2 and all(
            each["ready"] and each["name"] not in (pod["name"], workload["name"]) for each in pods
        )

    until("both are back", is_back)
    until("both answer", lambda: {a.get("cluster") for a in mesh.ask("east", 20)} == {"east", "west"})
