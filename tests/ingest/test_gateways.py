"""Which Services stand for a network's gateway, at which addresses, and what is told where they do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.ingest.cache import IngestCache
from isthmus.ingest.inputs import Besides
from isthmus.ingest.mesh_networks import mesh_networks_of
from isthmus.ingest.snapshot import read
from isthmus.model.identity import TrustDomain
from isthmus.model.names import MeshId
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ResolvedName

SETTINGS = MeshSettings(mesh=MeshId("m"), trust_domain=TrustDomain("cluster.local"))

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


NAME = "lb.example.com"


def entered_at(words, known, *objects):
    found = read(
        replace(SETTINGS, networks=mesh_networks_of({"networks": {"n2": {"gateways": [{"address": NAME, "port": 443}]}}})),
        [words.cluster("east", *objects)], "east", IngestCache(), Besides(resolved=known),
    )  # fmt: skip
    gateways = [f"{each.network} {each}" for ways in found.snapshot.gateways.values() for each in ways]
    told = sorted(issue.subject.name for issue in found.snapshot.issues if issue.code == "ISM0105")
    return gateways, sorted(found.host_names), told


def test_a_host_name_means_its_addresses_wherever_it_is_said(words):
    service = words.service(
        "gw", labels={"topology.istio.io/network": "n1"}, ports=[PORT], **balanced({"hostname": "LB.example.com."})
    )
    listener = {"name": "tls", "port": 15443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}
    elsewhere = words.obj(
        "Gateway", "far", labels={"topology.istio.io/network": "n3"},
        apiVersion="gateway.networking.k8s.io/v1",
        spec={"gatewayClassName": "istio-remote", "addresses": [{"type": "Hostname", "value": NAME}], "listeners": [listener]},
    )  # fmt: skip

    known = {NAME: ResolvedName(addresses=("192.0.2.1", "2001:db8::1"))}

    assert entered_at(words, known, service, elsewhere) == (
        ["n1 192.0.2.1:15443", "n1 2001:db8::1:15443", "n2 192.0.2.1:443", "n2 2001:db8::1:443",
         "n3 192.0.2.1:15443", "n3 2001:db8::1:15443"],
        [NAME],
        [],
    )  # fmt: skip
    assert entered_at(words, {}, service, elsewhere) == ([], [NAME], ["n1", "n2", "n3"])
    assert entered_at(words, None, service, elsewhere) == ([], [NAME], ["n1", "n2", "n3"])
