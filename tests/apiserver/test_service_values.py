"""Values of EndpointSlices: most are told to be right all at once, and that way says what a close look at each says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.apiserver import service_values

ADDRESSES = st.sampled_from(
    ("10.244.13.201", "255.255.255.255", "127.0.0.1", "224.0.0.5", "010.0.0.1", "1.2.3", "10.0.0.1\n", "::1", "2001:db8::1", "a.example", "")
)  # fmt: skip
TEXTS = st.sampled_from((None, "", "node-1", "a.b.example", "Node", "a..b", "http\n", "x" * 254))
ENDPOINTS = st.fixed_dictionaries(
    {},
    optional={
        "addresses": st.none() | st.lists(ADDRESSES, max_size=3) | st.just(["10.0.0.1"] * 101),
        "nodeName": TEXTS,
        "hostname": TEXTS,
        "hints": st.sampled_from((None, {}, {"forZones": [{"name": "a b"}]})),
    },
)
PORTS = st.fixed_dictionaries({}, optional={"name": TEXTS, "protocol": TEXTS | st.just("UDP"), "appProtocol": TEXTS})


@given(st.lists(ENDPOINTS, max_size=3))
def test_what_is_usual_has_no_fault_in_a_close_look(endpoints):
    if service_values._are_usual(endpoints):
        assert not list(service_values._endpoints("IPv4", endpoints))


@given(PORTS)
def test_a_usual_port_is_one_without_a_fault(port):
    assert service_values._is_usual_port(port) is not any(service_values._port("ports[0]", port))


def test_one_wrong_endpoint_among_right_ones_is_told_by_its_place():
    right = {"addresses": ["10.0.0.1"], "nodeName": "node-1"}
    wrong = [right, {"addresses": ["10.0.0.2", "127.0.0.1"]}, right | {"nodeName": "Node"}]

    found = list(service_values.endpoint_slice({"addressType": "IPv4", "endpoints": wrong}))

    assert [fault.field for fault in found] == ["endpoints[1].addresses[1]", "endpoints[2].nodeName"]
