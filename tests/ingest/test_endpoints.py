"""What EndpointSlices say: which workload answers for which service, and how it feels."""

from __future__ import annotations

import pytest

from isthmus.model.workloads import Health


def found(words, *objects):
    """The endpoints of the mesh's one service."""
    [endpoints] = words.snapshot(words.cluster("east", words.service(), *objects)).endpoints.values()
    return endpoints


def slice_(words, *endpoints, name="s-1", **fields):
    labels = {"kubernetes.io/service-name": "s"}
    said = {"addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": list(endpoints)} | fields
    return words.obj("EndpointSlice", name, labels=labels, **said)


def at(address, pod="", **conditions):
    target = {"targetRef": {"kind": "Pod", "name": pod}} if pod else {}
    return {"addresses": [address], "conditions": conditions} | target


@pytest.mark.parametrize(
    ("ready", "serving", "terminating", "health"),
    [
        (None, None, None, Health.HEALTHY),
        (True, True, False, Health.HEALTHY),
        (None, None, False, Health.HEALTHY),
        (False, False, False, Health.UNHEALTHY),
        (False, None, None, Health.UNHEALTHY),
        (False, True, True, Health.TERMINATING),
        (False, False, True, Health.TERMINATING),
        (None, None, True, Health.TERMINATING),
        # The Service publishes addresses that are not ready: it wants requests for Pods that shut down, too.
        (True, False, True, Health.HEALTHY),
    ],
)
def test_how_it_feels(words, ready, serving, terminating, health):
    said = {"ready": ready, "serving": serving, "terminating": terminating}
    conditions = {name: value for name, value in said.items() if value is not None}

    [endpoint] = found(words, slice_(words, at("10.0.0.1", **conditions)))

    assert endpoint.health is health


@pytest.mark.parametrize(
    ("fields", "addresses"),
    [
        ({}, ["10.0.0.1"]),
        ({"endpoints": None}, []),
        ({"endpoints": []}, []),
        ({"addressType": "FQDN", "endpoints": [{"addresses": ["db.example.com"]}]}, []),
        ({"ports": None}, ["10.0.0.1"]),
        ({"endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}]}, ["10.0.0.1", "10.0.0.2"]),
    ],
)
def test_which_addresses_a_slice_has(words, fields, addresses):
    assert [endpoint.ip for endpoint in found(words, slice_(words, at("10.0.0.1"), **fields))] == addresses


def test_a_slice_of_no_service_and_one_of_an_unknown_service_answer_for_nobody(words):
    stray = words.obj("EndpointSlice", "stray", addressType="IPv4", endpoints=[at("10.0.0.1")])
    unknown = words.slice_("x-1", "10.0.0.1", service="unknown")

    assert found(words, stray, unknown) == ()


def pod(words, name, ip, phase="Running"):
    said = words.pod(name, ip)
    said["status"]["phase"] = phase
    return said


@pytest.mark.parametrize(
    ("names", "workload"),
    [
        # As the endpoint names it, whatever the address.
        ({"pods": [("a", "Running")], "target": "a"}, "a"),
        ({"pods": [("a", "Running"), ("b", "Running")], "target": "b"}, "b"),
        # A Pod that is named but not there is nobody, even where another one has the address.
        ({"pods": [("b", "Running")], "target": "a"}, ""),
        # By address where no Pod is named.
        ({"pods": [("a", "Running")], "target": ""}, "a"),
        ({"pods": [], "target": ""}, ""),
        # A Pod that is over keeps its address in its status, but has it no more.
        ({"pods": [("a", "Running"), ("z", "Succeeded")], "target": ""}, "a"),
        ({"pods": [("a", "Running"), ("z", "Failed")], "target": ""}, "a"),
        ({"pods": [("z", "Succeeded")], "target": ""}, ""),
        # Pods on their Node's own network share its address: nobody knows which of them answers.
        ({"pods": [("a", "Running"), ("b", "Running")], "target": ""}, ""),
    ],
)
def test_which_workload_answers(words, names, workload):
    pods = [pod(words, name, "10.0.0.1", phase) for name, phase in names["pods"]]

    [endpoint] = found(words, slice_(words, at("10.0.0.1", names["target"])), *pods)

    assert endpoint.workload.name == workload


@pytest.mark.parametrize(
    ("one", "other", "kept"),
    [
        (at("10.0.0.1", "a", ready=False), at("10.0.0.1", "a", ready=True), ("a", Health.HEALTHY)),
        (at("10.0.0.1", "a", ready=False), at("10.0.0.1", "a", terminating=True), ("a", Health.UNHEALTHY)),
        # A known workload tells more than an unknown one.
        (at("10.0.0.1", "gone", ready=True), at("10.0.0.1", "a", ready=False), ("a", Health.UNHEALTHY)),
    ],
)
def test_one_address_in_two_slices_is_one_endpoint(words, one, other, kept):
    seen = [
        found(words, pod(words, "a", "10.0.0.1"), slice_(words, first), slice_(words, second, name="s-2"))
        for first, second in ((one, other), (other, one))
    ]

    assert [[(each.workload.name, each.health) for each in endpoints] for endpoints in seen] == [[kept], [kept]]


def test_a_pod_that_is_named_but_not_known_yet_takes_no_requests(words):
    """Its slice came first. In plaintext, which it may not take, would be wrong; and so would be TLS."""
    [endpoint] = found(words, slice_(words, at("10.0.0.1", "late", ready=True)))

    assert endpoint.health is Health.UNHEALTHY
