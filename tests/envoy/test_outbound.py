"""Outbound listeners: which one serves a connection, and what it does with it."""

from __future__ import annotations

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from isthmus.envoy import outbound
from isthmus.envoy.resources import LISTENER
from isthmus.model.routing import ConnectionRoute
from isthmus.model.services import Protocol
from isthmus.model.sidecars import ALL_PORTS, Place, Placed, Placement
from isthmus.model.traffic import ConnectionPool, TrafficPolicy, Tunnel
from isthmus.model.views import ProxyKind


def serves(chain) -> str:
    """`http(routes)` or `tcp(cluster)`."""
    last = chain.filters[-1].typed_config
    if "HttpConnectionManager" in last.type_url:
        manager = http_connection_manager_pb2.HttpConnectionManager.FromString(last.value)
        return f"http({manager.rds.route_config_name})"
    return f"tcp({tcp_proxy_pb2.TcpProxy.FromString(last.value).cluster})"


def lines(resources) -> list[str]:
    """`name [match] serves … else serves`, without the inbound listener."""
    found = []
    for name, resource in resources.of_type(LISTENER).items():
        if name == "virtualInbound":
            continue
        listener = listener_pb2.Listener.FromString(resource.body)
        chains = []
        for chain in listener.filter_chains:
            match = chain.filter_chain_match
            ranges = [f"{each.address_prefix}/{each.prefix_len.value}" for each in match.prefix_ranges]
            told = ",".join([*match.application_protocols, *match.server_names, *ranges])
            chains.append(f"[{match.destination_port.value or told}] {serves(chain)}")
        if listener.HasField("default_filter_chain"):
            chains.append(f"else {serves(listener.default_filter_chain)}")
        found.append(f"{name} {' '.join(chains)}")
    return found


def test_each_protocol_has_the_listener_that_tells_its_services_apart(mesh):
    resources = mesh.compiled(mesh.view(mesh.sample_mesh()))

    http = "[http/1.0,http/1.1,h2c]"
    assert lines(resources) == [
        # What is not HTTP on port 5000 is the service that has no address of its own.
        f"0.0.0.0_5000 {http} http(5000) else tcp(outbound|5000||bare.sample.svc.cluster.local)",
        f"0.0.0.0_8123 {http} http(8123) else tcp(outbound|8123||bare.sample.svc.cluster.local)",
        f"0.0.0.0_9000 {http} http(9000) else tcp(PassthroughCluster)",
        "10.10.0.12_7001 else tcp(outbound|7001||peers.sample.svc.cluster.local)",
        "10.96.0.2_443 else tcp(outbound|443||store.sample.svc.cluster.local)",
        "10.96.0.2_6379 else tcp(outbound|6379||store.sample.svc.cluster.local)",
        f"10.96.0.2_7000 {http} http(store.sample.svc.cluster.local:7000) "
        "else tcp(outbound|7000||store.sample.svc.cluster.local)",
        "virtualOutbound [15001] tcp(BlackHoleCluster) else tcp(PassthroughCluster)",
    ]


def test_only_capture_itself_is_bound(mesh):
    resources = mesh.compiled(mesh.view(mesh.sample_mesh()))

    listeners = [listener_pb2.Listener.FromString(each.body) for each in resources.of_type(LISTENER).values()]
    bound = {each.name for each in listeners if not each.HasField("bind_to_port")}
    assert bound == {"virtualInbound", "virtualOutbound"}


def test_declared_tcp_is_never_inspected(mesh):
    resources = mesh.compiled(mesh.view(mesh.sample_mesh()))

    listener = listener_pb2.Listener.FromString(resources.of_type(LISTENER)["10.96.0.2_6379"].body)
    assert not listener.listener_filters


