"""Endpoints: spliced by hand, and the same bytes that protobuf would write; each address once, with its whole weight."""

from __future__ import annotations

from itertools import count

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.discovery.stand_ins import stand_ins
from isthmus.envoy.endpoints import Sketch, document_of_endpoints, endpoints_of, sketch_of
from isthmus.envoy.expand import as_json
from isthmus.envoy.resources import ENDPOINTS
from isthmus.model.topology import Locality
from isthmus.model.workloads import Health

_HEALTHY = 0


def lines(resource) -> list[str]:
    """`priority locality(weight): address:port xweight`."""
    assignment = endpoint_pb2.ClusterLoadAssignment.FromString(resource.body)
    found = []
    for group in assignment.endpoints:
        place = f"{group.priority} {group.locality.region}/{group.locality.zone}({group.load_balancing_weight.value}): "
        hosts = []
        for each in group.lb_endpoints:
            where = each.endpoint.address.socket_address
            hosts.append(f"{where.address}:{where.port_value} x{each.load_balancing_weight.value}")
        found.append(place + ", ".join(hosts))
    return found


@pytest.fixture
def hello(mesh):
    return mesh.service("helloworld", mesh.port(5000))


def test_spliced_bytes_are_what_protobuf_writes(mesh, hello):
    here = mesh.endpoint(hello, "10.10.0.10", health=Health.UNHEALTHY)
    plain = mesh.endpoint(hello, "10.10.0.11", meshed=False)
    there = mesh.endpoint(hello, "10.10.0.10", cluster=mesh.WEST, network=mesh.N2)
    groups = (
        mesh.group(mesh.direct(here, 5000), mesh.direct(plain, 5000, 300)),
        mesh.group(mesh.through("172.30.2.1", there, weight=70_000), zone="b", priority=1),
    )

    resource = endpoints_of(mesh.upstream(hello, hello.ports[0], *groups).groups, "outbound|5000||h")

    understood = endpoint_pb2.ClusterLoadAssignment.FromString(resource.body)
    assert understood.SerializeToString(deterministic=True) == resource.body
    first, second = understood.endpoints[0].lb_endpoints
    gateway = understood.endpoints[1].lb_endpoints[0]
    assert first.health_status == 2
    assert first.metadata.filter_metadata["envoy.transport_socket_match"]["tlsMode"] == "istio"
    assert first.metadata.filter_metadata["istio"]["workload"] == "helloworld-10;sample;helloworld;v1;east"
    assert (second.health_status, "envoy.transport_socket_match" in second.metadata.filter_metadata) == (
        _HEALTHY,
        False,
    )
    assert gateway.metadata.filter_metadata["istio"]["workload"] == ";;;;west"
    assert gateway.metadata.filter_metadata["envoy.transport_socket_match"]["tlsMode"] == "istio"


def test_no_destination_is_an_empty_answer(mesh, hello):
    resource = endpoints_of(mesh.upstream(hello, hello.ports[0]).groups, "outbound|5000||h")

    assert resource.body == endpoint_pb2.ClusterLoadAssignment(cluster_name="outbound|5000||h").SerializeToString()


def test_gateway_of_two_localities_is_written_once_with_the_weight_of_both(mesh, hello):
    in_a = mesh.endpoint(hello, "10.10.0.10", cluster=mesh.WEST, network=mesh.N2)
    in_b = mesh.endpoint(hello, "10.10.0.11", cluster=mesh.WEST, network=mesh.N2, zone="b")
    here = mesh.endpoint(hello, "10.10.0.12", zone="b")
    groups = (
        mesh.group(mesh.through("172.30.2.1", in_a, weight=2)),
        mesh.group(mesh.direct(here, 5000), mesh.through("172.30.2.1", in_b, weight=3), zone="b"),
    )

    resource = endpoints_of(mesh.upstream(hello, hello.ports[0], *groups).groups, "h")

    assert lines(resource) == ["0 eu/a(5): 172.30.2.1:15443 x5", "0 eu/b(1): 10.10.0.12:5000 x1"]


def test_gateway_of_two_priorities_keeps_the_better_one(mesh, hello):
    near = mesh.endpoint(hello, "10.10.0.10", cluster=mesh.WEST, network=mesh.N2)
    far = mesh.endpoint(hello, "10.10.0.11", cluster=mesh.WEST, network=mesh.N2, zone="b")
    groups = (
        mesh.group(mesh.through("172.30.2.1", far, weight=3), priority=1),
        mesh.group(mesh.through("172.30.2.1", near, weight=2), zone="b"),
    )

    resource = endpoints_of(mesh.upstream(hello, hello.ports[0], *groups).groups, "h")

    assert lines(resource) == ["0 eu/b(2): 172.30.2.1:15443 x2"]


def test_one_address_with_two_ports_is_two_hosts(mesh, hello):
    here = mesh.endpoint(hello, "10.10.0.10")
    group = mesh.group(mesh.direct(here, 5000), mesh.direct(here, 5001))

    resource = endpoints_of(mesh.upstream(hello, hello.ports[0], group).groups, "h")

    assert lines(resource) == ["0 eu/a(2): 10.10.0.10:5000 x1, 10.10.0.10:5001 x1"]


