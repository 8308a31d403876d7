"""VirtualServices and DestinationRules over two clusters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import kubernetes
import pytest

pytestmark = pytest.mark.live

PLURALS = {"VirtualService": "virtualservices", "DestinationRule": "destinationrules", "ServiceEntry": "serviceentries"}


@pytest.fixture
def apply(mesh, until) -> Iterator[Callable[..., None]]:
    """Creates a routing object where the caller's control plane takes configuration from."""
    made = []

    def create(cluster: str, kind: str, name: str, spec: dict) -> None:
        api = kubernetes.client.CustomObjectsApi(mesh.core(cluster).api_client)
        where = ("networking.istio.io", "v1", "sample", PLURALS[kind])
        body = {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        api.create_namespaced_custom_object(*where, body)
        made.append((api, where, name))

    yield create
    for api, where, name in reversed(made):
        api.delete_namespaced_custom_object(*where, name)
    until("both clusters answer again", lambda: seen(mesh, "east").keys() == {"east", "west"})


def seen(mesh, cluster: str, **how: str) -> Counter[str]:
    """Who answered, or what went wrong."""
    return Counter(answer.get("cluster") or answer.get("error", "") for answer in mesh.ask(cluster, 40, **how))


SUBSETS = {
    "host": "helloworld",
    "subsets": [
        {"name": "near", "labels": {"topology.istio.io/cluster": "east"}},
        {"name": "far", "labels": {"version": "v2"}},
    ],
}


def to(subset: str, weight: int = 100) -> dict:
    return {"destination": {"host": "helloworld", "subset": subset}, "weight": weight}


def test_a_subset_leads_to_one_cluster_even_through_a_gateway(mesh, until, apply):
    """The other side's gateway selects by the subset's name, too: its control plane is told of the subset as well."""
    for cluster in ("east", "west"):
        apply(cluster, "DestinationRule", "helloworld", SUBSETS)
    apply("east", "VirtualService", "helloworld", {"hosts": ["helloworld"], "http": [{"route": [to("far")]}]})

    until("all go far", lambda: seen(mesh, "east").keys() == {"west"})
    assert seen(mesh, "west").keys() == {"east", "west"}, "west's own control plane was told of no route"


def test_weights_and_paths(mesh, until, apply):
    for cluster in ("east", "west"):
        apply(cluster, "DestinationRule", "helloworld", SUBSETS)
    rules = [
        {"match": [{"uri": {"exact": "/teapot"}}], "directResponse": {"status": 418}},
        {"match": [{"uri": {"prefix": "/old"}}], "rewrite": {"uri": "/whoami"}, "route": [to("near")]},
        {"route": [to("near", 90), to("far", 10)]},
    ]
    apply("east", "VirtualService", "helloworld", {"hosts": ["helloworld"], "http": rules})

    until("a rule of its own for a path", lambda: "HTTP 418: " in seen(mesh, "east", path="/teapot"))
    assert seen(mesh, "east", path="/old").keys() == {"east"}
    near, far = (sum(seen(mesh, "east")[cluster] for _ in range(5)) for cluster in ("east", "west"))
    assert near > 3 * far


def test_a_route_to_a_subset_that_nobody_declares_is_refused_and_other_services_are_not(mesh, until, apply):
    apply("east", "VirtualService", "helloworld", {"hosts": ["helloworld"], "http": [{"route": [to("nowhere")]}]})

    until("refused", lambda: all(answer.startswith("HTTP 503") for answer in seen(mesh, "east")))
    script = "import socket; s = socket.create_connection(('tcp-echo.sample', 9001), timeout=5); print(s.makefile().readline())"
    assert mesh.python("east", script).startswith("welcome")


def test_near_before_far_and_far_when_near_is_gone_without_a_failed_request(mesh, until, apply):
    for cluster in ("east", "west"):
        apply(cluster, "DestinationRule", "near", {"host": "helloworld", "trafficPolicy": {"outlierDetection": {}}})
    until(
        "everybody stays near", lambda: seen(mesh, "east").keys() == {"east"} and seen(mesh, "west").keys() == {"west"}
    )

    answers: Counter[str] = Counter()

    def gone() -> bool:
        answers.update(seen(mesh, "east"))
        return not mesh.pods("east", "helloworld")

    with mesh.scaled("east", "helloworld-v1", 0):
        until("the near one is gone", gone)
        after = seen(mesh, "east")

    assert after.keys() == {"west"}
    assert answers.keys() <= {"east", "west"}, "no request failed on the way"
    until("near again", lambda: seen(mesh, "east").keys() == {"east"})


def test_a_service_that_no_cluster_declares_has_a_name_and_an_address(mesh, until, apply):
    [pod] = mesh.pods("east", "helloworld")
    spec = {
        "hosts": ["hello.example"],
        "addresses": ["240.1.2.3"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 5000}],
        "resolution": "STATIC",
        "endpoints": [{"address": pod["ip"]}],
    }
    script = """
import socket, urllib.request
try:
    address = socket.gethostbyname("hello.example")
    print(address, urllib.request.urlopen("http://hello.example/hello", timeout=5).read().decode())
except OSError as error:
    print("failed", error)
"""

    apply("east", "ServiceEntry", "hello", spec)

    said = until(
        "it answers", lambda: (s := mesh.python("east", script)).startswith("240.1.2.3 Hello version: v1") and s
    )
    assert pod["name"] in said
