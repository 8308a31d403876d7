"""Laws of the compiler: equal views give equal bytes, nothing refers to what is not there, and changes stay where they belong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.envoy.compile import compile_outbound
from isthmus.envoy.expand import expanded
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, NAME_TABLE, ROUTES
from isthmus.model.services import Protocol
from isthmus.model.views import ProxyKind

BUILT_IN = {"PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"}


def mentioned(node, key: str) -> set[str]:
    """Every value of this key, anywhere in the JSON."""
    if isinstance(node, list):
        return set().union(*(mentioned(each, key) for each in node)) if node else set()
    if not isinstance(node, dict):
        return set()
    own = {node[key]} if isinstance(node.get(key), str) else set()
    return own.union(*(mentioned(each, key) for each in node.values()))


def mixed_view(mesh, ports, kind: ProxyKind):
    """Services a0, a1, … with these (number, protocol, cluster that declares, headless, endpoints)."""
    upstreams = []
    for index, (number, protocol, cluster, headless, count) in enumerate(ports):
        # Few addresses, so that some are contested.
        of = mesh.service(
            f"a{index}", mesh.port(number, protocol), vips={cluster: f"10.96.0.{index % 3}"}, headless=headless
        )
        here = [mesh.direct(mesh.endpoint(of, f"10.10.0.{n}", meshed=n % 2 == 0), number) for n in range(count)]
        there = mesh.endpoint(of, "10.10.0.1", cluster=mesh.WEST, network=mesh.N2)
        upstreams.append(
            mesh.upstream(of, of.ports[0], mesh.group(*here), mesh.group(mesh.through("172.30.2.1", there), zone="b"))
        )
    exposed = [(15443, each) for each in upstreams] if kind is ProxyKind.ROUTER else ()
    return mesh.outbound_view(*upstreams, seen_from=mesh.scope(kind), exposed=exposed)


@pytest.fixture(scope="module")
def any_ports():
    protocols = [each for each in Protocol if each is not Protocol.UDP]
    port = st.tuples(
        st.sampled_from([80, 443, 5000, 15001]),
        st.sampled_from(protocols),
        st.sampled_from(["east", "west"]),
        st.booleans(),
        st.integers(0, 3),
    )
    return st.lists(port, max_size=6)


def test_equal_views_give_equal_bytes_and_every_reference_is_there(mesh, any_ports):
    @settings(max_examples=60, deadline=None)
    @given(ports=any_ports, kind=st.sampled_from(ProxyKind))
    def law(ports, kind):
        first, second = (mesh.compiled(mesh.view(mixed_view(mesh, ports, kind), mesh.inbound_port(8080))) for _ in "ab")
        assert first == second

        listeners, routes, clusters = (expanded(first, each) for each in (LISTENER, ROUTES, CLUSTER))
        routed = mentioned(listeners, "routeConfigName")
        assert routed == first.of_type(ROUTES).keys()
        reached = mentioned(listeners, "cluster") | mentioned(routes, "cluster")
        assert reached <= first.of_type(CLUSTER).keys()
        assert {each["name"] for each in clusters if each.get("type") == "EDS"} == first.of_type(ENDPOINTS).keys()
        for table in routes:
            domains = [domain.lower() for host in table["virtualHosts"] for domain in host["domains"]]
            assert len(domains) == len(set(domains))

    law()


def test_a_change_of_endpoints_changes_no_resource_but_theirs(mesh):
    ports = [(5000, Protocol.HTTP, mesh.EAST, False, 1), (6379, Protocol.TCP, mesh.EAST, False, 1)]
    before = compile_outbound(mixed_view(mesh, ports, ProxyKind.SIDECAR))
    ports[1] = (*ports[1][:4], 3)
    after = compile_outbound(mixed_view(mesh, ports, ProxyKind.SIDECAR))

    changed = {
        name
        for kind in after.by_type
        for name, each in after.of_type(kind).items()
        if before.of_type(kind).get(name) != each
    }
    assert changed == {"outbound|6379||a1.sample.svc.cluster.local"}
    assert before.of_type(CLUSTER) == after.of_type(CLUSTER)


def test_another_process_gives_the_same_bytes(mesh):
    """Content hashes are compared across restarts and replicas."""
    script = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('words', {__file__.replace('test_laws', 'conftest')!r})\n"
        "words = importlib.util.module_from_spec(spec); sys.modules['words'] = words; spec.loader.exec_module(words)\n"
        "found = words.compiled(words.view(words.sample_mesh(), words.inbound_port(8080)))\n"
        "import json; print(json.dumps({k: {n: r.version for n, r in v.items()} for k, v in found.by_type.items()}))\n"
    )

    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    own = mesh.compiled(mesh.view(mesh.sample_mesh(), mesh.inbound_port(8080)))
    assert json.loads(printed) == {
        kind: {name: each.version for name, each in found.items()} for kind, found in own.by_type.items()
    }


def test_what_is_shared_is_not_encoded_again(mesh):
    shared = compile_outbound(mesh.sample_mesh())

    own = mesh.compile_view(mesh.view(mesh.sample_mesh(), mesh.inbound_port(8080)), shared)

    for kind in (CLUSTER, ENDPOINTS, LISTENER, ROUTES, NAME_TABLE):
        assert all(own.of_type(kind)[name] is each for name, each in shared.of_type(kind).items())
    added = {name for kind in own.by_type for name in own.of_type(kind).keys() - shared.of_type(kind).keys()}
    assert added == {
        "virtualInbound",
        "InboundPassthroughCluster",
        "inbound|8080||",
        "envoy.filters.http.jwt_authn",
        "envoy.filters.http.rbac",
        "envoy.filters.http.rbac.allow",
    }


def test_envoy_accepts_contested_ports_and_addresses(mesh, accepted_by_envoy):
    protocols = (Protocol.HTTP, Protocol.TCP, Protocol.AUTO, Protocol.GRPC, Protocol.TLS)
    ports = [
        (80, each, cluster, headless, 2)
        for each in protocols
        for cluster in ("east", "west")
        for headless in (False, True)
    ]

    accepted_by_envoy(mesh.compiled(mesh.view(mixed_view(mesh, ports, ProxyKind.SIDECAR), mesh.inbound_port(80))))
    accepted_by_envoy(mesh.compiled(mesh.view(mixed_view(mesh, ports, ProxyKind.ROUTER))))
