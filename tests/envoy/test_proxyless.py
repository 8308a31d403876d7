"""What gRPC applications without a proxy are given."""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from isthmus.envoy.compile import compile_outbound, of_proxy
from isthmus.envoy.resources import CLUSTER, LISTENER, ROUTES
from isthmus.model.routing import Cors, Handling, HeaderChanges, RequestMatch, Route
from isthmus.model.security import MutualTlsMode
from isthmus.model.services import Resolution
from isthmus.model.traffic import ConsistentHash, TrafficPolicy
from isthmus.model.views import InboundView, ProxyKind

HELLO = "outbound|80||hello.sample.svc.cluster.local"


def hello(mesh, *destinations, **changes):
    service = mesh.replace(mesh.service("hello", mesh.port(80)), **changes)
    endpoint = mesh.endpoint(service, "10.0.0.1")
    group = mesh.group(*(each(endpoint) for each in destinations))
    return mesh.upstream(service, service.ports[0], group)


def known(mesh, upstream):
    view = mesh.outbound_view(upstream)
    return compile_outbound(mesh.replace(view, scope=mesh.replace(view.scope, kind=ProxyKind.PROXYLESS)))


def test_an_upstream_may_be_dialled_by_each_of_its_names(mesh):
    found = known(mesh, hello(mesh, lambda e: mesh.direct(e, 80)))

    names = ("hello", "hello.sample", "hello.sample.svc", "hello.sample.svc.cluster.local")
    assert set(found.of_type(LISTENER)) == {f"{name}:80" for name in names}
    for name, resource in found.of_type(LISTENER).items():
        assert listener_pb2.Listener.FromString(resource.body).name == name
    assert set(found.of_type(ROUTES)) == set(found.of_type(CLUSTER)) == {HELLO}


def test_what_only_an_envoy_finds_by_dns_cannot_be_dialled(mesh):
    found = known(mesh, hello(mesh, lambda e: mesh.direct(e, 80), resolution=Resolution.DNS))

    assert not found.of_type(LISTENER)


def test_a_gateway_is_told_by_sni_where_connections_belong(mesh):
    found = known(mesh, hello(mesh, lambda e: mesh.through("2.2.2.2", e)))

    cluster = cluster_pb2.Cluster.FromString(found.of_type(CLUSTER)[HELLO].body)
    context = tls_pb2.UpstreamTlsContext.FromString(cluster.transport_socket.typed_config.value)
    assert context.sni == "outbound_.80_._.hello.sample.svc.cluster.local"
    validation = context.common_tls_context.combined_validation_context.default_validation_context
    assert [each.exact for each in validation.match_subject_alt_names] == ["spiffe://cluster.local/ns/sample/sa/hello"]


def test_plaintext_where_endpoints_take_no_part_in_mutual_tls(mesh):
    found = known(mesh, hello(mesh, lambda e: mesh.replace(mesh.direct(e, 80), mutual_tls=False)))

    assert not cluster_pb2.Cluster.FromString(found.of_type(CLUSTER)[HELLO].body).HasField("transport_socket")


def test_what_grpc_does_not_know_is_not_sent(mesh):
    """It would refuse the whole table for a filter's configuration that it does not know."""
    route = Route(
        name="r",
        match=RequestMatch(),
        clusters=((HELLO, 1, HeaderChanges()),),
        mirrors=(),
        handling=Handling(cors=Cors()),
    )
    upstream = mesh.replace(
        hello(mesh, lambda e: mesh.direct(e, 80)),
        routes=(route,),
        policy=TrafficPolicy(hash=ConsistentHash(header="x")),
    )

    found = known(mesh, upstream)

    table = route_pb2.RouteConfiguration.FromString(found.of_type(ROUTES)[HELLO].body)
    assert not table.virtual_hosts[0].routes[0].typed_per_filter_config
    cluster = cluster_pb2.Cluster.FromString(found.of_type(CLUSTER)[HELLO].body)
    assert cluster_pb2.Cluster.LbPolicy.Name(cluster.lb_policy) == "RING_HASH"


def test_a_server_has_a_listener_at_each_address_that_it_may_name(mesh):
    port = mesh.replace(mesh.inbound_port(8080), tls=MutualTlsMode.STRICT)

    found = [
        listener_pb2.Listener.FromString(each.body)
        for _, each in of_proxy(
            ProxyKind.PROXYLESS, InboundView(ports=(port,), addresses=("10.0.0.1", "fd00::1")), frozenset()
        )
    ]

    assert [each.name.removeprefix("xds.istio.io/grpc/lds/inbound/") for each in found] == [
        "0.0.0.0:8080",
        "[::]:8080",
        "10.0.0.1:8080",
        "[fd00::1]:8080",
    ]
    assert all(each.filter_chains[0].HasField("transport_socket") for each in found)
