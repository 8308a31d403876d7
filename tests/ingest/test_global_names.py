"""Names that follow identities, and what a change of their policies reads."""

from __future__ import annotations

import pytest

from isthmus.assurance.scenario import scenario_of
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.inputs import NOTHING_BESIDES
from isthmus.ingest.snapshot import read, with_rules

CODES = ("ISM0505", "ISM0506")
LABELS = {"app": "greeting", "identity": "greeting"}
OBJECTS = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "greeting", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "greeting"}, "ports": [{"name": "http", "port": 80}]},
    },
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "greeting", "namespace": "shop"},
        "spec": {"template": {"metadata": {"labels": LABELS}}},
    },
]
POLICY = {
    "apiVersion": "admiral.io/v1alpha1",
    "kind": "GlobalTrafficPolicy",
    "metadata": {"name": "greeting", "namespace": "shop", "labels": {"identity": "greeting"}},
    "spec": {"policy": [{"dnsPrefix": "far", "lbType": 1, "target": [{"region": "us", "weight": 100}]}]},
}


def scenario(*objects):
    return scenario_of(
        {"env": {"ISTHMUS_GLOBAL_NAMES": "global"}, "clusters": [{"id": "east", "objects": list(objects)}]}
    )


def reading_of(asked, cache=None):
    return read(asked.settings, asked.clusters, asked.config_cluster, cache or IngestCache())


def seen(*objects):
    """The global names that have endpoints to come, the hosts of rules, and what is told of whom."""
    snapshot = reading_of(scenario(*objects)).snapshot
    names = {key.hostname for key, each in snapshot.services.items() if each.behind}
    told = {(issue.code, issue.subject.kind): issue.what for issue in snapshot.issues if issue.code in CODES}
    return names, [rule.host for rule in snapshot.destination_rules], told


def deployment(**labels):
    return OBJECTS[1] | {"spec": {"template": {"metadata": {"labels": LABELS | labels}}}}


def policy(*said, **labels):
    metadata = POLICY["metadata"] | {"labels": {"identity": "greeting"} | labels}
    return POLICY | {"metadata": metadata, "spec": {"policy": list(said) or POLICY["spec"]["policy"]}}


def spread(prefix):
    return {"dnsPrefix": prefix, "lbType": 1, "target": [{"region": "us", "weight": 100}]}


def test_a_change_of_other_rules_reads_nothing_anew_and_keeps_what_policies_say():
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "greeting", "namespace": "shop"},
        "spec": {"host": "greeting", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
    }
    cache, before, after = IngestCache(), scenario(*OBJECTS, POLICY), scenario(*OBJECTS, POLICY, rule)
    reading = reading_of(before, cache)

    patched = with_rules(reading, after.settings, after.clusters[0], cache, NOTHING_BESIDES)

    assert patched is not None
    assert patched.snapshot == reading_of(after).snapshot
    assert [rule.host for rule in patched.snapshot.destination_rules] == [
        "greeting.shop.svc.cluster.local",
        "far.default.greeting.global",
    ]


def test_a_policys_own_name_goes_with_the_policy():
    """Which names there are depends on this rule, so it is not enough to read rules."""
    cache, before, after = IngestCache(), scenario(*OBJECTS, POLICY), scenario(*OBJECTS)
    reading = reading_of(before, cache)

    assert {key.hostname for key in reading.snapshot.services if key.hostname.endswith(".global")} == {
        "default.greeting.global",
        "far.default.greeting.global",
    }
    assert with_rules(reading, after.settings, after.clusters[0], cache, NOTHING_BESIDES) is None


@pytest.mark.parametrize("labels", [{"env": "*"}, {"identity": "a..b"}, {"identity": "x" * 64}, {"env": "-e"}])
def test_an_identity_or_environment_that_is_no_dns_name_makes_no_name_and_is_told(labels):
    names, _, told = seen(OBJECTS[0], deployment(**labels))

    assert not names
    assert "cannot be a DNS name" in told["ISM0506", "Deployment"]


def test_an_identity_may_have_dots():
    assert seen(OBJECTS[0], deployment(identity="greeting.shop"))[0] == {"default.greeting.shop.global"}


def test_a_prefix_that_is_no_dns_name_takes_the_policys_effect_and_is_told():
    names, rules, told = seen(*OBJECTS, policy(spread("*")))

    assert (names, rules) == ({"default.greeting.global"}, [])
    assert "*.default.greeting.global, which cannot be a DNS name" in told["ISM0505", "GlobalTrafficPolicy"]


@pytest.mark.parametrize("labels", [{"identity": "greetings"}, {"env": "stage"}])
def test_a_policy_for_what_no_deployment_is_is_told(labels):
    names, rules, told = seen(*OBJECTS, policy(**labels))

    assert (names, rules) == ({"default.greeting.global"}, [])
    assert "no Deployment that answers has the identity" in told["ISM0505", "GlobalTrafficPolicy"]


def test_two_entries_of_a_policy_for_one_name_are_told():
    names, rules, told = seen(*OBJECTS, policy(spread(""), spread("default")))

    assert (names, rules) == ({"default.greeting.global"}, [])
    what = told["ISM0505", "GlobalTrafficPolicy"]
    assert "spec.policy[1] is for default.greeting.global, as spec.policy[0] is" in what


def test_a_name_that_a_service_entry_has_is_the_entrys_and_has_no_rule_of_a_policy():
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "greeting", "namespace": "istio-system"},
        "spec": {
            "hosts": ["default.greeting.global"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": "192.0.2.1"}],
        },
    }

    names, rules, told = seen(*OBJECTS, policy(spread("")), entry)

    assert (names, rules) == (set(), [])
    assert "default.greeting.global is a ServiceEntry's in istio-system" in told["ISM0506", "Deployment"]
