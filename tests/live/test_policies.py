"""PeerAuthentication and AuthorizationPolicy, applied with a client of the Kubernetes API and seen in what callers get."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import kubernetes
import pytest

from isthmus.localruntime.traffic import inside

pytestmark = pytest.mark.live

PLAINTEXT = """
import socket, sys
connection = socket.socket()
connection.settimeout(5)
connection.setsockopt(socket.SOL_SOCKET, 36, 1337)  # as the sidecar itself: past the capture, without its TLS
try:
    connection.connect((sys.argv[1], 5000))
    connection.sendall(b"GET /hello HTTP/1.1\\r\\nHost: helloworld.sample\\r\\nConnection: close\\r\\n\\r\\n")
    print((connection.recv(1000) or b"closed").split()[0].decode())
except OSError as error:
    print("refused")
"""


@pytest.fixture
def apply(mesh, until) -> Iterator[Callable[..., None]]:
    """Creates a security object in both clusters: each control plane takes configuration from its own."""
    made = []

    def create(kind: str, plural: str, name: str, spec: dict, namespace: str = "sample") -> None:
        for cluster in ("east", "west"):
            api = kubernetes.client.CustomObjectsApi(mesh.core(cluster).api_client)
            where = ("security.istio.io", "v1", namespace, plural)
            body = {"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
            api.create_namespaced_custom_object(*where, body)
            made.append((api, where, name))

    yield create
    for api, where, name in made:
        api.delete_namespaced_custom_object(*where, name)
    until("everybody is let in again", lambda: errors(mesh, "east") == errors(mesh, "west") == {""})


def errors(mesh, cluster: str, **how: str) -> set[str]:
    return {answer.get("error", "").partition(":")[0] for answer in mesh.ask(cluster, 20, **how)}


def test_strict_refuses_plaintext_and_lets_the_mesh_in(mesh, until, apply):
    pod = mesh.pods("east", "helloworld")[0]["ip"]
    assert mesh.python("east", PLAINTEXT, pod).strip() == "HTTP/1.1"

    apply("PeerAuthentication", "peerauthentications", "default", {"mtls": {"mode": "STRICT"}})

    until("plaintext is refused", lambda: mesh.python("east", PLAINTEXT, pod).strip() in ("closed", "refused"))
    assert errors(mesh, "east") == errors(mesh, "west") == {""}


def test_a_denied_caller_is_refused_in_both_clusters_and_others_are_not(mesh, until, apply):
    source = {"principals": ["cluster.local/ns/sample/sa/client"]}
    rule = {"from": [{"source": source}], "to": [{"operation": {"paths": ["/whoami"]}}]}

    apply("AuthorizationPolicy", "authorizationpolicies", "no-whoami", {"action": "DENY", "rules": [rule]})

    until("all are refused", lambda: errors(mesh, "east") == errors(mesh, "west") == {"HTTP 403"})
    slow = {answer.get("error", "")[:3] for answer in mesh.ask("east", 5, path="/headers")}
    assert slow == {""}, "the rule names one path"


def test_allow_means_nobody_else_and_applies_to_bytes_too(mesh, until, apply):
    script = """
import socket
try:
    with socket.create_connection(("tcp-echo.sample", 9000), timeout=5) as connection:
        connection.sendall(b"hello\\n")
        print((connection.makefile().readline() or "closed").split()[0])
except OSError:
    print("closed")
"""
    somebody = {"from": [{"source": {"principals": ["cluster.local/ns/other/sa/somebody"]}}]}
    assert mesh.python("east", script).strip() in ("v1", "v2")

    apply(
        "AuthorizationPolicy",
        "authorizationpolicies",
        "only-somebody",
        {"selector": {"matchLabels": {"app": "tcp-echo"}}, "rules": [somebody]},
    )

    until("the client is refused", lambda: mesh.python("east", script).strip() == "closed")
    until("others are let in: the policy selects one workload", lambda: errors(mesh, "east") == {""})


def test_a_denial_reaches_connections_that_are_open_already(mesh, apply):
    """A connection is no way around a policy that comes after it, and is not closed for it either."""
    script = """
import http.client, time
connection = http.client.HTTPConnection("helloworld.sample", 5000, timeout=10)
connection.connect()
connection.auto_open = 0
deadline, status = time.monotonic() + 30, 200
while time.monotonic() < deadline and status == 200:
    connection.request("GET", "/whoami")
    response = connection.getresponse()
    response.read()
    status = response.status
    print(status, flush=True)
    time.sleep(0.01)
"""
    command, environment = inside(mesh.client, ("east", "sample", "client"), [sys.executable, "-c", script])
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "200\n"

        apply("AuthorizationPolicy", "authorizationpolicies", "nobody", {"action": "DENY", "rules": [{}]})

        seen = client.stdout.read().splitlines()
    assert seen[-1] == "403"
    assert set(seen[:-1]) <= {"200"}
