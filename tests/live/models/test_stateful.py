"""A stateful service over two networks: each Pod is called by its own name, over HTTP and TCP, and no other Pod answers for it."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.live

ASK = """
import socket, sys, urllib.error, urllib.request
for name in sys.argv[1:]:
    with socket.create_connection((name, 9000), 5) as connection:
        connection.sendall(b"hello\\n")
        over_tcp = connection.makefile().readline().split()[:2]
    try:
        over_http = urllib.request.urlopen(f"http://{name}:5000/hello", timeout=5).read().decode().split()
        over_http = [over_http[2].rstrip(","), over_http[4]]
    except urllib.error.HTTPError as error:
        over_http = [error.code, ""]
    print(name, *over_tcp, *over_http)
"""


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("stateful")


def told(mesh, cluster: str, *names: str) -> dict[str, list[str]]:
    """Who answers for each name: cluster and Pod over TCP, cluster and Pod over HTTP."""
    lines = mesh.python(cluster, ASK, *names).splitlines()
    return {name: answer for name, *answer in map(str.split, lines)}


def alike(cluster: str, pod: str) -> list[str]:
    return [cluster, pod] * 2


def test_each_pod_answers_to_its_own_name_from_the_other_network(mesh):
    names = ("db-1.db", "db-0.west.db", "db-1.west.db.sample.svc.cluster.local", "db-0.db", "db-0.east.db")

    assert [told(mesh, "east", *names)[name] for name in names] == [
        alike("west", "db-1"),
        alike("west", "db-0"),
        alike("west", "db-1"),
        alike("east", "db-0"),
        alike("east", "db-0"),
    ]


def test_a_name_that_says_no_cluster_is_the_own_clusters_pod(mesh):
    answers = told(mesh, "west", "db-0.db", "db-1.db", "db-0.east.db")

    assert answers == {
        "db-0.db": alike("west", "db-0"),
        "db-1.db": alike("west", "db-1"),
        "db-0.east.db": alike("east", "db-0"),
    }


def test_while_a_pod_is_away_no_other_one_answers_for_it(mesh, until):
    core = mesh.core("west")
    pod = core.read_namespaced_pod("db-1", "sample")
    core.delete_namespaced_pod("db-1", "sample", grace_period_seconds=0)
    away = """
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://db-1.db:5000/hello", timeout=5).status)
except urllib.error.URLError as error:
    print(getattr(error, "code", "no address"))
"""
    until("nobody answers for it", lambda: mesh.python("east", away).strip() in ("503", "no address"))
    assert told(mesh, "east", "db-0.west.db") == {"db-0.west.db": alike("west", "db-0")}

    spec = core.api_client.sanitize_for_serialization(pod.spec)
    spec["containers"] = [each for each in spec["containers"] if each["name"] != "istio-proxy"]
    spec.pop("nodeName")
    again = {"metadata": {"name": "db-1", "labels": {"app": "db"}}, "spec": spec}
    until("its old self is gone", lambda: not mesh.pods("west", "db") or len(mesh.pods("west", "db")) == 1)
    core.create_namespaced_pod("sample", again)

    until("it is back", lambda: mesh.python("east", away).strip() == "200")
    assert told(mesh, "east", "db-1.db") == {"db-1.db": alike("west", "db-1")}
