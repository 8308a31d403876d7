"""Routes: the domains that mean each service, who gets a contested one, and what is retried."""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_pb2

from isthmus.envoy.resources import CLUSTER, ROUTES
from isthmus.model.services import Protocol
from isthmus.model.traffic import TrafficPolicy, Wishes


def tables(resources) -> dict[str, route_pb2.RouteConfiguration]:
    found = {
        name: route_pb2.RouteConfiguration.FromString(each.body) for name, each in resources.of_type(ROUTES).items()
    }
    for name, table in found.items():
        assert table.SerializeToString(deterministic=True) == resources.of_type(ROUTES)[name].body
    return found


def lines(table: route_pb2.RouteConfiguration) -> list[str]:
    """`vhost -> cluster: domain …`."""
    return [f"{host.name} -> {host.routes[-1].route.cluster}: {' '.join(host.domains)}" for host in table.virtual_hosts]


def test_every_spelling_of_a_name_means_its_service(mesh):
    ours = mesh.service("a", mesh.port(80), vips={mesh.EAST: "10.96.0.1"})
    theirs = mesh.service("b", mesh.port(80), namespace="other", vips={mesh.EAST: "10.96.0.2"})
    peers = mesh.service("peers", mesh.port(80), headless=True)
    upstreams = [mesh.upstream(each, each.ports[0]) for each in (ours, theirs, peers)]

    table = tables(mesh.compiled(mesh.view(mesh.outbound_view(*upstreams))))["80"]

    cluster = "svc.cluster.local"
    assert lines(table) == [
        f"b.other.{cluster}:80 -> outbound|80||b.other.{cluster}: "
        f"b.other.{cluster} b.other.{cluster}. 10.96.0.2 b.other.svc b.other",
        f"a.sample.{cluster}:80 -> outbound|80||a.sample.{cluster}: "
        f"a.sample.{cluster} a.sample.{cluster}. 10.96.0.1 a.sample.svc a.sample a",
        f"peers.sample.{cluster}:80 -> outbound|80||peers.sample.{cluster}: "
        f"peers.sample.{cluster} peers.sample.{cluster}. peers.sample.svc peers.sample *.peers.sample.{cluster} peers",
        "allow_any -> PassthroughCluster: *",
    ]
    assert table.ignore_port_in_host_matching
    assert not table.validate_clusters.value


def test_an_address_that_two_clusters_gave_is_the_own_clusters(mesh):
    remote = mesh.service("a", mesh.port(80), vips={mesh.WEST: "10.96.0.7"})
    own = mesh.service("b", mesh.port(80), vips={mesh.EAST: "10.96.0.7"})
    view = mesh.outbound_view(*(mesh.upstream(each, each.ports[0]) for each in (remote, own)))

    first, second, _ = lines(tables(mesh.compiled(mesh.view(view)))["80"])

    assert "10.96.0.7" not in first
    assert "10.96.0.7" in second


def test_a_short_name_never_takes_anothers_full_name(mesh):
    hello = mesh.service("hello", mesh.port(80))
    named_alike = mesh.replace(hello, hostname="hello.sample", namespace="external", name="hello.sample")
    view = mesh.outbound_view(*(mesh.upstream(each, each.ports[0]) for each in (hello, named_alike)))

    table = tables(mesh.compiled(mesh.view(view)))["80"]

    owner = {domain: host.routes[-1].route.cluster for host in table.virtual_hosts for domain in host.domains}
    assert owner["hello.sample"] == "outbound|80||hello.sample"
    assert owner["hello.sample.svc"] == "outbound|80||hello.sample.svc.cluster.local"
    assert sum(len(host.domains) for host in table.virtual_hosts) == len(owner)


def test_ipv6_addresses_are_bracketed_as_hosts_are(mesh):
    six = mesh.service("six", mesh.port(80), vips={mesh.EAST: "fd00::5"})

    table = tables(mesh.compiled(mesh.view(mesh.outbound_view(mesh.upstream(six, six.ports[0])))))["80"]

    assert "[fd00::5]" in table.virtual_hosts[0].domains


def test_a_broken_connection_is_retried_for_requests_that_may_run_twice_only(mesh):
    hello = mesh.service("hello", mesh.port(80))

    table = tables(mesh.compiled(mesh.view(mesh.outbound_view(mesh.upstream(hello, hello.ports[0])))))["80"]

    host = table.virtual_hosts[0]
    idempotent, other = host.routes
    assert idempotent.match.headers[0].string_match.safe_regex.regex == "GET|HEAD|OPTIONS|PUT|DELETE|TRACE"
    assert not other.match.headers
    assert (host.retry_policy.num_retries.value, "reset" in host.retry_policy.retry_on) == (2, False)
    assert not any(each.route.HasField("retry_policy") for each in host.routes), "which would replace the host's"
    added = [(each.header.key, each.header.value) for each in idempotent.request_headers_to_add]
    assert (added, len(other.request_headers_to_add)) == ([("x-envoy-retry-on", "reset")], 0)


def test_a_request_that_may_run_twice_is_sent_elsewhere_too_where_that_is_wished(mesh):
    service = mesh.service("a", mesh.port(80))
    policy = TrafficPolicy(wishes=Wishes(hedge_after_seconds=0.3))
    upstream = mesh.replace(mesh.upstream(service, service.ports[0]), policy=policy)

    [host] = tables(mesh.compiled(mesh.view(mesh.outbound_view(upstream))))["80"].virtual_hosts[:1]

    idempotent, other = (route.route for route in host.routes)
    assert idempotent.hedge_policy.hedge_on_per_try_timeout
    assert idempotent.retry_policy.per_try_timeout.ToTimedelta().total_seconds() == 0.3
    assert idempotent.timeout.ToTimedelta().total_seconds() == 0
    compiled = mesh.compiled(mesh.view(mesh.outbound_view(upstream))).of_type(CLUSTER)[upstream.name].body
    assert cluster_pb2.Cluster.FromString(compiled).connect_timeout.ToTimedelta().total_seconds() == 0.3
    assert not other.HasField("hedge_policy")
    assert not host.retry_policy.HasField("per_try_timeout")


def test_an_undeclared_protocol_has_a_table_of_its_own(mesh):
    store = mesh.service("store", mesh.port(7000, Protocol.AUTO))

    found = tables(mesh.compiled(mesh.view(mesh.outbound_view(mesh.upstream(store, store.ports[0])))))

    assert {name: lines(table) for name, table in found.items()} == {
        "store.sample.svc.cluster.local:7000": [
            "store.sample.svc.cluster.local:7000 -> outbound|7000||store.sample.svc.cluster.local: *"
        ]
    }