def test_weights_are_never_zero_and_never_more_than_envoy_takes(mesh, hello):
    first, second, third = (mesh.endpoint(hello, f"10.10.0.{n}") for n in (1, 2, 3))
    group = mesh.group(
        mesh.direct(first, 5000, 2**32 - 1), mesh.direct(second, 5000, 2**32 - 1), mesh.direct(third, 5000, 0)
    )

    resource = endpoints_of(mesh.upstream(hello, hello.ports[0], group).groups, "h")

    written = endpoint_pb2.ClusterLoadAssignment.FromString(resource.body).endpoints[0]
    weights = [each.load_balancing_weight.value for each in written.lb_endpoints]
    assert weights[0] == weights[1] > 2**30
    assert weights[2] == 1
    assert sum(weights) == written.load_balancing_weight.value < 2**32


def test_unknown_locality_and_names_beyond_ascii_are_spliced_alike(mesh, hello):
    here = mesh.endpoint(hello, "fd00::1", labels={"app": "grüße" * 60})
    group = mesh.LocalityGroup(locality=Locality(), priority=0, weight=1, destinations=(mesh.direct(here, 5000),))

    resource = endpoints_of(mesh.upstream(hello, hello.ports[0], group).groups, "h")

    understood = endpoint_pb2.ClusterLoadAssignment.FromString(resource.body)
    assert understood.SerializeToString(deterministic=True) == resource.body
    assert lines(resource) == ["0 /(1): fd00::1:5000 x1"]


def test_a_share_that_a_place_was_given_is_kept(mesh, hello):
    group = mesh.group(mesh.direct(mesh.endpoint(hello, "10.0.0.1"), 5000, 3))
    shared = mesh.replace(group, weight=700)

    found = [endpoints_of(mesh.upstream(hello, hello.ports[0], each).groups, "x") for each in (group, shared)]

    assert [line.partition("(")[2].partition(")")[0] for each in found for line in lines(each)] == ["3", "700"]


@pytest.mark.parametrize("health", Health)
@pytest.mark.parametrize("zone", ["", "b"])
@pytest.mark.parametrize("priority", [0, 2])
def test_what_people_read_is_what_is_sent(mesh, hello, health, zone, priority):
    here = mesh.endpoint(hello, "10.10.0.10", health=health)
    plain = mesh.endpoint(hello, "fd00::11", meshed=False)
    there = mesh.endpoint(hello, "10.10.0.10", cluster=mesh.WEST, network=mesh.N2)
    groups = (
        mesh.group(mesh.direct(here, 5000), mesh.direct(plain, 5000, 300), zone=zone),
        mesh.group(mesh.through("172.30.2.1", there, weight=70_000), zone="c", priority=priority),
    )

    for some in (groups, groups[:1], ()):
        assert document_of_endpoints(some, "h") == as_json(ENDPOINTS, endpoints_of(some, "h"))


ADDRESSES = ("172.30.2.1", "172.30.2.2", "10.10.0.200", "fd00::1")
"""The third may be an endpoint's, too."""
gateways = st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=4, unique=True)
weights = st.integers(0, 3) | st.just(70_000) | st.integers(0, 3) | st.just(2**32 - 2)
places = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 1),
        st.lists(st.tuples(st.sampled_from(["", "", "", "10.10.0.200"]), st.integers(0, 3)), max_size=3),
        st.dictionaries(st.integers(0, 2), weights, max_size=3),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda place: place[:2],
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gateways, places)
def test_addresses_that_are_put_in_afterwards_give_the_same_bytes(mesh, hello, addresses, drawn):
    """Whichever gateways there are, and whatever they have in common; or it is said that it takes more than addresses."""
    endpoint = mesh.endpoint(hello, "10.10.0.11")
    real = [mesh.through(address, endpoint).through for address in addresses]
    nobodys = stand_ins(real)
    numbers = count(20)

    def groups(chosen, endpoints):
        found = []
        for (zone, priority, _, behind, is_share), direct in zip(drawn, endpoints, strict=True):
            known = {chosen[number]: weight for number, weight in behind.items() if number < len(chosen)}
            through = [
                mesh.replace(mesh.through(to.address, endpoint, weight=known[to]), through=to) for to in sorted(known)
            ]
            group = mesh.group(*direct, *through, zone=zone, priority=priority)
            found.append(mesh.replace(group, weight=77) if is_share else group)
        return found

    endpoints = [
        [mesh.direct(mesh.endpoint(hello, ip or f"10.10.0.{next(numbers)}"), 15443, weight) for ip, weight in direct]
        for _, _, direct, _, _ in drawn
    ]
    whole = endpoints_of(groups(real, endpoints), "outbound|5000||h")
    found = sketch_of(groups(nobodys, endpoints), "outbound|5000||h")

    if isinstance(found, Sketch):
        direct = [to for some in endpoints for to in some]
        placed = found.at(dict(zip(nobodys, real, strict=True)))
        shared = "10.10.0.200" in addresses and any(to.address == "10.10.0.200" for to in direct)
        twice = len({to.address for to in direct}) < len(direct)
        large = any(
            weight > 2**31 for _, _, some, behind, _ in drawn for weight in [*behind.values(), *(w for _, w in some)]
        )
        assert placed == whole if placed else shared or twice or large
    else:
        assert found == whole


def test_whose_gateways_are_put_in(mesh, hello):
    there = mesh.endpoint(hello, "10.10.0.10", cluster=mesh.WEST, network=mesh.N2)
    found = sketch_of([mesh.group(mesh.through("172.30.2.1", there))], "outbound|5000||h")
    assert found.networks == {mesh.N2}
