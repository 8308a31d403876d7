"""A Pod of IPv6 in a network namespace of its own: run by test_capture.py under `unshare -rn`, with a folder for Envoy's configuration.

Prints what the workload saw of its caller, and how many connections each of Envoy's clusters made.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import urllib.request
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from running_envoy import running_envoy

from isthmus.agent.capture import EVERYTHING, ByMark, install, rules
from isthmus.agent.certificates import Certificate
from isthmus.agent.families import families_here
from isthmus.agent.namespaces import SIDECAR_MARK
from isthmus.agent.secrets_server import SecretsServer
from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.envoy.static import static_bootstrap
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import Namespace
from isthmus.trust import x509

POD, SERVICE, PORT, ADMIN = "fd00::2", "fd00:1::1", 8080, 15000


class Workload(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.client_address[0]).encode())


class OverIpv6(HTTPServer):
    address_family = 10


def configuration(secrets: Path) -> dict[str, Any]:
    """As the control plane makes it for the Pod; beside it what is the bootstrap's: the mark, the agent's socket, the page with figures."""
    labels = {"app": "web", "security.istio.io/tlsMode": "istio"}
    metadata = {"name": "web", "namespace": "shop", "labels": labels}
    ports = [{"name": "http", "port": 80, "targetPort": PORT}]
    service = {"clusterIP": SERVICE, "ipFamilies": ["IPv6"], "selector": {"app": "web"}, "ports": ports}
    slice_metadata = metadata | {"labels": {"kubernetes.io/service-name": "web"}}
    objects = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"podIP": POD, "phase": "Running"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": slice_metadata,
            "addressType": "IPv6",
            "ports": [{"name": "http", "port": PORT}],
            "endpoints": [{"addresses": [POD], "targetRef": {"kind": "Pod", "name": "web"}}],
        },
    ]
    scenario = scenario_of({"clusters": [{"id": "east", "objects": objects}]})
    text = json.dumps(static_bootstrap(render(scenario, node_of(scenario, "sidecar/web.shop", "east"))))
    config: dict[str, Any] = json.loads(text.replace("/nowhere", str(secrets)))
    mark = {"level": 1, "name": 36, "intValue": SIDECAR_MARK, "state": "STATE_PREBIND"}
    config["clusterManager"] = {"upstreamBindConfig": {"socketOptions": [mark]}}
    config["admin"] = {"address": {"socketAddress": {"address": "127.0.0.1", "portValue": ADMIN}}}
    return config


def asked(url: str) -> str:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
        return str(answer.read().decode())


def figures(pattern: str) -> dict[str, int]:
    found = json.loads(asked(f"http://127.0.0.1:{ADMIN}/stats?format=json&filter={pattern}"))
    return {each["name"]: each["value"] for each in found["stats"] if "name" in each}


def certificate() -> Certificate:
    now, domain = datetime.now(UTC), TrustDomain.parse("cluster.local")
    root = x509.new_root(domain, now, timedelta(days=1))
    key = x509.new_key()
    identity = SpiffeId.of_service_account(domain, Namespace("shop"), "default")
    leaf = x509.sign_workload(root, x509.requested_key(x509.new_request(key)), identity, now, timedelta(hours=1))
    return Certificate(x509.certificate_pem(leaf), x509.key_pem(key), x509.certificate_pem(root.certificate))


def serve_secrets(socket: Path) -> None:
    """Returns when they are served, for as long as the process runs."""
    ready = threading.Event()

    async def serve() -> None:
        server = SecretsServer(socket)
        server.put(certificate())
        await server.start()
        ready.set()
        await asyncio.Event().wait()

    threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
    assert ready.wait(10), "secrets are served"


def main(directory: Path) -> None:
    for words in (
        "link set lo up",
        "link add pod0 type veth peer name node0",
        f"addr add {POD}/64 dev pod0 nodad",
        "link set pod0 up",
        "link set node0 up",
        "route add default dev pod0",
    ):
        subprocess.run(["ip", "-6", *words.split()], check=True)
    families = families_here()
    install(rules(ByMark(), EVERYTHING, dns=False, families=families), families)
    server = OverIpv6((POD, PORT), Workload)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serve_secrets(directory / "sds")
    with running_envoy(configuration(directory / "sds"), directory):
        seen = asked(f"http://[{SERVICE}]/")
        found = figures("ssl.handshake|upstream_cx_total")
    handshakes = sum(value for name, value in found.items() if name.startswith("listener.") and "15006" in name)
    calls = next(value for name, value in found.items() if name.startswith(f"cluster.inbound|{PORT}||"))
    print(json.dumps({"server sees": seen, "handshakes": handshakes, "connections to the workload": calls}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
