"""Network gateways get other addresses, more addresses, one that somebody else has: proxies have what they would be given from scratch."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from small_meshes import Mesh

from isthmus.assurance.scenario import scenario_of
from isthmus.discovery.view import view_for
from isthmus.envoy.compile import compile_outbound, compile_view
from isthmus.envoy.resources import ENDPOINTS

OWN, OTHERS, OF_AN_ENDPOINT = "172.30.1.1", "172.30.0.1", "10.0.1.1"
addresses = st.lists(st.sampled_from([OWN, "172.30.1.2", OTHERS, OF_AN_ENDPOINT, "fd00::1"]), max_size=3, unique=True)
more = st.dictionaries(st.integers(1, 3), st.integers(0, 2))
"""Endpoints beside the first one, of services in the west."""


def happens(mesh: Mesh, ips: list[str], endpoints: dict[int, int]) -> None:
    mesh.find(1, "Service", "gw")["status"]["loadBalancer"]["ingress"] = [{"ip": ip} for ip in ips]
    for number, count in endpoints.items():
        found = mesh.find(1, "EndpointSlice", f"s{number}-x")["endpoints"]
        found[1:] = [found[0] | {"addresses": [f"10.1.{number}.{2 + index}"]} for index in range(count)]


def from_scratch(mesh: Mesh) -> list[dict[str, bytes]]:
    snapshot = scenario_of(mesh.document).snapshot()
    views = [view_for(proxy, snapshot) for proxy in mesh.proxies]
    return [
        {
            name: each.body
            for name, each in compile_view(view, compile_outbound(view.outbound)).of_type(ENDPOINTS).items()
        }
        for view in views
    ]


def kept(mesh: Mesh) -> list[dict[str, bytes]]:
    found = [mesh.kept.resources(proxy) for proxy in mesh.proxies]
    return [
        {name: each.body for name, each in resources.of_type(ENDPOINTS).items()} for resources in found if resources
    ]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(addresses, more), min_size=1, max_size=5))
def test_whatever_addresses_gateways_have_endpoints_are_those_from_scratch(history):
    mesh = Mesh(3)
    for ips, endpoints in history:
        happens(mesh, ips, endpoints)
        mesh.settle()
        assert kept(mesh) == from_scratch(mesh)


def test_a_gateway_that_moves_to_an_endpoints_address_and_away_again():
    """There, its services are put together whole: each address is written once."""
    mesh = Mesh(3)
    happens(mesh, [OF_AN_ENDPOINT], {})
    assert mesh.settle()["whole"]
    assert kept(mesh) == from_scratch(mesh)

    happens(mesh, [OWN], {})
    ran = mesh.settle()

    assert "told" not in ran
    assert kept(mesh) == from_scratch(mesh)
