"""Services that no cluster declares."""

from __future__ import annotations

import pytest

from isthmus.model.services import Resolution


def entry(words, name="e", **spec):
    ports = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}]
    return words.obj("ServiceEntry", name, "ns", spec={"hosts": ["a.example"], "ports": ports} | spec)


def read(words, *objects):
    return words.snapshot(words.cluster("east", words.network("n1"), *objects))


def endpoints(snapshot):
    return [endpoint for found in snapshot.endpoints.values() for endpoint in found]


def test_written_endpoints_answer_at_the_target_port_or_their_own(words):
    found = [
        {"address": "1.1.1.1", "weight": 3, "locality": "eu/a"},
        {"address": "1.1.1.2", "ports": {"http": 9090}, "network": "n2"},
    ]

    snapshot = read(words, entry(words, resolution="STATIC", addresses=["240.0.0.1", "10.0.0.0/8"], endpoints=found))

    [service] = snapshot.services.values()
    assert (service.hostname, service.registry, service.resolution) == ("a.example", "External", Resolution.ENDPOINTS)
    assert service.ips_in("east") == ("240.0.0.1",)
    first, second = endpoints(snapshot)
    assert (first.ip, first.ports, first.weight, first.network) == ("1.1.1.1", (("http", 8080),), 3, "n1")
    assert str(first.workload.locality) == "eu/a"
    assert (second.ports, second.network) == ((("http", 9090),), "n2")


@pytest.mark.parametrize(
    ("location", "said", "meshed", "identity"),
    [
        ("MESH_EXTERNAL", {"serviceAccount": "sa"}, False, None),
        ("MESH_INTERNAL", {"serviceAccount": "sa"}, True, "spiffe://cluster.local/ns/ns/sa/sa"),
        ("MESH_INTERNAL", {}, False, None),
        ("MESH_INTERNAL", {"labels": {"security.istio.io/tlsMode": "istio"}}, True, None),
        ("MESH_INTERNAL", {"serviceAccount": "sa", "labels": {"security.istio.io/tlsMode": "disabled"}}, False, "spiffe://cluster.local/ns/ns/sa/sa"),
    ],
)  # fmt: skip
def test_who_takes_part_in_mutual_tls(words, location, said, meshed, identity):
    snapshot = read(
        words, entry(words, resolution="STATIC", location=location, endpoints=[{"address": "1.1.1.1"} | said])
    )

    [endpoint] = endpoints(snapshot)
    assert endpoint.workload.meshed is meshed
    assert (str(endpoint.workload.identity) if endpoint.workload.identity else None) == identity


def test_a_dns_entry_without_endpoints_is_found_under_its_own_host(words):
    snapshot = read(words, entry(words, resolution="DNS"))

    assert [endpoint.ip for endpoint in endpoints(snapshot)] == ["a.example"]


def test_a_selector_chooses_pods_and_workload_entries_of_the_namespace(words):
    chosen = {"app": "a"}
    machine = words.obj(
        "WorkloadEntry", "vm", "ns", spec={"address": "2.2.2.2", "labels": chosen, "serviceAccount": "vm"}
    )
    other = words.obj("WorkloadEntry", "vm", "elsewhere", spec={"address": "3.3.3.3", "labels": chosen})
    pod = words.pod("p", "10.0.0.1", chosen)

    snapshot = read(
        words,
        entry(words, resolution="STATIC", workloadSelector={"labels": chosen}),
        machine,
        other,
        pod,
        words.pod("q", "10.0.0.2"),
    )

    assert sorted(endpoint.ip for endpoint in endpoints(snapshot)) == ["10.0.0.1", "2.2.2.2"]


def test_what_a_cluster_declares_under_the_same_name_comes_first(words):
    taken = entry(words, hosts=["s.ns.svc.cluster.local"], resolution="STATIC", endpoints=[{"address": "1.1.1.1"}])

    snapshot = read(words, taken, words.service())

    [service] = snapshot.services.values()
    assert service.registry == "Kubernetes"
    assert endpoints(snapshot) == []


def test_a_resolution_that_is_not_done_is_told(words):
    snapshot = read(words, entry(words, resolution="DYNAMIC_DNS"))

    assert snapshot.services == {}
    assert [(issue.code, issue.field) for issue in snapshot.issues] == [("ISM0403", "spec.resolution")]
