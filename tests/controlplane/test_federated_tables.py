"""Laws over what is served while two meshes change what they let each other have: kept current equals computed anew; nothing else moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from two_meshes import SHOP, OneMesh, export, imported, meshes, peer

from isthmus.controlplane.tables import Tables
from isthmus.discovery.view import view_for
from isthmus.envoy.compile import compile_outbound, compile_view
from isthmus.model.federation import HeardPeer
from isthmus.model.names import MeshId
from isthmus.model.topology import ImportState, Standing
from isthmus.model.views import Proxy

PEER = MeshId("mesh-b")
CALLERS = st.lists(st.sampled_from(["sample/client", "sample/*", "*", "other/x"]), max_size=2)
NAMES = st.lists(st.sampled_from(["sample/hello", "sample/secret", "sample/*", "sample/none"]), unique=True, max_size=2)

mesh_peers = st.builds(
    lambda exports, callers, identities, imports, to: peer(
        "b",
        exports={"services": [export(name, *callers) for name in exports], "identities": identities},
        imports={"services": [imported(name, *to) for name in imports]},
    ),
    NAMES,
    CALLERS,
    CALLERS,
    NAMES,
    st.lists(st.sampled_from(["sample", "other", "*"]), max_size=2),
)
offered = meshes("b", objects=SHOP)["b"]
offered.objects.append(peer("a", exports={"services": [export("sample/*", "*")], "identities": ["*"]}))
OFFERS = offered.offers_to(MeshId("mesh-a"))
heard = st.none() | st.builds(
    lambda kept, with_gateways, with_callers, standing: HeardPeer(
        state=ImportState.LIVE if standing is Standing.FULL else ImportState.STALE,
        stale_since="" if standing is Standing.FULL else "2026-01-01T00:00:00+00:00",
        standing=standing,
        offers=replace(
            OFFERS,
            services=OFFERS.services[:kept],
            gateways=OFFERS.gateways if with_gateways else (),
            identities=OFFERS.identities if with_callers else (),
        ),
    ),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    st.sampled_from(Standing),
)
steps = st.lists(st.tuples(st.none() | mesh_peers, heard), min_size=1, max_size=4)


def here(said: dict[str, Any] | None, news: HeardPeer | None) -> OneMesh:
    mesh = meshes("a", objects=SHOP)["a"]
    mesh.objects += [said] if said else []
    mesh.heard = {PEER: news} if news else {}
    return mesh


def proxies() -> list[Proxy]:
    mesh = here(None, None)
    gateway = mesh.view("gw.istio-system", "10.0.0.50", kind="router", LABELS={"istio": "eastwestgateway"})
    return [
        mesh.view("client.sample").proxy,
        mesh.view("client.other").proxy,
        mesh.view("hello-1.sample", "10.0.0.1").proxy,
        gateway.proxy,
    ]


def versions(resources: Any) -> dict[str, dict[str, str]]:
    return {
        kind: {name: found.version for name, found in each.items()} for kind, each in resources.by_type.items() if each
    }


def anew(proxy: Proxy, mesh: OneMesh) -> dict[str, dict[str, str]]:
    view = view_for(proxy, mesh.snapshot())
    return versions(compile_view(view, compile_outbound(view.outbound)))


@given(steps)
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
def test_what_is_kept_current_equals_what_is_computed_anew(history) -> None:
    kept = Tables()
    for proxy in proxies():
        kept.connect(proxy)

    for said, news in history:
        mesh = here(said, news)
        kept.learn(mesh.snapshot())
        for _ in kept.settling():
            pass
        for proxy in proxies():
            assert versions(kept.resources(proxy)) == anew(proxy, mesh)


@given(mesh_peers, heard)
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
def test_what_is_local_stays_as_it_is_whatever_is_agreed_with_others(said, news) -> None:
    """But for names of the mesh that are new, and for what is asked of guests."""
    for proxy in proxies():
        before, after = anew(proxy, here(None, None)), anew(proxy, here(said, news))
        for kind, found in before.items():
            for name, version in found.items():
                if "ClusterLoadAssignment" in kind or name.startswith(("outbound|", "outbound_.")):
                    assert after[kind].get(name) == version
