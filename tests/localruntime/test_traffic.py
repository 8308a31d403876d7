"""Which way requests went, by what the caller's Envoy counted."""

from __future__ import annotations

from collections import Counter

import pytest

from isthmus.localruntime.traffic import HELLOWORLD, Target, _way, _with_its_cluster, is_there, named


def cluster(name, network, ip, gateway):
    return {
        "id": name,
        "network": network,
        "pods": [{"name": f"hello-{name}", "ip": ip}],
        "gateways": [{"addresses": [gateway]}],
    }


STATUS = {
    "clusters": [
        cluster("east", "n1", "10.10.0.4", "172.30.1.1"),
        cluster("center", "n1", "10.10.0.5", "172.30.2.1"),
        cluster("west", "n2", "10.10.0.4", "172.30.3.1"),
    ],
    "machines": [{"name": "ledger", "cluster": "east", "namespace": "sample", "status": "Ready", "ip": "10.10.0.9"}],
}


@pytest.mark.parametrize(
    ("own", "answered", "counted", "way"),
    [
        ("east", "east", {"10.10.0.4:5000": 3, "172.30.3.1:15443": 2}, "direct 10.10.0.4:5000"),
        ("east", "center", {"10.10.0.5:5000": 3}, "direct 10.10.0.5:5000"),
        ("east", "west", {"10.10.0.4:5000": 3, "172.30.3.1:15443": 2}, "gateway of west 172.30.3.1:15443"),
        (
            "west",
            "east",
            {"172.30.1.1:15443": 2, "172.30.2.1:15443": 1},
            "gateway of east 172.30.1.1:15443 or gateway of center 172.30.2.1:15443",
        ),
        ("east", "east", {"10.10.0.4:5000": 7}, "unclear: {'10.10.0.4:5000': 7}"),
        ("east", "west", {"10.10.0.4:5000": 3}, "unclear: {'10.10.0.4:5000': 3}"),
    ],
)
def test_the_way(own, answered, counted, way):
    answer = {"cluster": answered, "pod": f"hello-{answered}"}

    assert _way(answer, 3, ways=Counter(counted), status=STATUS, own=own) == way


def test_a_machine_is_asked_directly_on_its_network():
    answer = {"cluster": "east", "pod": "ledger"}

    assert _way(answer, 3, ways=Counter({"10.10.0.9:5000": 3}), status=STATUS, own="center") == "direct 10.10.0.9:5000"


def test_a_machine_sends_requests_by_its_name():
    status = STATUS | {"clusters": [each | {"pods": []} for each in STATUS["clusters"]]}

    assert list(named(status, "ledger")) == [("east", "sample", "ledger")]
    assert list(named(status, "led")) == []


def test_a_gateway_may_stand_in_another_network_than_the_one_that_it_leads_to():
    west = STATUS["clusters"][2] | {"gateways": []}
    gateways = [{"addresses": ["172.30.1.1"]}, {"addresses": ["172.30.1.9"], "network": "n2"}]
    status = STATUS | {"clusters": [STATUS["clusters"][0] | {"gateways": gateways}, west]}
    answer = {"cluster": "west", "pod": "hello-west"}

    assert (
        _way(answer, 3, ways=Counter({"172.30.1.9:15443": 3}), status=status, own="east")
        == "gateway of east 172.30.1.9:15443"
    )


def test_who_does_not_say_where_he_is_is_where_his_pod_is():
    twice = STATUS["clusters"][2] | {"pods": STATUS["clusters"][0]["pods"]}

    assert _with_its_cluster({"pod": "hello-west"}, STATUS) == {"pod": "hello-west", "cluster": "west"}
    assert _with_its_cluster({"pod": "hello-west", "cluster": "vm"}, STATUS)["cluster"] == "vm"
    assert _with_its_cluster({"pod": "hello-east"}, {"clusters": [STATUS["clusters"][0], twice]}) == {
        "pod": "hello-east"
    }
    assert _with_its_cluster({"error": "refused"}, STATUS) == {"error": "refused"}


def test_where_nobody_of_the_name_runs_nobody_is_asked_unasked():
    pod = {"namespace": "sample", "labels": {"app": "greeting"}}
    status = {"clusters": [{"pods": []}, {"pods": [pod]}]}

    assert not is_there(status, HELLOWORLD)
    assert is_there(status, Target.of_service("greeting.sample", 80))
