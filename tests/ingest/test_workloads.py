"""What a Pod and its Node say about a workload."""

from __future__ import annotations

import pytest

from isthmus.api.registry import KINDS, decode
from isthmus.ingest.workloads import workload_of
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, NetworkId
from isthmus.model.topology import ClusterNetwork

REGION, ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"
BETA_REGION, BETA_ZONE = "failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone"
SUBZONE, LOCALITY = "topology.istio.io/subzone", "topology.istio.io/locality"


def read(words, pod_labels=None, node_labels=None, **fields):
    pod = decode(KINDS["Pod"], words.obj("Pod", "p", "ns", pod_labels, **fields))
    node = None if node_labels is None else decode(KINDS["Node"], words.obj("Node", "n", "", node_labels))
    return workload_of(
        pod,
        node,
        cluster=ClusterId("east"),
        network=ClusterNetwork(default=NetworkId("n1")),
        trust_domain=TrustDomain("td.example"),
    )


@pytest.mark.parametrize(
    ("of_pod", "of_node", "place"),
    [
        ({}, None, ""),
        ({}, {}, ""),
        ({}, {REGION: "eu", ZONE: "a"}, "eu/a"),
        ({}, {REGION: "eu", ZONE: "a", SUBZONE: "rack1"}, "eu/a/rack1"),
        ({}, {BETA_REGION: "eu", BETA_ZONE: "a"}, "eu/a"),
        ({}, {REGION: "eu", BETA_REGION: "us", ZONE: "a"}, "eu/a"),
        ({LOCALITY: "us.b.rack2"}, {REGION: "eu", ZONE: "a"}, "us/b/rack2"),
        ({LOCALITY: "us/b"}, None, "us/b"),
        ({"istio-locality": "us.b"}, {REGION: "eu"}, "us/b"),
        ({LOCALITY: "us", "istio-locality": "asia"}, None, "us"),
        # Only Nodes tell places by these labels.
        ({REGION: "us"}, {REGION: "eu"}, "eu"),
    ],
)
def test_where_it_is(words, of_pod, of_node, place):
    assert str(read(words, of_pod, of_node).locality) == place


@pytest.mark.parametrize(
    ("of_pod", "network"),
    [({}, "n1"), ({"topology.istio.io/network": "n9"}, "n9")],
)
def test_which_network_it_is_on(words, of_pod, network):
    assert read(words, of_pod).network == network


@pytest.mark.parametrize(
    ("tls_mode", "meshed"),
    [(None, False), ("istio", True), ("disabled", False), ("", False)],
)
def test_whether_a_proxy_is_beside_it(words, tls_mode, meshed):
    assert read(words, {} if tls_mode is None else {"security.istio.io/tlsMode": tls_mode}).meshed is meshed


@pytest.mark.parametrize(
    ("spec", "identity"),
    [
        ({}, "spiffe://td.example/ns/ns/sa/default"),
        ({"serviceAccountName": "web"}, "spiffe://td.example/ns/ns/sa/web"),
    ],
)
def test_who_it_is(words, spec, identity):
    assert str(read(words, spec=spec).identity) == identity


@pytest.mark.parametrize(
    ("status", "ips"),
    [
        ({}, ()),
        ({"podIP": "10.0.0.1"}, ("10.0.0.1",)),
        ({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}, ("10.0.0.1", "fd00::1")),
    ],
)
def test_its_addresses(words, status, ips):
    assert read(words, status=status).ips == ips


@pytest.mark.parametrize(
    ("name", "controller", "template_hash", "owner"),
    [
        ("web-5d4f-abcde", ("ReplicaSet", "web-5d4f"), "5d4f", "web"),
        ("web-5d4f-abcde", ("ReplicaSet", "web-5d4f"), "", "web-5d4f"),
        ("web-5d4f-abcde", None, "5d4f", "web"),
        ("db-0", ("StatefulSet", "db"), "", "db"),
        ("nightly-28812345-x7k2p", ("Job", "nightly-28812345"), "", "nightly"),
        ("once-x7k2p", ("Job", "once"), "", "once"),
        ("alone", None, "", ""),
    ],
)
def test_what_a_pod_is_one_of(name, controller, template_hash, owner):
    labels = {"pod-template-hash": template_hash} if template_hash else {}
    references = [{"kind": controller[0], "name": controller[1], "controller": True}] if controller else []
    metadata = {"name": name, "namespace": "ns", "labels": labels, "ownerReferences": references}

    pod = decode(KINDS["Pod"], {"metadata": metadata})

    found = workload_of(
        pod,
        None,
        cluster=ClusterId("east"),
        network=ClusterNetwork(default=NetworkId("n1")),
        trust_domain=TrustDomain("td.example"),
    )
    assert found.owner == owner
