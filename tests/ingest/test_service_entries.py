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

    snapshot = read(
        words,
        entry(
            words,
            resolution="STATIC",
            location="MESH_INTERNAL",
            addresses=["240.0.0.1", "10.0.0.0/8"],
            endpoints=found,
        ),
    )

    [service] = snapshot.services.values()
    assert (service.hostname, service.registry, service.resolution) == ("a.example", "External", Resolution.ENDPOINTS)
    assert service.ips_in("east") == ("240.0.0.1",)
    first, second = endpoints(snapshot)
    assert (first.ip, first.ports, first.weight, first.network) == ("1.1.1.1", (("http", 8080),), 3, "n1")
    assert str(first.workload.locality) == "eu/a"
    assert (second.ports, second.network) == ((("http", 9090),), "n2")


@pytest.mark.parametrize("host", ["*", "", "a\nb.example", f"{'x' * 250}.example"])
@pytest.mark.parametrize("resolution", ["STATIC", "NONE"])
def test_a_host_that_can_be_none_is_told_and_the_others_count(words, host, resolution):
    snapshot = read(words, entry(words, resolution=resolution, hosts=["a.example", host]))

    assert [service.hostname for service in snapshot.services.values()] == ["a.example"]
    [issue] = [each for each in snapshot.issues if each.code == "ISM0403"]
    assert issue.field == "spec.hosts[1]"


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
    assert [each.ip for each in endpoints(snapshot)] == ["1.1.1.1"]


def test_hosts_that_are_found_by_dns_do_not_answer_for_what_a_cluster_declares(words):
    named = entry(words, hosts=["s.ns.svc.cluster.local"], resolution="DNS", endpoints=[{"address": "vm.example.com"}])

    assert endpoints(read(words, named, words.service())) == []


def test_a_service_selects_workload_entries_beside_pods(words):
    service = words.service(selector={"app": "s"}, ports=[{"name": "http", "port": 80, "targetPort": "web"}])
    vm = words.obj(
        "WorkloadEntry", "vm", "ns", spec={"address": "1.1.1.1", "labels": {"app": "s"}, "ports": {"web": 8080}}
    )
    without = words.obj("WorkloadEntry", "vm2", "ns", spec={"address": "1.1.1.2", "labels": {"app": "s"}})
    other = words.obj("WorkloadEntry", "other", "ns", spec={"address": "1.1.1.3", "labels": {"app": "other"}})

    found = endpoints(read(words, service, vm, without, other))

    assert [(each.ip, each.ports) for each in found] == [("1.1.1.1", (("http", 8080),)), ("1.1.1.2", ())]


def test_workload_entries_of_a_discovered_cluster_are_chosen_by_entries_and_by_its_own_services(words):
    chosen = {"app": "s"}
    here = words.cluster(
        "east",
        words.network("n1"),
        entry(words, resolution="STATIC", workloadSelector={"labels": chosen}),
        words.service("t", selector=chosen),
    )
    vm = words.obj("WorkloadEntry", "vm", "ns", spec={"address": "2.2.2.2", "labels": chosen})
    there = words.cluster("west", words.network("n2"), vm, words.service(selector=chosen))

    snapshot = words.snapshot(here, there)

    found = {
        (key.hostname.split(".")[0], each.ip, each.cluster, each.network)
        for key, each_of in snapshot.endpoints.items()
        for each in each_of
    }
    assert found == {("a", "2.2.2.2", "west", "n2"), ("s", "2.2.2.2", "west", "n2")}


def test_a_resolution_that_is_not_done_is_told(words):
    snapshot = read(words, entry(words, resolution="GUESSING"))

    assert snapshot.services == {}
    assert [(issue.code, issue.field) for issue in snapshot.issues] == [("ISM0403", "spec.resolution")]


@pytest.mark.parametrize(
    ("location", "said", "network"),
    [
        ("MESH_INTERNAL", {}, "n1"),
        ("MESH_INTERNAL", {"network": "n2"}, "n2"),
        ("MESH_INTERNAL", {"labels": {"topology.istio.io/network": "n2"}}, "n2"),
        # Beyond the mesh is on no network of the mesh, unless it is said to be: everybody calls it directly.
        ("MESH_EXTERNAL", {}, ""),
        ("MESH_EXTERNAL", {"network": "n2"}, "n2"),
        ("MESH_EXTERNAL", {"labels": {"topology.istio.io/network": "n2"}}, "n2"),
    ],
)
def test_which_network_a_written_endpoint_is_on(words, location, said, network):
    found = [{"address": "1.1.1.1"} | said]

    [endpoint] = endpoints(read(words, entry(words, resolution="STATIC", location=location, endpoints=found)))

    assert endpoint.network == network


