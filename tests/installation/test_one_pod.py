"""The agent as it runs in a Pod of a real cluster: a real agent, its Envoy, a real control plane and API server; a token in a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WORKLOAD = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"orders 3\\n" if self.path == "/metrics" else (self.path + " " + self.client_address[0]).encode()
        self.send_response(200 if self.path != "/sick" else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9080), Answer).serve_forever()
"""
GET = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=5)
except urllib.error.HTTPError as error:
    answer = error
except OSError as error:
    print("-", error); raise SystemExit
print(answer.status, answer.read().decode())
"""


def mounted(cell: Any, account: str) -> Path:
    """What the kubelet would have put into the Pod's volumes."""
    directory = cell.directory / f"{account}-files"
    directory.mkdir()
    token = cell.east.token("shop", account, "istio-ca")
    (directory / "istio-token").write_text(token)
    roots = cell.until(
        "the roots are published",
        lambda: cell.request("GET", "/api/v1/namespaces/shop/configmaps/istio-ca-root-cert")[1].get("data"),
    )
    (directory / "root-cert.pem").write_text(roots["root-cert.pem"])
    (directory / "labels").write_text('app="web"\nversion="v1"\n')
    return directory


@pytest.fixture(scope="module")
def pod(cell) -> dict[str, Any]:
    """`web` in namespace shop, ready."""
    cell.made("/api/v1/namespaces", {"metadata": {"name": "istio-system"}})
    cell.made("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    cell.control_plane()
    cell.made("/api/v1/namespaces/shop/serviceaccounts", {"metadata": {"name": "web"}})
    files = mounted(cell, "web")
    probers = {
        "/app-health/app/readyz": {"httpGet": {"path": "/well", "port": 9080}, "timeoutSeconds": 1},
        "/app-health/app/livez": {"httpGet": {"path": "/sick", "port": 9080}, "timeoutSeconds": 1},
        "/app-health/app/startupz": {"tcpSocket": {"port": 9080}, "timeoutSeconds": 1},
        "/app-health/other/readyz": {"tcpSocket": {"port": 9081}, "timeoutSeconds": 1},
    }
    agent = cell.start(
        "agent",
        "sidecar",
        f"--token-file={files / 'istio-token'}",
        f"--roots-file={files / 'root-cert.pem'}",
        f"--labels-file={files / 'labels'}",
        f"--directory={files / 'proxy'}",
        POD_NAME="web-1",
        POD_NAMESPACE="shop",
        INSTANCE_IP="127.0.0.1",
        SERVICE_ACCOUNT="web",
        PROXY_CONFIG=json.dumps({"discoveryAddress": "127.0.0.1:15012", "terminationDrainDuration": "100ms"}),
        ISTIO_META_CLUSTER_ID="east",
        ISTIO_META_NETWORK="n1",
        ISTIO_KUBE_APP_PROBERS=json.dumps(probers),
        ISTIO_PROMETHEUS_ANNOTATIONS='{"scrape":"true","port":"9080"}',
    )
    agent.until_said("envoy runs")
    return {"agent": agent, "files": files}


def seen_by_the_control_plane(cell: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cell.python(GET, "http://127.0.0.1:15014/debug/syncz").partition(" ")[2])
    return found


def test_the_pod_becomes_ready_and_the_control_plane_knows_it(cell, pod):
    done = cell.start("agent", "wait")
    assert done.process.wait(60) == 0, "".join(pod["agent"].log)

    assert cell.python(GET, "http://127.0.0.1:15021/healthz/ready").startswith("200 ready")
    proxy = next(each for each in seen_by_the_control_plane(cell) if each["proxy"] == "web-1.shop")
    assert proxy["cluster_id"] == "east"
    assert {"cluster", "listener", "nameTable"} <= proxy["resources"].keys()


def test_both_ends_are_looked_at_where_no_mesh_runs_here(cell, pod):
    """On Kubernetes: through a forwarded port of the control plane, and with the proxy's own image inside the Pod."""
    cell.until("the proxy is connected", lambda: seen_by_the_control_plane(cell))

    def said(*arguments: str) -> str:
        command = [*cell.inside, sys.executable, "-m", "isthmus.cli.app", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert "web-1.shop   east" in said("proxy-status", "web", "--control-plane", "http://127.0.0.1:15014")
    here = f"--directory={pod['files'] / 'proxy'}"
    assert "BlackHoleCluster" in said("proxy-config", "clusters", here)
    assert "spiffe://" in said("proxy-config", "secrets", here)


def test_what_is_private_stays_private(pod):
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (pod["files"] / "proxy").iterdir()}

    assert modes == {
        "admin.sock": "0o600",
        "bootstrap.json": "0o600",
        "health.sock": "0o600",
        "proof.sock": "0o600",
        "sds.sock": "0o600",
    }
    assert "PRIVATE" not in (pod["files"] / "proxy" / "bootstrap.json").read_text()


def test_an_envoy_that_may_not_mark_its_sockets_is_not_told_to(pod):
    bootstrap = json.loads((pod["files"] / "proxy" / "bootstrap.json").read_text())

    assert bootstrap["cluster_manager"] == {}
    assert bootstrap["node"]["metadata"]["LABELS"] == {"app": "web", "version": "v1"}


def test_the_kubelets_probes_are_answered_for_the_workload(cell, pod):
    """From the address that capture leaves alone."""

    workload = subprocess.Popen([*cell.inside, "python3", "-c", WORKLOAD])
    try:
        asked = "http://127.0.0.1:15020/app-health/app/"
        cell.until("the workload answers", lambda: cell.python(GET, asked + "readyz").startswith("200"))
        assert cell.python(GET, asked + "readyz").strip() == "200 /well 127.0.0.6"
        assert cell.python(GET, asked + "livez").startswith("500")
        assert cell.python(GET, asked + "startupz").startswith("200")
        assert cell.python(GET, "http://127.0.0.1:15020/app-health/other/readyz").startswith("503")
        assert cell.python(GET, "http://127.0.0.1:15020/etc/passwd").startswith("404")
    finally:
        workload.kill()
        workload.wait(10)


def test_one_question_is_answered_with_all_metrics_of_the_pod(cell, pod):
    workload = subprocess.Popen([*cell.inside, "python3", "-c", WORKLOAD])
    try:
        asked = "http://127.0.0.1:15020/stats/prometheus"
        cell.until("the workload answers", lambda: "\norders 3\n" in cell.python(GET, asked))
        text = cell.python(GET, asked)
        for metric in ("istio_agent_scrapes_total", "istio_agent_cert_expiry_seconds", "envoy_server_live", "orders"):
            assert f"\n{metric} " in text or f"\n{metric}{{" in text
    finally:
        workload.kill()
        workload.wait(10)


def test_sigterm_drains_and_leaves_nothing_running(cell, pod):
    children = Path(f"/proc/{pod['agent'].process.pid}/task/{pod['agent'].process.pid}/children").read_text().split()
    assert children, "Envoy is a child of the agent"

    assert pod["agent"].end() == 0

    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_an_envoy_that_ends_ends_the_agent(cell, pod):
    """So that the kubelet starts both anew."""
    files = pod["files"]
    agent = cell.start(
        "gateway",
        f"--token-file={files / 'istio-token'}",
        f"--roots-file={files / 'root-cert.pem'}",
        f"--directory={files / 'gateway'}",
        POD_NAME="gateway-1",
        POD_NAMESPACE="shop",
        INSTANCE_IP="127.0.0.1",
        SERVICE_ACCOUNT="web",
        PROXY_CONFIG='{"discoveryAddress": "127.0.0.1:15012"}',
        ISTIO_META_CLUSTER_ID="east",
    )
    agent.until_said("envoy runs")
    cell.until(
        "the gateway is known",
        lambda: any(
            each["proxy"] == "gateway-1.shop" and each["proxy_type"] == "router"
            for each in seen_by_the_control_plane(cell)
        ),
    )
    envoy = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text().split()[0]

    os.kill(int(envoy), signal.SIGKILL)

    assert agent.process.wait(20) == 137
