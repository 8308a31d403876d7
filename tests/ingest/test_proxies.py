"""What a node claims about itself, and what its cluster knows better."""

from __future__ import annotations

import pytest

from isthmus.ingest.proxies import BadClaims, placed, proxy_of
from isthmus.model.topology import Locality

NODE = "sidecar~10.0.0.9~client.ns~ns.svc.cluster.local"
ROUTER = "router~10.0.0.9~gateway.ns~ns.svc.cluster.local"
REGION, ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"


def read(node=NODE, locality="", **metadata):
    return proxy_of(node, metadata, Locality.parse(locality), None)


@pytest.mark.parametrize(
    ("node", "metadata", "wrong"),
    [
        ("", {}, "is not TYPE~IP~NAME.NAMESPACE~DOMAIN"),
        ("sidecar~10.0.0.9~client.ns", {}, "is not TYPE~IP~NAME.NAMESPACE~DOMAIN"),
        ("waypoint~10.0.0.9~client.ns~d", {}, "has type 'waypoint': use one of router, sidecar"),
        ("sidecar~10.0.0.9~client~d", {}, "does not name its Pod as NAME.NAMESPACE"),
        ("sidecar~10.0.0.9~.ns~d", {}, "does not name its Pod as NAME.NAMESPACE"),
        ("sidecar~10.0.0.9~client.~d", {}, "does not name its Pod as NAME.NAMESPACE"),
        ("sidecar~~client.ns~d", {}, "bad address"),
        ("sidecar~nowhere~client.ns~d", {}, "bad address"),
        (NODE, {"INSTANCE_IPS": "10.0.0.9,x"}, "bad address"),
        (NODE, {"CLUSTER_ID": 7}, "CLUSTER_ID is not a string"),
        (NODE, {"NETWORK": ["n1"]}, "NETWORK is not a string"),
        (NODE, {"LABELS": "app=x"}, "LABELS is not an object"),
        (ROUTER, {"PROXY_CONFIG": "{}"}, "PROXY_CONFIG is not an object"),
    ],
)
def test_claims_that_cannot_be_understood_are_refused_with_what_is_wrong(node, metadata, wrong):
    with pytest.raises(BadClaims) as refused:
        read(node, **metadata)

    assert wrong in str(refused.value)


@pytest.mark.parametrize(
    ("metadata", "what", "value"),
    [
        ({}, "cluster", "Kubernetes"),
        ({"CLUSTER_ID": "east"}, "cluster", "east"),
        ({}, "network", ""),
        ({"NETWORK": "n1"}, "network", "n1"),
        ({}, "namespace", "ns"),
        ({"NAMESPACE": "other"}, "namespace", "other"),
        ({}, "network_view", ()),
        ({"REQUESTED_NETWORK_VIEW": "n2, n1,"}, "network_view", ("n1", "n2")),
        ({}, "ip_families", (4,)),
        ({"INSTANCE_IPS": "fd00::1,10.0.0.9"}, "ip_families", (4, 6)),
        ({"INSTANCE_IPS": "fd00::1"}, "ip_families", (6,)),
        ({}, "trusts_in_one_bundle", False),
        # What every agent of Istio's says.
        ({"ENVOY_PROMETHEUS_PORT": 15090}, "trusts_in_one_bundle", True),
        # A sidecar's labels are not its scope's: proxies that differ in them share what they know.
        ({"LABELS": {"app": "x"}}, "labels", ()),
    ],
)
def test_what_its_view_depends_on(metadata, what, value):
    assert getattr(read(**metadata).scope, what) == value


@pytest.mark.parametrize(
    ("said", "captured"),
    [({}, False), ({"DNS_CAPTURE": "true"}, True), ({"DNS_CAPTURE": True}, True), ({"DNS_CAPTURE": "false"}, False)],
)
def test_whether_its_dns_is_captured(said, captured):
    assert read(**said).dns_capture is captured


def test_a_gateways_labels_are_part_of_its_scope():
    proxy = read("router~10.0.0.3~gw.istio-system~d", LABELS={"istio": "eastwestgateway"})

    assert proxy.scope.labels == proxy.labels == (("istio", "eastwestgateway"),)


@pytest.mark.parametrize(
    ("claimed", "of_pod", "of_node", "place"),
    [
        ("eu/a", None, None, "eu/a"),
        ("eu/a", {}, None, "eu/a"),
        ("", {}, {REGION: "eu", ZONE: "b"}, "eu/b"),
        ("eu/a", {}, {REGION: "eu", ZONE: "b"}, "eu/b"),
        # A Node that says nothing does not unsay what the agent knows.
        ("eu/a", {}, {}, "eu/a"),
        # The place of a client is found as that of an endpoint is.
        ("", {"topology.istio.io/locality": "us.c"}, {REGION: "eu", ZONE: "b"}, "us/c"),
        ("", {"istio-locality": "us.c"}, None, "us/c"),
        ("", {}, {"failure-domain.beta.kubernetes.io/region": "eu"}, "eu"),
    ],
)
def test_where_it_is(words, claimed, of_pod, of_node, place):
    objects = [] if of_pod is None else [words.pod("client", "10.0.0.9", of_pod, node="n")]
    objects += [] if of_node is None else [words.obj("Node", "n", "", of_node)]

    proxy = placed(read(locality=claimed), words.cluster("east", *objects).objects)

    assert str(proxy.scope.locality) == place


def test_the_labels_that_its_pod_has_now_count(words):
    claimed = read("router~10.0.0.3~gw.ns~d", LABELS={"old": "1"})

    proxy = placed(claimed, words.cluster("east", words.obj("Pod", "gw", "ns", {"new": "2"})).objects)

    assert proxy.labels == proxy.scope.labels == (("new", "2"),)


@pytest.mark.parametrize(
    ("claimed", "of_pod", "counts", "families"),
    [
        ("10.0.0.9", "10.0.0.9", ("10.0.0.9",), (4,)),
        ("10.0.0.1,10.0.0.9", "10.0.0.9", ("10.0.0.9",), (4,)),
        ("10.0.0.1", "10.0.0.9", ("10.0.0.9",), (4,)),
        ("10.0.0.1,fd00::1", "10.0.0.9", ("10.0.0.9",), (4,)),
        ("10.0.0.1", "", ("10.0.0.1",), (4,)),
        ("10.0.0.1", "nonsense", ("10.0.0.1",), (4,)),
    ],
)
def test_an_address_that_is_not_its_pods_counts_for_nothing(words, claimed, of_pod, counts, families):
    """A Pod without an address that can be read contradicts nobody."""
    pod = words.pod("client", of_pod)

    proxy = placed(read(INSTANCE_IPS=claimed), words.cluster("east", pod).objects)

    assert (proxy.ips, proxy.scope.ip_families) == (counts, families)


@pytest.mark.parametrize(("node", "trusted"), [(ROUTER, 2), (NODE, None)])
def test_a_gateway_says_how_many_proxies_before_it_are_trusted(node, trusted):
    proxy = read(node, PROXY_CONFIG={"gatewayTopology": {"numTrustedProxies": 2}})

    assert (proxy.scope.topology and proxy.scope.topology.trusted_proxies) == trusted
