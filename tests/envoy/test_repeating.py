"""Which requests a real Envoy sends again when their connection breaks: what routes and their virtual host say together."""

from __future__ import annotations

import contextlib
import http.client
import json
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
from isthmus.envoy.resources import LISTENER, ROUTES
from isthmus.model.envoy_filters import ApplyTo, ConfigPatch, Operation, RouteChoice
from isthmus.model.origins import Origin
from isthmus.model.routing import Handling, HeaderChanges, RequestMatch, Retries, Route
from isthmus.model.traffic import TrafficPolicy, Wishes

LOOPBACK = "127.0.0.1"
HELLO = "outbound|5000||helloworld.sample.svc.cluster.local"
FILTERS = "type.googleapis.com/envoy.extensions.filters"
STORE = "outbound|7000||store.sample.svc.cluster.local"
SILENT, NEVER = Handling(), Handling(retries=Retries(attempts=0))
HEDGED = TrafficPolicy(wishes=Wishes(hedge_after_seconds=5.0))
FORWARDING = {"name": "mine", "match": {"prefix": "/"}, "route": {"cluster": HELLO}}
HOST = {"name": "helloworld.sample.svc.cluster.local:5000", "domains": ["helloworld.sample"], "routes": [FORWARDING]}


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
    return Route(
        name="default", match=RequestMatch(), clusters=((HELLO, 1, HeaderChanges()),), mirrors=(), handling=handling
    )


def patch(apply_to: ApplyTo, operation: Operation, value: Any) -> ConfigPatch:
    host = RouteChoice(host="helloworld.sample.svc.cluster.local:5000")
    return ConfigPatch(
        routes=host,
        origin=Origin("EnvoyFilter", "sample", "f"),
        index=0,
        apply_to=apply_to,
        operation=operation,
        value=json.dumps(value),
    )


@contextlib.contextmanager
def tries(compiled: Any, table: str, listener: str, directory: Path) -> Iterator[Any]:
    """Asks for helloworld as a sidecar does that has this listener and this table, and says how often it was."""
    with Breaking() as server, socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
        probe.close()
        listening = next(each for each in expanded(compiled, LISTENER) if each["name"] == listener)
        manager = next(
            each["typedConfig"]
            for chain in listening["filterChains"]
            for each in chain["filters"]
            if "rds" in each["typedConfig"]
        )
        manager["routeConfig"] = next(each for each in expanded(compiled, ROUTES) if each["name"] == table)
        del manager["rds"]
        place = {"address": {"socketAddress": {"address": LOOPBACK, "portValue": server.server_address[1]}}}
        clusters = []
        for name in (HELLO, STORE, "PassthroughCluster"):
            assignment = {"clusterName": name, "endpoints": [{"lbEndpoints": [{"endpoint": place}]}]}
            clusters.append({"name": name, "type": "STATIC", "loadAssignment": assignment})
        listening = {
            "name": "outbound",
            "address": {"socketAddress": {"address": LOOPBACK, "portValue": port}},
            "filterChains": [{"filters": [{"name": "http", "typedConfig": manager}]}],
        }

        def ask(method: str, host: str = "helloworld.sample", **headers: str) -> int:
            server.seen.clear()
            with contextlib.closing(http.client.HTTPConnection(LOOPBACK, port, timeout=10)) as connection:
                connection.request(method, "/", headers={"host": host, **headers})
                assert connection.getresponse().status == 503
            assert not any(b"x-envoy-retry" in request for request in server.seen), (
                "that is between the routes and Envoy"
            )
            return len(server.seen)

        threading.Thread(target=server.serve_forever, daemon=True).start()
        with running_envoy({"staticResources": {"listeners": [listening], "clusters": clusters}}, directory):
            yield ask
        server.shutdown()


def compiled_with(mesh: Any, **changed: Any) -> Any:
    """The sample mesh with something else said of helloworld, and some patches."""
    plain, patches = mesh.sample_mesh(), changed.pop("patches", ())
    upstreams = tuple(mesh.replace(each, **changed) if each.name == HELLO else each for each in plain.upstreams)
    return mesh.compiled(mesh.view(mesh.replace(plain, upstreams=upstreams, patches=patches)))


