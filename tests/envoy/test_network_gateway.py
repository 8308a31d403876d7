"""The network gateway: what passes through by its SNI, and that nothing else does."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from isthmus.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from isthmus.model.traffic import ConnectionPool, TrafficPolicy
from isthmus.model.views import ProxyKind


@pytest.fixture
def gateway(mesh):
    """Passes one service through on 15443 and another one on 15444."""
    hello, store = (mesh.service(name, mesh.port(5000)) for name in ("helloworld", "store"))
    upstreams = [
        mesh.upstream(each, each.ports[0], mesh.group(mesh.direct(mesh.endpoint(each, "10.10.0.1"), 5000)))
        for each in (hello, store)
    ]
    view = mesh.outbound_view(
        *upstreams,
        seen_from=mesh.scope(ProxyKind.ROUTER),
        exposed=[(15443, upstreams[0]), (15443, upstreams[1]), (15444, upstreams[1])],
    )
    return mesh.compiled(mesh.view(view))


def test_one_chain_for_each_exposed_port_by_exact_sni(gateway):
    seen = {}
    for name, resource in gateway.of_type(LISTENER).items():
        listener = listener_pb2.Listener.FromString(resource.body)
        assert not listener.HasField("default_filter_chain")
        assert not listener.continue_on_listener_filters_timeout
        assert listener.listener_filters_timeout.seconds == 5
        seen[name] = [
            (
                tuple(chain.filter_chain_match.server_names),
                "istio" in chain.filter_chain_match.application_protocols,
                chain.filter_chain_match.transport_protocol,
                tcp_proxy_pb2.TcpProxy.FromString(chain.filters[0].typed_config.value).cluster,
                chain.HasField("transport_socket"),
            )
            for chain in listener.filter_chains
        ]

    hello, store = (f"outbound_.5000_._.{name}.sample.svc.cluster.local" for name in ("helloworld", "store"))
    assert seen == {
        "0.0.0.0_15443": [((name,), True, "tls", name, False) for name in (hello, store)],
        "0.0.0.0_15444": [((store,), True, "tls", store, False)],
    }


def test_its_upstreams_carry_the_callers_own_tls(gateway):
    name = "outbound_.5000_._.helloworld.sample.svc.cluster.local"

    assert b"tls" not in gateway.of_type(CLUSTER)[name].body.lower()
    assert name in gateway.of_type(ENDPOINTS)
    assert not gateway.of_type(ROUTES)


def test_a_workload_that_does_not_accept_within_its_network_is_left_before_its_caller_notices(mesh):
    """The caller waits for TLS meanwhile, and has two seconds for all of it; three attempts are less."""
    hello = mesh.service("helloworld", mesh.port(5000))
    upstream = mesh.upstream(hello, hello.ports[0], mesh.group(mesh.direct(mesh.endpoint(hello, "10.10.0.1"), 5000)))
    said = mesh.replace(upstream, policy=TrafficPolicy(pool=ConnectionPool(connect_seconds=7)))

    def seconds_for(one):
        view = mesh.outbound_view(one, seen_from=mesh.scope(ProxyKind.ROUTER), exposed=[(15443, one)])
        [body] = [
            each.body for name, each in mesh.compiled(mesh.view(view)).of_type(CLUSTER).items() if name == one.sni
        ]
        return cluster_pb2.Cluster.FromString(body).connect_timeout.ToTimedelta().total_seconds()

    assert seconds_for(upstream) == 0.3
    assert seconds_for(said) == 7, "unless a rule says otherwise"


def test_envoy_accepts_it(gateway, accepted_by_envoy):
    accepted_by_envoy(gateway)


def test_without_exposure_nothing_is_listened_on(mesh):
    view = mesh.outbound_view(seen_from=mesh.scope(ProxyKind.ROUTER))

    assert not mesh.compiled(mesh.view(view)).of_type(LISTENER)
