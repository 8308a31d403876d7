"""What a proxy would be given, from a file alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import BadScenario, scenario_of
from isthmus.cli.envoy_judgement import verdict

SCENARIO = yaml.safe_load((Path(__file__).parent / "two-shores.yaml").read_text())
UPSTREAM = "outbound|5000||helloworld.sample.svc.cluster.local"


@pytest.fixture(scope="module")
def document():
    scenario = scenario_of(SCENARIO)
    return render(scenario, node_of(scenario, "sidecar/client-0.sample", "east"), explain=True)


def weights(document) -> dict[str, int]:
    [assignment] = [each for each in document["endpoints"] if each["clusterName"] == UPSTREAM]
    return {
        "{address}:{portValue}".format(**endpoint["endpoint"]["address"]["socketAddress"]): endpoint[
            "loadBalancingWeight"
        ]
        for group in assignment["endpoints"]
        for endpoint in group["lbEndpoints"]
    }


def test_its_own_network_directly_the_other_through_its_gateway(document):
    assert weights(document) == {"10.10.0.4:5000": 1, "172.30.2.1:15443": 1}


def test_what_is_left_out_says_why(document):
    [explained] = [each for each in document["explanation"] if each["cluster"] == UPSTREAM]

    assert [(left["workload"], left["reason"]) for left in explained["leftOut"]] == [("sample/bare-0", "not_meshed")]
    assert {(given["address"], given["way"]) for given in explained["given"]} == {
        ("10.10.0.4:5000", "direct"),
        ("172.30.2.1:15443", "through the gateway of network n2"),
    }


def test_every_resource_says_which_objects_it_was_made_from():
    text = (Path(__file__).parent / "explaining" / "shop.yaml").read_text()
    scenario = scenario_of(yaml.safe_load(text))

    web = render(scenario, node_of(scenario, "sidecar/web-1.shop", "east"), explain=True)["derivations"]
    cart = render(scenario, node_of(scenario, "sidecar/cart-1.shop", "east"), explain=True)["derivations"]

    assert web["clusters"]["outbound|80|v1|reviews.shop.svc.cluster.local"] == [
        "DestinationRule shop/reviews",
        "Service shop/reviews",
    ]
    assert web["listeners"]["10.97.0.2_9000"] == ["Service shop/reviews"]
    assert web["routes"]["80"] == [
        "Service bank/rates",
        "Service shop/cart",
        "Service shop/reviews",
        "Service shop/stock",
        "VirtualService shop/reviews",
    ]
    assert cart["listeners"]["virtualInbound"] == [
        "AuthorizationPolicy shop/cart",
        "AuthorizationPolicy shop/no-admin",
        "PeerAuthentication shop/strict",
        "Service cart.shop.svc.cluster.local",
    ]


def test_names_resolve_to_the_own_clusters_address(document):
    assert document["nameTable"]["table"]["helloworld.sample.svc.cluster.local"]["ips"] == ["10.97.0.33"]


def test_the_real_envoy_accepts_it(document):
    assert verdict(document) == ""


def test_the_same_input_gives_the_same_bytes(document):
    scenario = scenario_of(copy.deepcopy(SCENARIO))
    again = render(scenario, node_of(scenario, "sidecar/client-0.sample", "east"), explain=True)

    assert json.dumps(again) == json.dumps(document)


def test_an_object_that_cannot_be_read_is_named_and_others_count(document):
    changed = copy.deepcopy(SCENARIO)
    changed["clusters"][0]["objects"][:0] = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "bad", "namespace": "sample"},
            "spec": {"ports": 7},
        },
        {"apiVersion": "example.org/v1", "kind": "Odd", "metadata": {"name": "odd"}},
        "text",
    ]
    scenario = scenario_of(changed)

    found = render(scenario, node_of(scenario, "sidecar/client-0.sample", "east"))

    assert weights(found) == weights(document)
    assert [warning.partition(": left out")[0] for warning in found["warnings"]][:3] == [
        "east: Service sample/bad: Expected `array`, got `int` - at `spec.ports`",
        "east: Odd /odd: this version does not read example.org/v1 Odd",
        "east: object 2 has no metadata",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clusters": []}, "clusters: a scenario has at least one cluster"),
        ({"clusters": [{"objects": []}]}, "clusters[0].id: every cluster has an id, as a string"),
        ({"configCluster": "north"}, "configCluster: 'north' is not among the clusters"),
        ({"meshConfig": {"trustDomain": "a b"}}, "meshConfig.trustDomain"),
    ],
)
def test_a_scenario_that_cannot_be_used_is_refused(change, message):
    with pytest.raises(BadScenario, match=message.replace("[", r"\[")):
        scenario_of(SCENARIO | change)


@pytest.mark.parametrize("node_id", ["", "sidecar~10.0.0.1~x", "robot~1.2.3.4~a.b~b.svc.cluster.local"])
def test_a_node_that_says_too_little_is_refused(node_id):
    with pytest.raises(BadScenario, match="node: "):
        render(scenario_of(SCENARIO), {"id": node_id})


EVERY_RULE = yaml.safe_load((Path(__file__).parent / "every-rule.yaml").read_text())


@pytest.fixture(scope="module")
def every_rule():
    scenario = scenario_of(EVERY_RULE)
    return render(scenario, node_of(scenario, "sidecar/cart-1.shop", "east"))


def test_envoy_takes_one_of_every_rule(every_rule):
    assert every_rule["warnings"] == []
    assert verdict(every_rule) == ""


def test_what_no_service_is_goes_nowhere(every_rule):
    [outbound] = [each for each in every_rule["listeners"] if each["name"] == "virtualOutbound"]
    [on_80] = [each for each in every_rule["routes"] if each["name"] == "80"]

    assert outbound["defaultFilterChain"]["filters"][0]["typedConfig"]["cluster"] == "BlackHoleCluster"
    assert on_80["virtualHosts"][-1]["routes"][0]["directResponse"] == {"status": 502}


def test_hosts_that_only_a_virtual_service_knows_are_routed(every_rule):
    [on_80] = [each for each in every_rule["routes"] if each["name"] == "80"]
    hosts = {domain: host for host in on_80["virtualHosts"] for domain in host["domains"]}

    assert hosts["cart.example"]["routes"] == hosts["cart.shop.svc.cluster.local"]["routes"]
    assert [route["name"] for route in hosts["*.cart.example"]["routes"]] == ["cart.0", "cart.1", "cart.2", "default"]


def test_connections_are_shared_out_by_address_and_by_sni(every_rule):
    listeners = {each["name"]: each for each in every_rule["listeners"]}
    tcp = listeners["10.96.0.1_7000"]["defaultFilterChain"]["filters"][0]["typedConfig"]["weightedClusters"]["clusters"]
    [by_sni] = listeners["10.96.0.1_443"]["filterChains"]

    assert [(each["name"].split("|")[3], each["weight"]) for each in tcp] == [
        ("cart.shop.svc.cluster.local", 3),
        ("stock.shop.svc.cluster.local", 1),
    ]
    assert by_sni["filterChainMatch"]["serverNames"] == ["a.cart.example"]
    assert by_sni["filters"][0]["typedConfig"]["cluster"] == "outbound|7000||stock.shop.svc.cluster.local"


def test_a_sidecars_ports_lead_where_it_says(every_rule):
    clusters = {each["name"]: each for each in every_rule["clusters"] if each["name"].startswith("inbound|")}

    assert sorted(clusters) == ["inbound|7000||", "inbound|8080||"]
    to = [each["loadAssignment"]["endpoints"][0]["lbEndpoints"][0]["endpoint"]["address"] for each in clusters.values()]
    assert to == [{"pipe": {"path": "/run/app.sock"}}, {"socketAddress": {"address": "127.0.0.1", "portValue": 8081}}]


@pytest.fixture(scope="module")
def edge():
    scenario = scenario_of(EVERY_RULE)
    return render(scenario, node_of(scenario, "router/ingress-1.edge", "east"))


def test_envoy_takes_a_gateway_of_every_kind(edge):
    assert verdict(edge) == ""


def test_a_gateway_listens_where_its_service_sends_it_connections(edge):
    assert [each["name"] for each in edge["listeners"]] == [
        "0.0.0.0_8080", "0.0.0.0_8443", "0.0.0.0_9000", "0.0.0.0_9443"
    ]  # fmt: skip


def test_a_gateway_routes_the_hosts_that_its_servers_and_virtual_services_share(edge):
    tables = {each["name"]: {host["domains"][0]: host for host in each["virtualHosts"]} for each in edge["routes"]}

    assert sorted(tables["http.8080"]) == ["bank.example", "moved.example", "web.shop.example"]
    assert tables["http.8080"]["moved.example"]["requireTls"] == "ALL"
    assert [
        len(table["web.shop.example"]["routes"])
        for name, table in tables.items()
        if name != "https.443.mutual.edge.edge"
    ] == [2, 1, 1]
    assert sorted(tables["https.443.mutual.edge.edge"]) == ["bank.example"]


def test_a_gateway_tells_tls_apart_by_sni(edge):
    [https] = [each for each in edge["listeners"] if each["name"] == "0.0.0.0_8443"]
    seen = [
        (
            chain["filterChainMatch"]["serverNames"],
            "transportSocket" in chain,
            chain["filters"][-1]["name"].rpartition(".")[2],
        )
        for chain in https["filterChains"]
    ]

    assert seen == [
        (["*.shop.example"], True, "http_connection_manager"),
        (["bank.example"], True, "http_connection_manager"),
        (["raw.example"], False, "tcp_proxy"),
    ]


def test_requests_are_asked_in_order(every_rule):
    [inbound] = [each for each in every_rule["listeners"] if each["name"] == "virtualInbound"]
    [chain] = [each for each in inbound["filterChains"] if each["name"] == "0.0.0.0_8080"]
    manager = chain["filters"][-1]["typedConfig"]

    assert [each["name"].removeprefix("envoy.filters.http.") for each in manager["httpFilters"]] == [
        "rbac", "ext_authz", "jwt_authn", "rbac", "router"
    ]  # fmt: skip


def test_keys_that_no_service_of_the_mesh_has_come_from_where_they_are(every_rule):
    clusters = {each["name"]: each for each in every_rule["clusters"]}

    assert clusters["outbound|443||a.example"]["type"] == "STRICT_DNS"
    assert clusters["outbound|80||judge.shop.svc.cluster.local"]["type"] == "EDS"
