"""Services of type ExternalName: other names for services of the mesh."""

from __future__ import annotations

import pytest

from isthmus.discovery.view import outbound_view
from isthmus.envoy.routes import named
from isthmus.model.names import ClusterId, Namespace, NetworkId
from isthmus.model.topology import Locality
from isthmus.model.views import ProxyKind, Scope


def alias(words, name, to, namespace="shop"):
    return words.obj("Service", name, namespace, spec={"type": "ExternalName", "externalName": to})


def names(words, *objects, namespace="ns"):
    """By which a caller in a namespace may ask for s.ns, beside its own."""
    snapshot = words.snapshot(words.cluster("east", words.service(), *objects))
    scope = Scope(
        kind=ProxyKind.SIDECAR,
        cluster=ClusterId("east"),
        network=NetworkId(""),
        namespace=Namespace(namespace),
        locality=Locality(),
    )
    upstreams = outbound_view(scope, snapshot).upstreams
    [found] = named(upstreams, scope, "cluster.local")
    return [
        domain
        for domain in found.domains_from(scope.namespace)
        if not domain.startswith(("s.", "10.")) and domain != "s"
    ]


def test_a_service_answers_under_its_other_name(words):
    other = alias(words, "old", "s.ns.svc.cluster.local")

    assert names(words, other) == ["old.shop.svc.cluster.local", "old.shop.svc", "old.shop"]
    assert names(words, other, namespace="shop")[-1] == "old"


def test_names_may_lead_to_names_and_in_a_circle_lead_nowhere(words):
    chain = [alias(words, "older", "old.shop.svc.cluster.local"), alias(words, "old", "S.ns.svc.cluster.local.")]
    circle = [alias(words, "a", "b.shop.svc.cluster.local"), alias(words, "b", "a.shop.svc.cluster.local")]

    found = names(words, *chain, *circle)

    assert [name for name in found if name.endswith(".local")] == [
        "old.shop.svc.cluster.local",
        "older.shop.svc.cluster.local",
    ]


@pytest.mark.parametrize("target", ["db.example.com", "nobody.ns.svc.cluster.local", ""])
def test_a_name_for_something_outside_is_left_to_dns(words, target):
    assert names(words, alias(words, "db", target)) == []


def test_a_service_of_its_own_in_another_cluster_is_no_other_name(words):
    east = words.cluster("east", words.service(), alias(words, "t", "s.ns.svc.cluster.local", "ns"))
    west = words.cluster("west", words.service("t"))

    assert all(not service.aliases for service in words.snapshot(east, west).services.values())


def test_the_first_cluster_says_where_a_name_leads(words):
    east = words.cluster("east", words.service(), words.service("t"), alias(words, "x", "t.ns.svc.cluster.local"))
    west = words.cluster("west", alias(words, "x", "s.ns.svc.cluster.local"))

    found = {service.name: service.aliases for service in words.snapshot(west, east).services.values()}

    assert found == {"s": (), "t": (("shop", "x"),)}


def test_the_proxys_dns_answers_the_other_name_with_the_services_own_addresses(words):
    """Also where the service is in another cluster, whose name the cluster's own DNS does not know."""
    east = words.cluster("east", alias(words, "old", "s.ns.svc.cluster.local"))
    snapshot = words.snapshot(east, words.cluster("west", words.service()))
    scope = Scope(
        kind=ProxyKind.SIDECAR,
        cluster=ClusterId("east"),
        network=NetworkId(""),
        namespace=Namespace("shop"),
        locality=Locality(),
    )

    found = {each.host: each for each in outbound_view(scope, snapshot).names}

    old, own = found["old.shop.svc.cluster.local"], found["s.ns.svc.cluster.local"]
    assert (old.ips, old.short_name, old.namespace) == (own.ips, "old", "shop")
