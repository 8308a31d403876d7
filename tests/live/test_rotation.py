"""Another root for the whole mesh while everything runs: short requests, and connections that stay open all the time, none of which fails."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from revocation_lists import revoking

from isthmus.cli.errors import TIMED_OUT
from isthmus.localruntime.entering import host_pid
from isthmus.localruntime.launch import supervisor_of
from isthmus.localruntime.traffic import inside
from isthmus.model.identity import TrustDomain
from isthmus.trust import x509

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


ANSWERED = """
import socket
try:
    connection = socket.create_connection(("tcp-echo.sample", 9000), timeout=5)
    connection.sendall(b"hello\\n")
    print(connection.makefile("rb").readline().endswith(b"hello\\n"))
except OSError:
    print(False)
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
        print(f"$ isthmus trust {' '.join((step, *more))}\n{done.stdout}{done.stderr}")
        assert done.returncode == code, done.stderr
        return done

    def states(self) -> dict[str, str]:
        """Of the roots, by the beginning of their fingerprint."""
        found = json.loads(self("status", "-o", "json").stdout)
        assert found["waiting"] == []
        return {root["fingerprint"][:12]: root["state"] for root in found["roots"]}

    def of(self, state: str) -> list[str]:
        return [root for root, found in self.states().items() if found == state]


@pytest.fixture(scope="module")
def own_root() -> x509.Issuer:
    """An operator's own: its key signs revocation lists, too."""
    return x509.new_root(TrustDomain.parse("cluster.local"), datetime.now(UTC), timedelta(days=30), "of an operator")


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


def files_of(issuer: x509.Issuer, directory: Path) -> tuple[Path, Path]:
    certificate, key = directory / "root.pem", directory / "root-key.pem"
    certificate.write_text(x509.certificate_pem(issuer.certificate))
    key.write_text(x509.key_pem(issuer.key))
    return certificate, key


def plugged_in(mesh, cluster: str) -> x509.Issuer:
    """What signs for a cluster, as its Secret has it."""
    data = mesh.core(cluster).read_namespaced_secret("cacerts", "istio-system").data
    certificate, key = (base64.b64decode(data[name]).decode() for name in ("ca-cert.pem", "ca-key.pem"))
    return x509.Issuer(x509.parse_certificates(certificate)[0], x509.parse_key(key))


def put_lists(mesh, *lists: str) -> None:
    """Beside the authority of each cluster; none takes them away."""
    body = base64.b64encode("".join(lists).encode()).decode() if lists else None
    for cluster in ("east", "west"):
        mesh.core(cluster).patch_namespaced_secret("cacerts", "istio-system", {"data": {"ca-crl.pem": body}})


def serial_of_client(mesh, cluster: str) -> int:
    """Of the certificate that the cluster's client shows."""
    pod = mesh.pods(cluster, "client")[0]["name"]
    page = json.loads(mesh.envoy(cluster, "sample", pod, "certs"))
    [serial] = {entry["cert_chain"][0]["serial_number"] for entry in page["certificates"] if entry["cert_chain"]}
    return int(serial, 16)


def is_answered(mesh, cluster: str) -> bool:
    """Whether a new connection of the cluster's client leads anywhere."""
    return bool(mesh.python(cluster, ANSWERED).strip() == "True")


def test_a_proxy_that_cannot_acknowledge_is_waited_for_and_named_and_the_step_can_be_taken_back(mesh, trust, until):
    [before] = trust.of("active")
    with paused(mesh, "west"):
        trust("prepare", "--timeout", "2s", code=TIMED_OUT)
        waits = trust("activate", "--timeout", "2s", code=TIMED_OUT)
    west = {pod["name"] for pod in mesh.cluster("west")["pods"] if pod["labels"].get("app") != "istiod"}
    named = {line.split()[1].partition(".")[0] for line in waits.stderr.splitlines() if line.startswith("  west: ")}

    assert named == west, "every proxy of the paused agent, and none of the other cluster"
    assert not [line for line in waits.stderr.splitlines() if line.startswith("  east: ")]
    assert trust.of("active") == [before], "nothing else signs"

    trust("prepare", "--undo")
    assert trust.of("prepared") == []


def test_the_root_changes_under_traffic_and_nothing_fails(mesh, trust, own_root, tmp_path, until, figure):
    certificate, key = files_of(own_root, tmp_path)
    until("both answer", lambda: {a.get("cluster") for a in mesh.ask("east", 20)} == {"east", "west"})
    [old] = trust.of("active")
    issuers = roots_of_certificates(mesh, "east") | roots_of_certificates(mesh, "west")

    with (
        mesh.load("east") as east,
        mesh.load("west") as west,
        kept_open(mesh, "east") as long,
        kept_open(mesh, "west") as longer,
    ):
        trust("prepare", "--root-cert", str(certificate), "--root-key", str(key))
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
    assert not issuers & (roots_of_certificates(mesh, "east") | roots_of_certificates(mesh, "west")), "all are renewed"
    assert {answer.get("cluster") for answer in mesh.ask("west", 20)} == {"east", "west"}, "new connections, too"


def test_a_revoked_certificate_is_refused_and_a_rotation_goes_on_while_nothing_else_fails(
    mesh, trust, own_root, until, figure
):
    """Open connections of whoever is revoked stay; new ones are refused until it has another certificate."""
    issuers = [plugged_in(mesh, cluster) for cluster in ("east", "west")]
    put_lists(mesh, *(revoking(issuer) for issuer in (own_root, *issuers)))
    revoked = serial_of_client(mesh, "west")
    assert is_answered(mesh, "west"), "empty lists refuse nobody"

    with mesh.load("east") as east, kept_open(mesh, "east") as long, kept_open(mesh, "west") as of_the_revoked:
        began = time.monotonic()
        put_lists(mesh, *(revoking(issuer, revoked) for issuer in (own_root, *issuers)))
        until("new connections are refused", lambda: not is_answered(mesh, "west"))
        refused_after = time.monotonic() - began
        east.goes_on(50)
        trust("prepare")
        trust("activate")
        trust("taint")
        until("it has another certificate", lambda: serial_of_client(mesh, "west") != revoked)
        until("new connections are let in again", lambda: is_answered(mesh, "west"))
        trust("revoke")
        east.goes_on(50)
    put_lists(mesh)

    figure(f"refused after {refused_after:.1f} s; from east: {east.summary}; kept open: {long}, {of_the_revoked}")
    assert east.summary.failed == 0
    assert (long["errors"], of_the_revoked["errors"]) == ([], [])


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
