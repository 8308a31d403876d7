"""The proof: the mesh installed on a cluster with a real kubelet, and Pods that call each other through it. Run by `make cluster-real`.

The tests are the story in its order: installed, used, looked at, taken away.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from isthmus.injection.sidecar import INIT, PROXY

_SECONDS = 300.0
_IMAGE = "isthmus/control-plane:0.1.0"
_SERVER = """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.headers).encode())
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Answer).serve_forever()
"""
_CLIENT = """
import sys, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
except OSError as error:
    print("refused:", error)
"""
_WAITS = "import signal; signal.pause()"


def run(*command: str, told: str = "", fails: bool = False) -> str:
    done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=_SECONDS + 60, check=False)
    assert fails or done.returncode == 0, f"{command}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout + done.stderr if fails else done.stdout


def kubectl(*words: str, told: str = "", fails: bool = False) -> str:
    return run("kubectl", *words, told=told, fails=fails)


def isthmus(*words: str, fails: bool = False) -> str:
    return run(sys.executable, "-m", "isthmus.cli.app", *words, fails=fails)


def until(what: str, holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        if found := holds():
            return found
        threading.Event().wait(0.5)
    raise AssertionError(f"in {_SECONDS:g} s not: {what}\n{kubectl('get', 'pods,events', '-A', '-o', 'wide')[-6000:]}")


def rolled_out(namespace: str, *names: str) -> None:
    for name in names:
        said = kubectl(
            "rollout", "status", f"deployment/{name}", "-n", namespace, f"--timeout={_SECONDS:g}s", fails=True
        )
        assert "successfully rolled out" in said, said + pods(namespace)


def pods(namespace: str) -> str:
    """What there is, for whoever reads a failure."""
    found = kubectl("get", "pods,events", "-n", namespace, "-o", "wide")
    for name in kubectl("get", "pods", "-n", namespace, "-o", "name").split():
        found += f"\n== {name}\n" + kubectl(
            "logs", name, "-n", namespace, "--all-containers", "--tail=40", "--prefix", fails=True
        )
    return found


def workload(namespace: str, name: str, script: str) -> list[dict[str, Any]]:
    """An account and a Deployment of one Pod, whose program is no part of the mesh's own user."""
    labels = {"app": name}
    container = {
        "name": "app",
        "image": _IMAGE,
        "command": ["/opt/isthmus/bin/python", "-c", script],
        "ports": [{"containerPort": 8080}],
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "readOnlyRootFilesystem": True},
    }
    pod = {"serviceAccountName": name, "terminationGracePeriodSeconds": 1, "containers": [container]}
    metadata = {"name": name, "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        },
    ]


def namespace(name: str, **labels: str) -> dict[str, Any]:
    found = {key.replace("_", "-"): value for key, value in labels.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": found}}


def applied(*objects: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", told=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def called(namespace: str, url: str) -> str:
    return kubectl(
        "exec", "deployment/client", "-n", namespace, "-c", "app", "--", "/opt/isthmus/bin/python", "-c", _CLIENT, url
    )


@pytest.fixture(scope="module")
def shop() -> None:
    """A server and a client in the mesh, and a client that is not."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }
    applied(
        namespace("shop", istio_injection="enabled"),
        namespace("outside"),
        *workload("shop", "web", _SERVER),
        *workload("shop", "client", _WAITS),
        *workload("outside", "client", _WAITS),
        service,
    )
    rolled_out("shop", "web", "client")
    rolled_out("outside", "client")


def test_everything_that_is_installed_becomes_available() -> None:
    began = time.monotonic()
    said = isthmus(
        *("install", "--cluster", "east", "--network", "n1", "--apply", "--wait", f"{_SECONDS:g}"),
        *("--set", "ingressGateway.enabled=true"),
        fails=True,
    )
    print(f"installed and available after {time.monotonic() - began:.0f} s")

    assert "not available" not in said, said + pods("istio-system")
    assert "created" in said
    rolled_out("istio-system", "istiod", "istio-eastwestgateway", "istio-ingressgateway")


def test_installing_again_changes_nothing() -> None:
    said = json.loads(
        isthmus(
            *("install", "--cluster", "east", "--network", "n1", "--apply", "-o", "json"),
            *("--set", "ingressGateway.enabled=true"),
        )
    )

    assert {each["action"] for each in said["objects"]} == {"unchanged"}


@pytest.mark.usefixtures("shop")
def test_pods_get_a_proxy_and_rules_that_lead_into_it() -> None:
    (pod,) = json.loads(kubectl("get", "pods", "-n", "shop", "-l", "app=web", "-o", "json"))["items"]

    assert [each["name"] for each in pod["spec"]["initContainers"]] == [INIT, PROXY]
    states = {each["name"]: each for each in pod["status"]["initContainerStatuses"]}
    assert states[INIT]["state"]["terminated"]["exitCode"] == 0
    assert states[PROXY]["ready"]
    assert states[PROXY]["restartCount"] == 0


@pytest.mark.usefixtures("shop")
def test_a_request_crosses_by_mutual_tls() -> None:
    headers = called("shop", "http://web/")

    assert "URI=spiffe://cluster.local/ns/shop/sa/client" in headers
    assert "By=spiffe://cluster.local/ns/shop/sa/web" in headers


@pytest.mark.usefixtures("shop")
def test_who_has_no_identity_is_refused_where_one_is_asked_for() -> None:
    assert "X-Forwarded-Client-Cert" not in called("outside", "http://web.shop/")
    strict = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"mtls": {"mode": "STRICT"}},
    }

    applied(strict)

    until("plain text is refused", lambda: "refused" in called("outside", "http://web.shop/"))
    assert "URI=spiffe://" in called("shop", "http://web/")


@pytest.mark.usefixtures("shop")
def test_the_command_line_answers_about_this_cluster() -> None:
    assert "0 errors" in isthmus("analyze", "--context", "real", fails=True)


@pytest.mark.usefixtures("shop")
def test_taken_away_nothing_is_left() -> None:
    kubectl("delete", "namespace", "shop", "outside", "--timeout", f"{_SECONDS:g}s")

    isthmus("uninstall", "--yes", "--purge")

    until("the namespace is gone", lambda: "NotFound" in kubectl("get", "namespace", "istio-system", fails=True))
    kinds = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations,crds"
    assert kubectl("get", kinds, "-l", "app.kubernetes.io/managed-by=isthmus-install", "-o", "name") == ""
    assert "istio.io" not in kubectl("get", "crds", "-o", "name")