def merged(policy: Any) -> ConfigPatch:
    return patch(ApplyTo.HTTP_ROUTE, Operation.MERGE, {"route": {"retry_policy": policy}})


@pytest.mark.parametrize(
    ("changed", "of_get", "of_post"),
    [
        pytest.param({}, 3, 1, id="without a rule, what may run twice"),
        pytest.param({"routes": (route(NEVER),)}, 1, 1, id="a rule says never"),
        pytest.param({"routes": (route(SILENT),)}, 1, 1, id="a rule that says nothing, not what may have run"),
        pytest.param(
            {"routes": (route(Handling(retries=Retries(attempts=1, on="reset"))),)},
            2,
            2,
            id="a rule says how often, and when",
        ),
        pytest.param(
            {"routes": (route(Handling(retries=Retries(attempts=1, on="connect-failure"))),)},
            1,
            1,
            id="a rule says when not",
        ),
        pytest.param({"policy": HEDGED}, 3, 1, id="what is sent elsewhere too while there is no answer"),
        pytest.param({"patches": (merged({"num_retries": 4}),)}, 5, 1, id="a patch says how often"),
        pytest.param({"patches": (merged({"num_retries": 0}),)}, 1, 1, id="a patch says never"),
        pytest.param({"patches": (merged({"retry_on": "connect-failure"}),)}, 1, 1, id="a patch says when not"),
        pytest.param({"patches": (merged({"retry_on": "reset"}),)}, 3, 3, id="a patch says when"),
        pytest.param(
            {"patches": (patch(ApplyTo.HTTP_ROUTE, Operation.INSERT_FIRST, FORWARDING),)},
            1,
            1,
            id="a route that a patch adds",
        ),
        pytest.param(
            {"patches": (patch(ApplyTo.VIRTUAL_HOST, Operation.REPLACE, HOST),)}, 1, 1, id="a host that a patch brings"
        ),
        pytest.param(
            {"patches": (patch(ApplyTo.VIRTUAL_HOST, Operation.MERGE, {"retry_policy": {"num_retries": 4}}),)},
            5,
            1,
            id="a patch of the host's policy",
        ),
    ],
)
def test_a_request_whose_connection_breaks_is_sent_again(mesh, tmp_path, changed, of_get, of_post):
    with tries(compiled_with(mesh, **changed), "5000", "0.0.0.0_5000", tmp_path) as ask:
        assert (ask("GET"), ask("POST")) == (of_get, of_post)


def test_what_may_run_twice_is_what_the_method_says(mesh, tmp_path):
    with tries(compiled_with(mesh), "5000", "0.0.0.0_5000", tmp_path) as ask:
        for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"):
            assert ask(method) == 3, method
        for method in ("POST", "PATCH", "MERGE"):
            assert ask(method) == 1, method


def test_an_application_has_no_say_in_it(mesh, tmp_path):
    """Envoy takes such headers from callers whose addresses are known to be internal, and none are."""
    with tries(compiled_with(mesh), "5000", "0.0.0.0_5000", tmp_path) as ask:
        assert ask("POST", **{"x-envoy-retry-on": "reset"}) == 1
        assert ask("GET", **{"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "0"}) == 3


def test_what_is_no_services_is_sent_once(mesh, tmp_path):
    with tries(compiled_with(mesh), "5000", "0.0.0.0_5000", tmp_path) as ask:
        assert (ask("GET", "elsewhere.example"), ask("POST", "elsewhere.example")) == (1, 1)


def test_a_service_with_listeners_to_itself_is_asked_again_alike(mesh, tmp_path):
    with tries(compiled_with(mesh), f"{STORE.rpartition('|')[2]}:7000", "10.96.0.2_7000", tmp_path) as ask:
        assert (ask("GET"), ask("POST")) == (3, 1)
