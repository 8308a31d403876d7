"""What objects say about the mesh."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.ingest.cache import IngestCache
from isthmus.model.workloads import Health


def endpoints(snapshot):
    return [endpoint for found in snapshot.endpoints.values() for endpoint in found]


def test_services_of_one_name_are_one_service(words):
    east = words.cluster("east", words.service(ip="10.97.0.1"))
    west = words.cluster(
        "west", words.service(ip="10.98.0.1", ports=[{"name": "http", "port": 80}, {"name": "b", "port": 90}])
    )

    [service] = words.snapshot(west, east).services.values()

    assert service.hostname == "s.ns.svc.cluster.local"
    assert service.declared_in == ("east", "west")
    assert [port.number for port in service.ports] == [80, 90]
    assert service.ips_in("west") == ("10.98.0.1",)


def test_a_port_that_clusters_name_differently_is_told_and_the_first_wins(words):
    east = words.cluster("east", words.service(ports=[{"name": "http", "port": 80}]))
    west = words.cluster("west", words.service(ports=[{"name": "tcp", "port": 80}]))

    snapshot = words.snapshot(west, east)

    [service] = snapshot.services.values()
    assert service.ports[0].name == "http"
    [issue] = snapshot.issues
    assert (issue.code, issue.subject.cluster, issue.field) == ("ISM0101", "west", "spec.ports")
    assert "'tcp' (tcp) here, but 'http' (http) in east" in issue.what


def test_an_endpoint_knows_its_workload(words):
    node = words.obj("Node", "n", "", {"topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "a"})
    east = words.cluster(
        "east", words.network("n1"), node, words.service(), words.slice_("s-1", "10.0.0.1"),
        words.pod("p", "10.0.0.1", node="n", account="sa"),
    )  # fmt: skip

    [endpoint] = endpoints(words.snapshot(east))

    workload = endpoint.workload
    assert (workload.name, workload.network, str(workload.locality)) == ("p", "n1", "eu/a")
    assert str(workload.identity) == "spiffe://cluster.local/ns/ns/sa/sa"
    assert workload.meshed
    assert endpoint.ports == (("http", 8080),)


def test_a_pods_own_network_label_wins_over_its_clusters(words):
    east = words.cluster(
        "east", words.network("n1"), words.service(), words.slice_("s-1", "10.0.0.1"),
        words.pod("p", "10.0.0.1", {"topology.istio.io/network": "n9"}),
    )  # fmt: skip

    [endpoint] = endpoints(words.snapshot(east))

    assert endpoint.network == "n9"


def test_an_endpoint_in_two_slices_and_two_states_is_one_and_the_better_state_counts(words):
    """As it is for a moment while a controller moves it from one slice to another."""
    east = words.cluster(
        "east",
        words.service(),
        words.slice_("s-1", "10.0.0.1", ready=False),
        words.slice_("s-2", "10.0.0.1", ready=True),
    )

    [endpoint] = endpoints(words.snapshot(east))

    assert endpoint.health is Health.HEALTHY


def test_a_network_that_others_cannot_reach_is_told_once(words):
    east = words.cluster("east", words.network("n1"), words.service(), words.slice_("s-1", "10.0.0.1", "10.0.0.2"))
    west = words.cluster(
        "west", words.network("n2"), words.service(), words.slice_("s-1", "10.0.0.1"),
        words.service("gw", labels={"topology.istio.io/network": "n2"}, ports=[{"name": "tls", "port": 15443}],
                      externalIPs=["2.2.2.2"]),
    )  # fmt: skip

    assert [(issue.code, issue.subject.name) for issue in words.snapshot(east, west).issues] == [("ISM0102", "n1")]


@st.composite
def meshes(draw) -> dict[str, list[tuple]]:
    """By cluster: services, slices and Pods by number, so that some fit each other."""
    one = st.lists(
        st.tuples(st.sampled_from(["service", "slice", "pod", "gateway"]), st.integers(1, 4)), max_size=6, unique=True
    )
    return {name: draw(one) for name in draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, unique=True))}


def built(words, mesh):
    def each(kind, number):
        match kind:
            case "service":
                return words.service(f"s{number}", ip=f"10.96.0.{number}")
            case "slice":
                return words.slice_(f"x{number}", f"10.0.0.{number}", f"10.0.0.{number + 1}", service=f"s{number % 3}")
            case "pod":
                return words.pod(f"p{number}", f"10.0.0.{number}")
        return words.service(
            f"gw{number}", labels={"topology.istio.io/network": f"n{number}"}, externalIPs=[f"1.1.1.{number}"]
        )

    return [
        words.cluster(name, words.network(f"n-{name}"), *(each(*what) for what in objects))
        for name, objects in mesh.items()
    ]


laws = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=60
)


@laws
@given(meshes(), st.randoms())
def test_the_order_of_objects_and_clusters_says_nothing(words, mesh, chance: random.Random):
    first = snapshot(words, mesh)
    shuffled = {
        name: chance.sample(objects, len(objects)) for name, objects in chance.sample(list(mesh.items()), len(mesh))
    }

    assert snapshot(words, shuffled) == first


@laws
@given(st.lists(meshes(), min_size=1, max_size=5))
def test_remembering_gives_what_computing_anew_gives(words, history):
    cache = IngestCache()

    for mesh in history:
        assert snapshot(words, mesh, cache) == snapshot(words, mesh)


def snapshot(words, mesh, cache=None):
    """With the alphabetically first cluster as the config cluster, in whatever order they come."""
    clusters = built(words, mesh)
    return words.snapshot_with(clusters, min(mesh), cache)
