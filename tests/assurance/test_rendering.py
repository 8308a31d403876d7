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
        "east: Service sample/bad: Expected `array`, got `int` - at `$.spec.ports`",
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
