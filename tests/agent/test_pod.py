"""What a Pod's environment says becomes one proxy, or one line that says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isthmus.agent.pod import BadPod, PodPaths, PodTexts, labels_of, pod_agent
from isthmus.agent.proxy import node_of
from isthmus.dns.client import resolver_of

PATHS = PodPaths(
    token=Path("/t"), roots=Path("/r"), labels=Path("/l"), directory=Path("/d"), resolv_conf=Path("/etc/resolv.conf")
)
TOLD = {"POD_NAME": "web-1", "POD_NAMESPACE": "shop", "INSTANCE_IP": "10.0.0.7"}
NOTHING = PodTexts(labels="", resolv_conf="")


def agent(role="sidecar", texts=NOTHING, **environment):
    return pod_agent(role, TOLD | environment, PATHS, texts)


def test_what_the_injector_writes_is_understood():
    found = agent(
        PROXY_CONFIG='{"discoveryAddress":"istiod-canary.istio-system.svc:15012","concurrency":4,"terminationDrainDuration":"7s"}',
        SERVICE_ACCOUNT="web",
        TRUST_DOMAIN="mesh.example",
        ISTIO_META_CLUSTER_ID="east",
        ISTIO_META_MESH_ID="m",
        ISTIO_META_NETWORK="n1",
        ISTIO_META_NODE_NAME="node-a",
        ISTIO_META_WORKLOAD_NAME="web",
        ISTIO_META_INTERCEPTION_MODE="REDIRECT",
        ISTIO_META_REQUESTED_NETWORK_VIEW="n1,n2",
        ISTIO_METAJSON_EXTRA='{"PLATFORM_METADATA":{"zone":"a"}}',
        texts=PodTexts(labels='app="web"\n', resolv_conf="nameserver 10.96.0.10\nsearch shop.svc.cluster.local\n"),
    )

    assert found.settings.control_planes == ["istiod-canary.istio-system.svc:15012"]
    assert found.settings.control_plane_name == "istiod-canary.istio-system.svc"
    assert (found.settings.cluster_id, found.settings.mesh_id, found.settings.trust_domain) == (
        "east",
        "m",
        "mesh.example",
    )
    proxy = found.proxy
    assert (proxy.kind, proxy.namespace, proxy.name, proxy.service_account) == ("sidecar", "shop", "web-1", "web")
    assert (proxy.network, proxy.network_view, proxy.node, proxy.workload_name) == ("n1", "n1,n2", "node-a", "web")
    assert (proxy.labels, proxy.name_servers, proxy.search_domains) == (
        {"app": "web"},
        ["10.96.0.10"],
        ["shop.svc.cluster.local"],
    )
    assert proxy.metadata == {"INTERCEPTION_MODE": "REDIRECT", "PLATFORM_METADATA": {"zone": "a"}}
    assert (proxy.dns_capture, proxy.marks_sockets, proxy.concurrency, found.drain_seconds) == (True, False, 4, 7.0)


def test_several_control_planes_are_tried_in_order():
    found = agent(PROXY_CONFIG='{"discoveryAddress":"10.0.0.1:15012, 10.0.0.2:15012"}', PILOT_SAN="istiod.mesh.svc")

    assert found.settings.control_planes == ["10.0.0.1:15012", "10.0.0.2:15012"]
    assert found.settings.control_plane_name == "istiod.mesh.svc"


def test_an_address_is_no_name_to_check_a_certificate_against():
    assert (
        agent(PROXY_CONFIG='{"discoveryAddress":"10.0.0.1:15012"}').settings.control_plane_name
        == "istiod.istio-system.svc"
    )


def test_the_pods_network_label_wins():
    texts = PodTexts(labels='topology.istio.io/network="n9"', resolv_conf="")

    assert agent(texts=texts, ISTIO_META_NETWORK="n1").proxy.network == "n9"


def test_a_gateway_captures_no_dns():
    assert not agent("router").proxy.dns_capture
    assert not agent(ISTIO_META_DNS_CAPTURE="false").proxy.dns_capture


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POD_NAME", ""),
        ("INSTANCE_IP", ""),
        ("PROXY_CONFIG", "{"),
        ("PROXY_CONFIG", "[]"),
        ("PROXY_CONFIG", '{"discoveryAddress":"nowhere"}'),
        ("PROXY_CONFIG", '{"discoveryAddress":":15012"}'),
        ("PROXY_CONFIG", '{"concurrency":-1}'),
        ("PROXY_CONFIG", '{"concurrency":true}'),
        ("PROXY_CONFIG", '{"terminationDrainDuration":"soon"}'),
        ("SECRET_TTL", "1 day"),
        ("ISTIO_META_DNS_CAPTURE", "perhaps"),
        ("ISTIO_METAJSON_X", "nope"),
        ("ISTIO_METAJSON_LABELS", '{"app":7}'),
        ("ISTIO_KUBE_APP_PROBERS", "nope"),
    ],
)
def test_what_cannot_be_used_is_named(name, value):
    with pytest.raises(BadPod, match=name):
        agent(**{name: value})


def test_labels_are_read_as_the_downward_api_writes_them():
    values = {"app": "web", "a.b/c": 'with "quotes" and \\', "empty": ""}
    text = "".join(f"{key}={json.dumps(value)}\n" for key, value in values.items())

    assert labels_of(text) == values


def test_labels_of_the_environment_are_labels_of_the_proxy_and_count_more_than_those_of_its_pod():
    proxy = agent(
        texts=PodTexts(labels='app="web"\nversion="v1"\n', resolv_conf=""),
        ISTIO_METAJSON_LABELS='{"version":"v2","topology.istio.io/network":"n2"}',
        ISTIO_META_NETWORK="n1",
    ).proxy

    assert proxy.labels == {"app": "web", "version": "v2", "topology.istio.io/network": "n2"}
    assert proxy.network == "n2"
    assert proxy.metadata == {}, "they are nothing else beside"


@pytest.mark.parametrize("text", ["app", 'app="', "app=web", '="x"'])
def test_a_file_that_is_not_of_labels_is_refused(text):
    with pytest.raises(BadPod, match="label"):
        labels_of(text)


def test_of_several_search_lines_the_last_counts():
    text = "# comment\nnameserver 1.1.1.1\nnameserver fd00::a\nsearch a b\noptions ndots:5\nsearch c d\nsearch\n"

    assert resolver_of(text) == (["1.1.1.1", "fd00::a"], ["c", "d"])


def test_a_grpc_application_has_no_envoy_and_asks_its_clusters_dns():
    proxy = agent(GRPC_XDS_BOOTSTRAP="/etc/istio/proxy/grpc-bootstrap.json").proxy

    assert proxy.grpc_bootstrap == "/etc/istio/proxy/grpc-bootstrap.json"
    assert not proxy.dns_capture


@pytest.mark.parametrize(
    ("told", "ips", "families"),
    [
        ({}, "10.0.0.7", (4,)),
        ({"INSTANCE_IPS": "10.0.0.7,fd00::7"}, "10.0.0.7,fd00::7", (4, 6)),
        ({"INSTANCE_IP": "fd00::7", "INSTANCE_IPS": "fd00::7"}, "fd00::7", (6,)),
    ],
)
def test_both_addresses_of_a_pod_are_its_proxys(told, ips, families):
    found = agent(**told)

    assert node_of(found.proxy, found.settings)["metadata"]["INSTANCE_IPS"] == ips
    assert found.proxy.families == families
