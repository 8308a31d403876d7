"""A ListenerSet's listeners, asked with real requests: a gateway's Envoy serves what its Gateway lets others add, and nothing else."""

from __future__ import annotations

import http.client
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from free_ports import free_port
from running_envoy import running_envoy

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.envoy.static import static_bootstrap
from isthmus.model.identity import TrustDomain
from isthmus.trust import x509

MESH = """
apiVersion: v1
kind: Pod
metadata: {name: in, namespace: edge, labels: {app: in}}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: in, namespace: edge}
spec: {clusterIP: 10.96.0.2, selector: {app: in}, ports: [{name: web, port: WEB}, {name: added, port: ADDED}]}
---
apiVersion: v1
kind: Service
metadata: {name: shelf, namespace: books}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shelf-1, namespace: books, labels: {kubernetes.io/service-name: shelf}}
addressType: IPv4
ports: [{name: http, port: BACKEND}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: istio}
spec: {controllerName: istio.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: edge}
spec:
  gatewayClassName: istio
  addresses: [{type: Hostname, value: in.edge.svc.cluster.local}]
  allowedListeners: {namespaces: {from: ALLOWED}}
  listeners: [{name: web, port: WEB, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: books, namespace: books}
spec:
  parentRef: {name: front, namespace: edge}
  listeners: [{name: added, port: ADDED, protocol: HTTP, hostname: books.example.com}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: books, namespace: books}
spec:
  parentRefs: [{kind: ListenerSet, name: books}]
  rules: [{backendRefs: [{name: shelf, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: elsewhere, namespace: books}
spec:
  parentRefs: [{name: front, namespace: edge}]
  hostnames: [www.example.com]
  rules: [{backendRefs: [{name: shelf, port: 80}]}]
"""


class Shelf(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def configuration(allowed: str, web: int, added: int, backend: int, mesh: str = MESH) -> dict[str, Any]:
    """What the gateway's Envoy is given."""
    text = mesh.replace("ALLOWED", allowed).replace("WEB", str(web)).replace("ADDED", str(added))
    objects = list(yaml.safe_load_all(text.replace("BACKEND", str(backend))))
    scenario = scenario_of({"clusters": [{"id": "east", "objects": objects}]})
    document = render(scenario, node_of(scenario, "router/in.edge", "east"))
    for cluster in document["clusters"]:
        # Nobody is there to give the mesh's certificates, and nobody here asks for one.
        cluster.pop("transportSocketMatches", None)
    return static_bootstrap(document)


def asked(port: int, host: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/", headers={"Host": host})
    return connection.getresponse().status


def test_envoy_serves_a_listener_that_the_gateway_lets_a_namespace_add(backend: int, tmp_path: Path) -> None:
    web, added = free_port(), free_port()

    with running_envoy(configuration("All", web, added, backend), tmp_path):
        assert asked(added, "books.example.com") == 200
        assert asked(added, "www.example.com") == 404, "the Gateway's own routes do not hold at the set"
        assert asked(web, "www.example.com") == 200
        assert asked(web, "books.example.com") == 404, "nor the set's at the Gateway"


def test_envoy_serves_none_that_the_gateway_does_not_let_in(backend: int, tmp_path: Path) -> None:
    web, added = free_port(), free_port()

    with running_envoy(configuration("Same", web, added, backend), tmp_path):
        assert asked(web, "www.example.com") == 200
        with pytest.raises(ConnectionRefusedError):
            asked(added, "books.example.com")


def with_certificates(node: Any, secrets: dict[str, tuple[str, str]]) -> Any:
    """Certificates in the place of the names by which an agent would be asked for them."""
    if isinstance(node, list):
        return [with_certificates(each, secrets) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: with_certificates(value, secrets) for key, value in node.items()}
    if "tlsCertificateSdsSecretConfigs" in found:
        names = [each["name"] for each in found.pop("tlsCertificateSdsSecretConfigs")]
        found["tlsCertificates"] = [
            {"certificateChain": {"inlineString": secrets[name][0]}, "privateKey": {"inlineString": secrets[name][1]}}
            for name in names
        ]
    return found


def made() -> tuple[str, str]:
    root = x509.new_root(TrustDomain.parse("cluster.local"), datetime.now(UTC), timedelta(days=1))
    return x509.certificate_pem(root.certificate), x509.key_pem(root.key)


def asked_by_tls(port: int, server_name: str) -> tuple[int, str]:
    """The status, and the certificate that was shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as wrapped,
    ):
        wrapped.sendall(f"GET / HTTP/1.1\r\nHost: {server_name}\r\nConnection: close\r\n\r\n".encode())
        status = int(wrapped.makefile("rb").readline().split()[1])
        shown = wrapped.getpeercert(binary_form=True)
    assert shown is not None
    return status, ssl.DER_cert_to_PEM_cert(shown)


def test_envoy_shows_the_certificate_of_the_sets_own_namespace(backend: int, tmp_path: Path) -> None:
    """Whoever asks for another name than the set's is shown nothing."""
    web, added = free_port(), free_port()
    plain = "{name: added, port: ADDED, protocol: HTTP, hostname: books.example.com}"
    tls = "tls: {certificateRefs: [{name: books-cert}]}"
    secure = plain.replace("HTTP,", "HTTPS,").replace("}", f", {tls}}}")
    books = made()

    config = configuration("All", web, added, backend, MESH.replace(plain, secure))
    with running_envoy(with_certificates(config, {"kubernetes-gateway://books/books-cert": books}), tmp_path):
        status, shown = asked_by_tls(added, "books.example.com")
        assert (status, shown.split()) == (200, books[0].split())
        with pytest.raises(ConnectionResetError):
            asked_by_tls(added, "www.example.com")
        assert asked(web, "www.example.com") == 200