def test_an_address_and_port_that_two_services_have_goes_to_the_own_clusters(mesh):
    remote = mesh.service("a", mesh.port(6379, Protocol.TCP), vips={mesh.WEST: "10.96.0.7"})
    own = mesh.service("b", mesh.port(6379, Protocol.TCP), vips={mesh.EAST: "10.96.0.7"})
    view = mesh.outbound_view(*(mesh.upstream(each, each.ports[0]) for each in (remote, own)))

    planned = outbound.plan(view.upstreams, view.scope, view.placement)

    assert [(each.ip, each.upstream.service.name) for each in planned.addressed] == [("10.96.0.7", "b")]
    assert [(each.upstream.service.name, each.by.service.name) for each in planned.shadowed] == [("a", "b")]


def test_two_services_with_neither_host_nor_address_cannot_be_told_apart(mesh):
    first, second = (mesh.service(name, mesh.port(6379, Protocol.TCP), vips={}) for name in ("a", "b"))
    view = mesh.outbound_view(*(mesh.upstream(each, each.ports[0]) for each in (second, first)))

    planned = outbound.plan(view.upstreams, view.scope, view.placement)

    assert [(each.number, each.rest.service.name) for each in planned.on_ports] == [(6379, "a")]
    assert [(each.upstream.service.name, each.by.service.name) for each in planned.shadowed] == [("b", "a")]


def test_at_a_place_only_those_are_shadowed_that_are_found_by_nothing_else_there_or_elsewhere(mesh):
    """On a socket: bytes are the first service's, hosts tell apart where requests may be, and one is captured at its own address, too."""
    said = {"bytes": Protocol.TCP, "either": Protocol.AUTO, "late": Protocol.TCP, "own": Protocol.TCP}
    services = [
        mesh.service(name, mesh.port(7000, protocol), vips={mesh.EAST: "10.96.0.9"} if name == "own" else {})
        for name, protocol in said.items()
    ]
    view = mesh.outbound_view(*(mesh.upstream(each, each.ports[0]) for each in services))
    all_of_them = tuple((each.key, ALL_PORTS) for each in services)
    socket = Place("/var/run/mesh.sock", 0, is_bound=True)

    planned = outbound.plan(
        view.upstreams,
        view.scope,
        Placement((Placed(socket, all_of_them),), captured=((services[-1].key, ALL_PORTS),)),
    )

    [at_socket] = planned.on_ports
    assert at_socket.rest.service.name == "bytes"
    assert [each.service.name for each in at_socket.by_host] == ["either"]
    assert [(each.upstream.service.name, each.by.service.name) for each in planned.shadowed] == [("late", "bytes")]


def test_a_service_at_a_place_on_a_port_of_the_proxys_own_is_nobodys(mesh):
    service = mesh.service("odd", mesh.port(15001, Protocol.TCP), vips={})
    view = mesh.outbound_view(mesh.upstream(service, service.ports[0]))
    placed = Placed(Place("10.0.0.1", 0, is_bound=True), ((service.key, ALL_PORTS),))

    planned = outbound.plan(view.upstreams, view.scope, Placement((placed,), captured=()))

    assert planned.on_ports == ()
    assert [(each.upstream.service.name, each.by) for each in planned.shadowed] == [("odd", None)]


def test_a_headless_endpoint_behind_a_gateway_has_no_listener(mesh):
    """Its address means nothing on this network."""
    peers = mesh.service("peers", mesh.port(7001, Protocol.TCP), headless=True)
    there = mesh.endpoint(peers, "10.10.0.12", cluster=mesh.WEST, network=mesh.N2)
    view = mesh.outbound_view(mesh.upstream(peers, peers.ports[0], mesh.group(mesh.through("172.30.2.1", there))))

    planned = outbound.plan(view.upstreams, view.scope, view.placement)

    assert (planned.addressed, planned.on_ports, planned.shadowed) == ((), (), ())


