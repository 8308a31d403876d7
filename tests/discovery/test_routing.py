"""Which routes requests take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.discovery.routing import http_routes, rules_held
from isthmus.discovery.sight import sight_of
from isthmus.model.names import Hostname, Namespace
from isthmus.model.routing import (
    MESH,
    Comparison,
    Handling,
    HeaderChanges,
    HttpRule,
    RequestMatch,
    Target,
    TextMatch,
    VirtualService,
)
from isthmus.model.views import ProxyKind

HOST = Hostname("s.ns.svc.cluster.local")
PLAIN = HeaderChanges()
HEADER = RequestMatch(headers=(("x-user", TextMatch(Comparison.EXACT, "a")),))


def rule(*targets, matches=(), name=""):
    weighted = tuple((Target(host=HOST, subset=subset), weight, PLAIN) for subset, weight in targets)
    return HttpRule(name=name, matches=matches, targets=weighted, mirrors=(), handling=Handling())


def virtual(*rules, name="vs", namespace="ns", hosts=(HOST,), created="1", export=()):
    return VirtualService(
        created=created, namespace=Namespace(namespace), name=name, hosts=hosts, rules=rules, export_to=export
    )


def routes(words, *found, namespace="ns"):
    snapshot = replace(words.Mesh().snapshot(), virtual_services=found)
    [service] = snapshot.services.values()
    scope = replace(words.scope("n1", "c1"), namespace=Namespace(namespace))
    held = rules_held(service.hostname, scope, sight_of(scope, snapshot), snapshot)
    return http_routes(held, scope, service.ports[0].number, snapshot, MESH) if held else ()


def clusters(found):
    return [[(name.split("|")[2], weight) for name, weight, _ in route.clusters] for route in found]


def test_without_a_virtual_service_there_is_nothing_to_say(words):
    assert routes(words) == ()


def test_rules_are_tried_in_order_and_what_stands_behind_a_catch_all_is_never_asked(words):
    found = routes(words, virtual(rule(("v2", 1), matches=(HEADER,)), rule(("v1", 9), ("v2", 1)), rule(("v3", 1))))

    assert clusters(found) == [[("v2", 1)], [("v1", 9), ("v2", 1)]]


@pytest.mark.parametrize("kind", [ProxyKind.SIDECAR, ProxyKind.PROXYLESS])
def test_a_match_by_claims_holds_at_gateways_and_never_in_the_mesh(words, kind):
    """A client that does not look at claims would send everybody there."""
    claim = (("@request.auth.claims.group", TextMatch(Comparison.EXACT, "a")),)
    by_claims = [
        rule((subset, 1), matches=(RequestMatch(**{field: claim}),))
        for subset, field in (("v2", "headers"), ("v3", "without_headers"))
    ]
    found = replace(virtual(*by_claims, rule(("v1", 1))), gateways=(MESH, "ns/g"))
    snapshot = words.Mesh().snapshot()

    at_gateway = http_routes(found, words.scope("n1", "c1"), 80, snapshot, "ns/g")

    in_mesh = http_routes(found, replace(words.scope("n1", "c1"), kind=kind), 80, snapshot, MESH)

    assert clusters(at_gateway) == [[("v2", 1)], [("v3", 1)], [("v1", 1)]]
    assert clusters(in_mesh) == [[("v1", 1)]]


def test_a_target_without_a_port_means_the_services_only_one(words):
    [route] = routes(words, virtual(rule(("v1", 1))))

    assert route.clusters[0][0] == "outbound|80|v1|s.ns.svc.cluster.local"


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ([virtual(rule(("old", 1)), created="1"), virtual(rule(("young", 1)), created="2")], "old"),
        (
            [virtual(rule(("wide", 1)), hosts=("*.ns.svc.cluster.local",)), virtual(rule(("exact", 1)), created="2")],
            "exact",
        ),
        (
            [virtual(rule(("private", 1)), namespace="other", export=(".",)), virtual(rule(("open", 1)), created="2")],
            "open",
        ),
    ],
)
def test_which_virtual_service_holds(words, found, name):
    assert clusters(routes(words, *sorted(found, key=lambda each: each.created))) == [[(name, 1)]]


def test_matches_for_other_ports_and_other_callers_do_not_count(words):
    matches = (RequestMatch(port=81), RequestMatch(source_namespace="other"))

    assert clusters(routes(words, virtual(rule(("v2", 1), matches=matches), rule(("v1", 1))))) == [[("v1", 1)]]
