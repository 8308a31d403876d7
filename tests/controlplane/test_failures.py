"""A mistake of Isthmus in what it computes for one host costs that host alone: proxies keep what they had of it, and everything else goes on."""

from __future__ import annotations

import pytest
from small_meshes import Mesh, of_service

from isthmus.assurance.scenario import scenario_of
from isthmus.controlplane import derivations
from isthmus.discovery.view import view_for
from isthmus.envoy.compile import compile_outbound, compile_view
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, ResourceSet

S1, S99 = "s1.shop.svc.cluster.local", "s99.shop.svc.cluster.local"


@pytest.fixture
def fails(monkeypatch):
    """Encoding the upstream of a host raises from now on."""

    def of(host: str) -> None:
        whole = derivations.cluster_for

        def fail(upstream, kind):
            if upstream.service.hostname == host:
                raise ZeroDivisionError(host)
            return whole(upstream, kind)

        monkeypatch.setattr(derivations, "cluster_for", fail)

    return of


def given(resources: ResourceSet) -> dict:
    return {kind: dict(resources.of_type(kind)) for kind in (CLUSTER, ENDPOINTS, LISTENER, ROUTES)}


def wanted(mesh: Mesh, proxy) -> dict:
    """Of the mesh as it is, from scratch."""
    view = view_for(proxy, scenario_of(mesh.document).snapshot())
    return given(compile_view(view, compile_outbound(view.outbound)))


def test_a_new_host_that_cannot_be_computed_is_left_out_and_others_that_come_with_it_are_there(fails):
    mesh = Mesh(6)
    fails(S99)
    mesh.put(0, *of_service(0, 98, "shop"))
    without = {proxy: wanted(mesh, proxy) for proxy in mesh.proxies}
    mesh.put(0, *of_service(0, 99, "shop"))

    mesh.settle()

    for proxy in mesh.proxies:
        assert given(mesh.kept.resources(proxy)) == without[proxy]


def test_a_host_that_cannot_be_computed_any_longer_stays_as_it_was_while_others_change(fails):
    mesh = Mesh(6)
    proxy = mesh.proxies[0]
    before = given(mesh.kept.resources(proxy))
    fails(S1)
    mesh.find(0, "DestinationRule", "s1")["spec"]["trafficPolicy"]["connectionPool"]["tcp"]["maxConnections"] = 2
    mesh.find(0, "VirtualService", "s3")["spec"] = mesh.virtual_service(seconds=2)["spec"]

    mesh.settle()

    after, whole = given(mesh.kept.resources(proxy)), wanted(mesh, proxy)
    name = f"outbound|80||{S1}"
    assert after[ROUTES] == whole[ROUTES] != before[ROUTES]
    assert after[CLUSTER][name] == before[CLUSTER][name] != whole[CLUSTER][name]


def test_the_failure_names_the_host(fails):
    mesh = Mesh(6)
    fails(S99)
    mesh.put(0, *of_service(0, 99, "shop"))

    mesh.settle()

    failures = mesh.kept.derivations.failures()
    assert {(each.what, each.about) for each in failures} == {("part", S99)}
    assert all(isinstance(each.error, ZeroDivisionError) for each in failures)
