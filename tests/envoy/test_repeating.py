"""Which requests a real Envoy sends again when their connection breaks: what routes and their virtual host say together."""

from __future__ import annotations

import contextlib
import http.client
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_envoy import running_envoy

from isthmus.envoy.expand import expanded
from isthmus.envoy.resources import ROUTES
from isthmus.model.routing import Handling, HeaderChanges, RequestMatch, Retries, Route

LOOPBACK = "127.0.0.1"
HELLO = "outbound|5000||helloworld.sample.svc.cluster.local"
FILTERS = "type.googleapis.com/envoy.extensions.filters"
SILENT, NEVER = Handling(), Handling(retries=Retries(attempts=0))


class Breaking(socketserver.ThreadingTCPServer):
    """Reads each request, and resets its connection."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), socketserver.BaseRequestHandler)
        self.seen: list[bytes] = []

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.seen.append(request.recv(65536))
        request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def shutdown_request(self, request: Any) -> None:
        request.close()


def route(handling: Handling) -> Route:
    return Route(name="r", match=RequestMatch(), clusters=((HELLO, 1, HeaderChanges()),), mirrors=(), handling=handling)


@contextlib.contextmanager
def tries(table: dict[str, Any], directory: Path) -> Iterator[Any]:
    """Asks for helloworld by the table, and says how often it was."""
    with Breaking() as server, socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
        probe.close()
        place = {"address": {"socketAddress": {"address": LOOPBACK, "portValue": server.server_address[1]}}}
        assignment = {"clusterName": HELLO, "endpoints": [{"lbEndpoints": [{"endpoint": place}]}]}
        manager = {
            "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
            "statPrefix": "outbound",
            "routeConfig": table,
            "httpFilters": [{"name": "router", "typedConfig": {"@type": f"{FILTERS}.http.router.v3.Router"}}],
        }
        listener = {
            "name": "outbound",
            "address": {"socketAddress": {"address": LOOPBACK, "portValue": port}},
            "filterChains": [{"filters": [{"name": "http", "typedConfig": manager}]}],
        }
        cluster = {"name": HELLO, "type": "STATIC", "loadAssignment": assignment}

        def ask(method: str) -> int:
            server.seen.clear()
            with contextlib.closing(http.client.HTTPConnection(LOOPBACK, port, timeout=10)) as connection:
                connection.request(method, "/", headers={"host": "helloworld.sample"})
                assert connection.getresponse().status == 503
            assert not any(b"retry" in request for request in server.seen), "that is between the routes and Envoy"
            return len(server.seen)

        threading.Thread(target=server.serve_forever, daemon=True).start()
        with running_envoy({"staticResources": {"listeners": [listener], "clusters": [cluster]}}, directory):
            yield ask
        server.shutdown()


@pytest.mark.parametrize(
    ("handling", "of_get", "of_post"),
    [
        pytest.param(None, 3, 1, id="without a rule, what may run twice"),
        pytest.param(NEVER, 1, 1, id="a rule says never"),
        pytest.param(SILENT, 1, 1, id="a rule that says nothing, not what may have run"),
        pytest.param(Handling(retries=Retries(attempts=1, on="reset")), 2, 2, id="a rule says how often, and when"),
    ],
)
def test_a_request_whose_connection_breaks_is_sent_again(mesh, tmp_path, handling, of_get, of_post):
    routes = () if handling is None else (route(handling),)
    plain = mesh.sample_mesh()
    upstreams = tuple(mesh.replace(each, routes=routes) if each.name == HELLO else each for each in plain.upstreams)
    compiled = mesh.compiled(mesh.view(mesh.replace(plain, upstreams=upstreams)))
    table = next(each for each in expanded(compiled, ROUTES) if each["name"] == "5000")
    table["virtualHosts"] = [each for each in table["virtualHosts"] if each["name"].startswith("helloworld.")]

    with tries(table, tmp_path) as ask:
        assert (ask("GET"), ask("POST")) == (of_get, of_post)
