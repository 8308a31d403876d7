"""Which Services stand for a network's gateway, at which addresses, and what is told where they do not."""

from __future__ import annotations

import pytest

PORT = {"name": "tls", "port": 15443}
OTHER = "networking.istio.io/gatewayPort"


def balanced(*ingress):
    return {"status": {"loadBalancer": {"ingress": list(ingress)}}}


@pytest.mark.parametrize(
    ("labels", "spec", "gateways", "codes"),
    [
        # No label, no gateway, and nothing to tell.
        (None, balanced({"ip": "1.1.1.1"}), [], []),
        ({}, balanced({"ip": "1.1.1.1"}), ["1.1.1.1:15443"], []),
        ({}, balanced({"ip": "1.1.1.2"}, {"ip": "1.1.1.1"}), ["1.1.1.1:15443", "1.1.1.2:15443"], []),
        ({}, {"externalIPs": ["2.2.2.2"]} | balanced({"ip": "1.1.1.1"}), ["1.1.1.1:15443", "2.2.2.2:15443"], []),
        ({}, {"externalIPs": ["1.1.1.1"]} | balanced({"ip": "1.1.1.1"}), ["1.1.1.1:15443"], []),
        ({}, balanced({"ip": "fd00::1"}), ["fd00::1:15443"], []),
        ({}, balanced({"hostname": "10.1.1.1"}), ["10.1.1.1:15443"], []),
        ({}, balanced({"hostname": "lb.example.com"}), [], ["ISM0105"]),
        ({}, balanced({"hostname": "lb.example.com"}, {"ip": "1.1.1.1"}), ["1.1.1.1:15443"], ["ISM0105"]),
        ({}, balanced(), [], ["ISM0104"]),
        ({}, {}, [], ["ISM0104"]),
        ({}, {"type": "NodePort"}, [], ["ISM0104"]),
        ({}, {"ports": [{"name": "https", "port": 443}]} | balanced({"ip": "1.1.1.1"}), [], ["ISM0103"]),
        ({OTHER: "443"}, {"ports": [PORT, {"name": "https", "port": 443}]} | balanced({"ip": "1.1.1.1"}), ["1.1.1.1:443"], []),
        ({OTHER: "444"}, balanced({"ip": "1.1.1.1"}), [], ["ISM0103"]),
        ({OTHER: "https"}, balanced({"ip": "1.1.1.1"}), [], ["ISM0103"]),
        ({OTHER: "²"}, balanced({"ip": "1.1.1.1"}), [], ["ISM0103"]),
    ],
)  # fmt: skip
def test_which_services_lead_into_a_network(words, labels, spec, gateways, codes):
    said = None if labels is None else {"topology.istio.io/network": "n1"} | labels
    service = words.service("gw", labels=said, **({"ports": [PORT]} | spec))

    snapshot = words.snapshot(words.cluster("east", service))

    assert [str(each) for found in snapshot.gateways.values() for each in found] == gateways
    assert [issue.code for issue in snapshot.issues] == codes


def exposure(words, *servers, **spec):
    gateway = words.obj("Gateway", "g", "istio-system", spec={"servers": list(servers)} | spec)
    return words.snapshot(words.cluster("east", gateway)).exposures


PASS = {"port": {"number": 15443}, "hosts": ["*.local"], "tls": {"mode": "AUTO_PASSTHROUGH"}}


@pytest.mark.parametrize(
    ("servers", "exposed"),
    [
        ([], []),
        ([PASS], [(15443, ("*.local",))]),
        ([PASS | {"tls": {"mode": "SIMPLE"}}], []),
        ([PASS | {"tls": {"mode": "PASSTHROUGH"}}], []),
        ([{"port": {"number": 80}, "hosts": ["*"]}], []),
        ([PASS, PASS | {"port": {"number": 444}, "hosts": ["ns/*"]}], [(444, ("ns/*",)), (15443, ("*.local",))]),
    ],
)
def test_only_what_is_passed_through_by_sni_is_exposed(words, servers, exposed):
    assert [(each.port, each.hosts) for each in exposure(words, *servers)] == exposed


def test_which_gateways_it_is_for(words):
    [found] = exposure(words, PASS, selector={"istio": "eastwestgateway"})

    assert found.selector == (("istio", "eastwestgateway"),)


def networked(words, name, network, *objects):
    labels = {"topology.istio.io/network": network} if network else {}
    return words.cluster(name, words.obj("Namespace", "istio-system", "", labels), words.service(), *objects)


@pytest.mark.parametrize(
    ("networks", "unreachable"),
    [
        (["n1"], []),
        (["n1", "n1"], []),
        (["n1", "n2"], ["n1", "n2"]),
        # An undeclared network is taken to be everybody's own.
        (["", "n2"], ["n2"]),
        (["", ""], []),
    ],
)
def test_networks_that_others_cannot_reach_are_told(words, networks, unreachable):
    clusters = [networked(words, f"c{i}", each, words.slice_("s", "10.0.0.1")) for i, each in enumerate(networks)]

    issues = words.snapshot(*clusters).issues

    assert [(issue.code, issue.subject.name) for issue in issues] == [("ISM0102", name) for name in unreachable]