def chosen(words, *objects):
    return endpoints(
        read(words, entry(words, resolution="STATIC", workloadSelector={"labels": {"app": "a"}}), *objects)
    )


def test_a_chosen_workload_entry_has_its_own_ports_and_weight(words):
    spec = {"address": "2.2.2.2", "labels": {"app": "a"}, "ports": {"http": 9090}, "weight": 5}

    [endpoint] = chosen(words, words.obj("WorkloadEntry", "vm", "ns", spec=spec))

    assert (endpoint.ports, endpoint.weight) == ((("http", 9090),), 5)


@pytest.mark.parametrize(
    ("metadata", "status", "healths"),
    [
        ({}, {"podIP": "10.0.0.1"}, ["healthy"]),
        ({}, {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}, ["healthy"]),
        ({}, {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "False"}]}, ["unhealthy"]),
        ({}, {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "Unknown"}]}, ["unhealthy"]),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, {"podIP": "10.0.0.1"}, ["terminating"]),
        ({}, {"phase": "Pending"}, []),
        ({}, {"phase": "Succeeded", "podIP": "10.0.0.1"}, []),
        ({}, {"phase": "Failed", "podIP": "10.0.0.1"}, []),
    ],
)
def test_a_chosen_pod_answers_as_it_would_for_a_service(words, metadata, status, healths):
    pod = words.obj("Pod", "p", "ns", {"app": "a"}, status=status)
    pod["metadata"] |= metadata

    assert [endpoint.health for endpoint in chosen(words, pod)] == healths


def test_endpoints_that_differ_in_who_they_are_alone_do_not_disturb(words):
    """The same address twice is one; two without an address, behind a network's gateway, are two."""
    found = [
        {"address": "1.1.1.1"},
        {"address": "1.1.1.1", "serviceAccount": "vm"},
        {"network": "n2", "serviceAccount": "vm"},
        {"network": "n2"},
    ]

    seen = endpoints(read(words, entry(words, resolution="STATIC", location="MESH_INTERNAL", endpoints=found)))

    assert [(each.ip, each.workload.meshed) for each in seen] == [("", False), ("", True), ("1.1.1.1", True)]


@pytest.mark.parametrize(
    ("said", "resolution", "found"),
    [
        ("DNS_ROUND_ROBIN", Resolution.DNS_FIRST, ["one.example"]),
        ("DYNAMIC_DNS", Resolution.DNS_OF_REQUEST, []),
        ("DNS", Resolution.DNS, ["one.example", "two.example"]),
    ],
)
def test_how_hosts_are_looked_up(words, said, resolution, found):
    hosts = [{"address": "one.example"}, {"address": "two.example"}]

    snapshot = read(words, entry(words, resolution=said, endpoints=hosts))

    [service] = snapshot.services.values()
    assert service.resolution is resolution
    assert [each.ip for each in endpoints(snapshot)] == found


def test_ranges_of_addresses_stand_beside_single_ones(words):
    [ranges] = read(words, entry(words, addresses=["10.1.0.0/16", "nonsense"])).services.values()
    [single] = read(words, entry(words, addresses=["10.1.0.0/16", "10.2.0.1/32"])).services.values()

    assert (ranges.virtual_ips, ranges.address_ranges) == ((), ("10.1.0.0/16",))
    assert (single.ips_in("east"), single.address_ranges) == (("10.2.0.1",), ("10.1.0.0/16",))


def test_an_endpoint_at_a_socket_is_left_out_and_told(words):
    snapshot = read(
        words, entry(words, resolution="STATIC", endpoints=[{"address": "unix:///a"}, {"address": "1.1.1.1"}])
    )

    assert [each.ip for each in endpoints(snapshot)] == ["1.1.1.1"]
    [issue] = [each for each in snapshot.issues if each.code == "ISM0409"]
    assert issue.field == "spec.endpoints[0].address"
