"""Which rule a caller's proxy follows, and what a subset is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.discovery.destination_rules import rule_for
from isthmus.discovery.view import outbound_view
from isthmus.model.names import Hostname, Namespace
from isthmus.model.traffic import (
    Balancing,
    ClientTls,
    ConnectionPool,
    DestinationRule,
    Subset,
    TlsOrigination,
    TrafficPolicy,
)
from isthmus.model.views import ProxyKind

HOST = "s.ns.svc.cluster.local"


def rule(name="r", namespace="ns", host=HOST, created="1", export=(), subsets=(), ports=(), **policy):
    return DestinationRule(
        created=created,
        namespace=Namespace(namespace),
        name=name,
        host=Hostname(host),
        policy=TrafficPolicy(**policy),
        port_policies=ports,
        subsets=subsets,
        export_to=export,
    )


def subset(name, *labels, **policy):
    return Subset(name=name, labels=labels, policy=TrafficPolicy(**policy))


def found(words, namespace, *rules):
    snapshot = replace(words.Mesh().snapshot(), destination_rules=rules)
    [service] = snapshot.services.values()
    return rule_for(replace(words.scope("n1", "c1"), namespace=Namespace(namespace)), service, snapshot)


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        ([], None),
        ([rule("service's")], "service's"),
        ([rule("service's"), rule("caller's", "caller")], "caller's"),
        ([rule("service's"), rule("root", "istio-system")], "service's"),
        ([rule("root", "istio-system", "*.svc.cluster.local")], "root"),
        ([rule("elsewhere", "other")], None),
        ([rule("private", export=(".",))], None),
        ([rule("exported", export=("caller",))], "exported"),
        ([rule("wide", host="*.ns.svc.cluster.local"), rule("exact", created="2")], "exact"),
        ([rule("young", created="2"), rule("old", created="1")], "old"),
    ],
)
def test_the_nearest_most_specific_and_oldest_rule_holds(words, rules, name):
    chosen = found(words, "caller", *rules)

    assert (chosen.name if chosen else None) == name


def secured(name, **fields):
    """A rule that is made of a BackendTLSPolicy; its SNI is its name."""
    origination = TlsOrigination(mutual=False, sni=name, names=(name,))
    return replace(rule(name, export=("*",), **fields), backend_tls=((0, origination),))


def test_a_gateway_starts_the_tls_of_the_policy_that_is_for_the_service_itself(words):
    others = (
        secured("elsewhere", namespace="other", created="0"),
        secured("wider", host="*.ns.svc.cluster.local", created="0"),
    )
    snapshot = words.Mesh().snapshot()
    [service] = snapshot.services.values()
    gateway = replace(words.scope("n1", "c1"), kind=ProxyKind.ROUTER)

    def seen(*rules):
        return rule_for(gateway, service, replace(snapshot, destination_rules=rules))

    assert seen(*others) is None
    assert seen(*others, secured("own")).policy_for(80, None).origination.sni == "own"
    both = seen(*others, rule("written", balancing=Balancing.RANDOM), secured("own"))
    assert (both.name, both.policy.balancing, both.policy_for(80, None).origination.sni) == (
        "written",
        Balancing.RANDOM,
        "own",
    )


def test_rules_for_one_host_are_one_rule_with_all_their_subsets(words):
    first = rule("a", subsets=(subset("v1"),), balancing=Balancing.RANDOM)
    second = rule("b", created="2", subsets=(subset("v1", ("x", "y")), subset("v2")), balancing=Balancing.ROUND_ROBIN)

    merged = found(words, "caller", second, first)

    assert merged.policy.balancing is Balancing.RANDOM
    assert [(each.name, each.labels) for each in merged.subsets] == [("v1", ()), ("v2", ())]


def test_a_subset_completes_its_policy_and_a_port_replaces_it():
    pool = ConnectionPool(max_connections=7)
    one = subset("v1", balancing=Balancing.RANDOM)
    said = rule(pool=pool, subsets=(one,), ports=((81, TrafficPolicy(tls=ClientTls.DISABLE)),))

    assert said.policy_for(80, one) == TrafficPolicy(pool=pool, balancing=Balancing.RANDOM)
    assert said.policy_for(81, None) == TrafficPolicy(tls=ClientTls.DISABLE)


def upstream(words, mesh, said, scope, name):
    snapshot = replace(mesh.snapshot(), destination_rules=(said,))
    return next(each for each in outbound_view(scope, snapshot).upstreams if each.subset == name)


def test_a_subset_has_the_endpoints_with_its_labels_and_says_why_others_are_not_in_it(words):
    mesh = words.Mesh()
    mesh.gateways = [words.gateway("n2", "c2", "2.2.2.2")]
    mesh.endpoints = [words.endpoint("10.0.0.1", "n1", "c1"), words.endpoint("20.0.0.1", "n2", "c2")]
    said = rule(subsets=(subset("west", ("topology.istio.io/cluster", "c2")),))

    seen = words.transcript(upstream(words, mesh, said, words.scope("n1", "c1"), "west"))

    assert seen == ["2.2.2.2:15443 1 gateway of n2, for 20.0.0.1", "10.0.0.1 - not_in_subset"]


@pytest.mark.parametrize(
    ("tls", "seen"),
    [
        (None, ["10.0.0.1:8080 1 direct", "10.0.0.2:8080 1 direct, plaintext", "2.2.2.2:15443 1 gateway of n2, for 20.0.0.1"]),
        (ClientTls.DISABLE, ["10.0.0.1:8080 1 direct, plaintext", "10.0.0.2:8080 1 direct, plaintext", "20.0.0.1 - mutual_tls_disabled"]),
        (ClientTls.ISTIO_MUTUAL, ["10.0.0.1:8080 1 direct", "10.0.0.2:8080 1 direct", "2.2.2.2:15443 1 gateway of n2, for 20.0.0.1"]),
    ],
)  # fmt: skip
def test_what_callers_are_told_about_tls(words, tls, seen):
    mesh = words.Mesh()
    mesh.gateways = [words.gateway("n2", "c2", "2.2.2.2")]
    mesh.endpoints = [
        words.endpoint("10.0.0.1", "n1", "c1"),
        words.endpoint("10.0.0.2", "n1", "c1", "bare"),
        words.endpoint("20.0.0.1", "n2", "c2"),
    ]

    assert words.transcript(upstream(words, mesh, rule(tls=tls), words.scope("n1", "c1"), "")) == seen
