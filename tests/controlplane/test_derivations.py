"""What is kept current equals what would be computed anew, and no more is computed than has to be."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import generated_meshes
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.assurance.rendering import node_of, proxy_in
from isthmus.assurance.scenario import Scenario, scenario_of
from isthmus.controlplane.tables import Tables
from isthmus.discovery.view import view_for
from isthmus.envoy.compile import compile_outbound, compile_view
from isthmus.model.views import Proxy

DOCUMENT = yaml.safe_load((Path(__file__).parents[1] / "assurance" / "two-shores.yaml").read_text())
OBJECTS = [(cluster, index) for cluster in (0, 1) for index in range(len(DOCUMENT["clusters"][cluster]["objects"]))]


REPORTING = yaml.safe_load("""
extensionProviders:
- {name: traces, zipkin: {service: helloworld.sample, port: 5000}}
- {name: lines, envoyFileAccessLog: {path: /dev/stdout}}
""")
RULES = list(
    yaml.safe_load_all("""
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: mesh, namespace: istio-system}
spec: {accessLogging: [{providers: [{name: lines}]}], tracing: [{providers: [{name: traces}]}]}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: client, namespace: sample}
spec: {selector: {matchLabels: {app: client}}, accessLogging: [{disabled: true}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: client, namespace: sample}
spec:
  workloadSelector: {labels: {app: client}}
  configPatches:
  - {applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: 3s}}}
  - {applyTo: HTTP_ROUTE, patch: {operation: MERGE, value: {route: {timeout: 3s}}}}
""")
)


@pytest.mark.parametrize("kept_rules", [(0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)])
def test_reports_and_patches_are_kept_current_too(proxies, kept_rules):
    """Rules come one after the other, and go again."""
    kept = Tables()
    for proxy in proxies:
        kept.connect(proxy)
    steps = [kept_rules[:count] for count in range(len(kept_rules) + 1)]

    for rules in [*steps, *reversed(steps)]:
        east, west = DOCUMENT["clusters"]
        changed = east | {"objects": [*east["objects"], *(RULES[index] for index in rules)]}
        snapshot = scenario_of(DOCUMENT | {"meshConfig": REPORTING, "clusters": [changed, west]}).snapshot()
        kept.learn(snapshot)
        settle(kept)

        for proxy in proxies:
            view = view_for(proxy, snapshot)
            assert plain(kept.resources(proxy)) == plain(compile_view(view, compile_outbound(view.outbound)))


def scenario(without: frozenset = frozenset()) -> Scenario:
    clusters = [
        cluster | {"objects": [obj for index, obj in enumerate(cluster["objects"]) if (number, index) not in without]}
        for number, cluster in enumerate(DOCUMENT["clusters"])
    ]
    return scenario_of(DOCUMENT | {"clusters": clusters})


@pytest.fixture(scope="module")
def proxies() -> list[Proxy]:
    whole = scenario()
    names = [("sidecar/client-0.sample", "east"), ("sidecar/v1-0.sample", "east"), ("sidecar/v2-0.sample", "west")]
    return [proxy_in(whole, node_of(whole, *name)) for name in names]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=30
)
@given(st.lists(st.frozensets(st.sampled_from(OBJECTS), max_size=4), min_size=1, max_size=5), st.data())
def test_after_any_changes_every_proxy_has_what_it_would_be_given_from_scratch(proxies, history, data):
    kept = Tables()
    kept.learn(scenario().snapshot())
    connected: set[Proxy] = set()

    for without in history:
        for proxy in data.draw(st.sets(st.sampled_from(proxies))):
            (kept.disconnect if proxy in connected else kept.connect)(proxy)
            connected ^= {proxy}
        snapshot = scenario(without).snapshot()
        kept.learn(snapshot)
        settle(kept)

        for proxy in connected:
            view = view_for(proxy, snapshot)
            assert plain(kept.resources(proxy)) == plain(compile_view(view, compile_outbound(view.outbound)))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    generated_meshes.histories,
    st.lists(st.one_of(generated_meshes.changes, generated_meshes.callers, st.none()), max_size=25),
)
def test_incremental_is_from_scratch_whatever_happens_in_whatever_mesh(before, events):
    """Objects come, change and go in two clusters, proxies connect (or, the second time, leave); None is a moment to settle."""
    world, kept, connected = generated_meshes.World(before), Tables(), {}
    kept.learn(world.snapshot())
    for event in [*events, None]:
        match event:
            case None:
                snapshot = world.snapshot()
                kept.learn(snapshot)
                settle(kept)
                for proxy in connected.values():
                    view = view_for(proxy, snapshot)
                    assert plain(kept.resources(proxy)) == plain(compile_view(view, compile_outbound(view.outbound)))
            case (str(), dict()) if str(event) in connected:
                kept.disconnect(connected.pop(str(event)))
            case (str(), dict()):
                proxy = connected[str(event)] = world.proxy(event)
                kept.connect(proxy)
            case _:
                world.happens(*event)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    generated_meshes.histories,
    st.lists(generated_meshes.callers, min_size=1, max_size=4),
    st.lists(st.tuples(generated_meshes.changes, st.integers(0, 40)), max_size=12),
)
def test_what_is_learned_while_something_settles_is_from_scratch_in_the_end(before, callers, events):
    """Each time a number of slices are settled, and then there is a newer snapshot."""
    world, kept = generated_meshes.World(before), Tables()
    kept.learn(world.snapshot())
    proxies = [world.proxy(caller) for caller in callers]
    for proxy in proxies:
        kept.connect(proxy)
    for change, slices in events:
        for _ in islice(kept.settling(), slices):
            pass
        kept.changed()
        world.happens(*change)
        kept.learn(world.snapshot())
    settle(kept)

    snapshot = world.snapshot()
    for proxy in proxies:
        view = view_for(proxy, snapshot)
        assert plain(kept.resources(proxy)) == plain(compile_view(view, compile_outbound(view.outbound)))


def test_proxies_of_one_scope_share_what_was_computed_once(proxies):
    kept = Tables()
    kept.learn(scenario().snapshot())
    east = [proxy for proxy in proxies if proxy.cluster == "east"]
    for proxy in east:
        kept.connect(proxy)

    settle(kept)

    computed = {summary.name: summary.computed for summary in summaries(kept)}
    assert len({proxy.scope for proxy in east}) == 1
    assert computed["frame"] == 1
    assert computed["own resources"] == 2


def test_an_equal_snapshot_changes_nobody(proxies):
    kept = Tables()
    kept.learn(scenario().snapshot())
    for proxy in proxies:
        kept.connect(proxy)
    assert set(settle(kept)) == set(proxies)

    kept.learn(scenario().snapshot())

    assert settle(kept) == {}


def settle(kept: Tables) -> dict:
    for _ in kept.settling():
        pass
    return kept.changed()


def plain(resources) -> dict:
    """Whichever way it is looked at."""
    found = {kind: dict(found) for kind, found in resources.by_type.items()}
    assert {kind: dict(resources.whole(kind)) for kind in found} == found
    assert {kind: len(resources.of_type(kind)) for kind in found} == {kind: len(each) for kind, each in found.items()}
    for kind, each in found.items():
        assert resources.versions(kind) == {name: resource.version for name, resource in each.items()}
    return found


def summaries(kept: Tables):
    from isthmus.incremental.describe import summaries as of

    return of(kept.derivations.graph)