def test_a_service_on_capture_s_own_port_does_not_take_its_place(mesh, accepted_by_envoy):
    odd = mesh.service("odd", mesh.port(15001), mesh.port(15006, Protocol.TCP))
    bare = mesh.service("bare", mesh.port(15001, Protocol.TCP), vips={})
    upstreams = [mesh.upstream(each, at) for each in (odd, bare) for at in each.ports]

    resources = mesh.compiled(mesh.view(mesh.outbound_view(*upstreams)))

    assert [line.split()[0] for line in lines(resources)] == ["10.96.0.1_15001", "10.96.0.1_15006", "virtualOutbound"]
    accepted_by_envoy(resources)


def test_a_gateway_captures_nothing(mesh):
    view = mesh.view(mesh.outbound_view(seen_from=mesh.scope(ProxyKind.ROUTER)))

    assert lines(mesh.compiled(view)) == []


def outside(mesh, host, port, *, ranges=(), protocol=Protocol.TLS, **upstream):
    service = mesh.replace(mesh.service("x", mesh.port(port, protocol), vips={}), hostname=host, address_ranges=ranges)
    return mesh.replace(mesh.upstream(service, service.ports[0]), **upstream)


def test_tls_services_without_an_address_are_told_apart_by_name(mesh, accepted_by_envoy):
    routes = (
        ConnectionRoute(sni_hosts=("special.a.example", "b.example"), subnets=(), clusters=(("outbound|443||c", 1),)),
    )

    resources = mesh.compiled(
        mesh.view(
            mesh.outbound_view(
                outside(mesh, "a.example", 443, connections=routes),
                outside(mesh, "b.example", 443),
                outside(mesh, "*.wild.example", 443, protocol=Protocol.HTTPS),
            )
        )
    )

    accepted_by_envoy(resources)
    [line] = [each for each in lines(resources) if each.startswith("0.0.0.0_443")]
    # Another rule has claimed b.example first; no connection is without a place.
    assert line == (
        "0.0.0.0_443 [*.wild.example] tcp(outbound|443||*.wild.example) "
        "[special.a.example,b.example] tcp(outbound|443||c) [a.example] tcp(outbound|443||a.example) "
        "else tcp(PassthroughCluster)"
    )


def test_services_with_ranges_of_addresses_are_told_apart_by_these(mesh, accepted_by_envoy):
    resources = mesh.compiled(
        mesh.view(
            mesh.outbound_view(
                outside(mesh, "db.example", 5432, ranges=("10.1.0.0/16", "10.2.0.0/16"), protocol=Protocol.TCP),
                outside(mesh, "other.example", 5432, ranges=("10.2.0.0/16", "10.3.0.0/16"), protocol=Protocol.TCP),
                outside(mesh, "rest.example", 5432, protocol=Protocol.TCP),
            )
        )
    )

    accepted_by_envoy(resources)
    [line] = [each for each in lines(resources) if each.startswith("0.0.0.0_5432")]
    assert line == (
        "0.0.0.0_5432 [10.1.0.0/16,10.2.0.0/16] tcp(outbound|5432||db.example) "
        "[10.3.0.0/16] tcp(outbound|5432||other.example) else tcp(outbound|5432||rest.example)"
    )


def test_bytes_may_have_an_end_and_a_tunnel(mesh, accepted_by_envoy):
    policy = TrafficPolicy(pool=ConnectionPool(tcp_idle_seconds=60), tunnel=Tunnel("far.example:443", by_post=True))
    upstream = outside(mesh, "proxy.example", 3128, protocol=Protocol.TCP, policy=policy)

    resources = mesh.compiled(mesh.view(mesh.outbound_view(upstream)))

    accepted_by_envoy(resources)
    listener = listener_pb2.Listener.FromString(resources.of_type(LISTENER)["0.0.0.0_3128"].body)
    proxy = tcp_proxy_pb2.TcpProxy.FromString(listener.default_filter_chain.filters[-1].typed_config.value)
    assert proxy.idle_timeout.seconds == 60
    assert (proxy.tunneling_config.hostname, proxy.tunneling_config.use_post) == ("far.example:443", True)
