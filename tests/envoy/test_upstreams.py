"""Upstreams: how each kind of service port is connected to, and on what that does not depend."""

from __future__ import annotations

from dataclasses import replace

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from isthmus.envoy.resources import CLUSTER, ENDPOINTS
from isthmus.model.services import Protocol, Resolution
from isthmus.model.traffic import (
    Balancing,
    ConnectionPool,
    Keepalive,
    OutlierDetection,
    Pings,
    RetryBudget,
    TrafficPolicy,
    Upgrade,
    Warmup,
)
from isthmus.model.views import ProxyKind

_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def clusters(resources) -> dict[str, cluster_pb2.Cluster]:
    return {name: cluster_pb2.Cluster.FromString(each.body) for name, each in resources.of_type(CLUSTER).items()}


def speaks(cluster) -> str:
    if _OPTIONS not in cluster.typed_extension_protocol_options:
        return "http1"
    options = http_protocol_options_pb2.HttpProtocolOptions.FromString(
        cluster.typed_extension_protocol_options[_OPTIONS].value
    )
    if options.HasField("use_downstream_protocol_config"):
        return "as-downstream"
    return "http2" if options.explicit_http_config.HasField("http2_protocol_options") else "http1"


def client_context(cluster) -> tls_pb2.UpstreamTlsContext | None:
    sockets = [each.transport_socket for each in cluster.transport_socket_matches] or [cluster.transport_socket]
    return tls_pb2.UpstreamTlsContext.FromString(sockets[0].typed_config.value) if sockets[0].name else None


def line(cluster) -> str:
    """`type speaks [alpn] sni`."""
    context = client_context(cluster)
    secured = f"[{','.join(context.common_tls_context.alpn_protocols)}] {context.sni}" if context else "plain"
    return f"{cluster_pb2.Cluster.DiscoveryType.Name(cluster.type)} {speaks(cluster)} {secured}"


def sans(cluster) -> list[str]:
    validation = client_context(cluster).common_tls_context.combined_validation_context.default_validation_context
    return [each.matcher.exact for each in validation.match_typed_subject_alt_names]


def test_each_kind_of_port(mesh):
    inbound = (mesh.inbound_port(8080), mesh.inbound_port(9090, Protocol.GRPC), mesh.inbound_port(6379, Protocol.TCP))

    found = clusters(mesh.compiled(mesh.view(mesh.sample_mesh(), *inbound)))

    of = "sample.svc.cluster.local"
    assert {name: line(cluster) for name, cluster in found.items()} == {
        "BlackHoleCluster": "STATIC http1 plain",
        "InboundPassthroughCluster": "ORIGINAL_DST as-downstream plain",
        "PassthroughCluster": "ORIGINAL_DST as-downstream plain",
        "inbound|6379||": "ORIGINAL_DST http1 plain",
        "inbound|8080||": "ORIGINAL_DST as-downstream plain",
        "inbound|9090||": "ORIGINAL_DST http2 plain",
        f"outbound|443||store.{of}": f"EDS http1 [istio] outbound_.443_._.store.{of}",
        f"outbound|5000||bare.{of}": f"EDS http1 [istio] outbound_.5000_._.bare.{of}",
        f"outbound|5000||helloworld.{of}": (
            f"EDS http1 [istio-http/1.1,istio,http/1.1] outbound_.5000_._.helloworld.{of}"
        ),
        f"outbound|5000||peers.{of}": (
            f"ORIGINAL_DST http1 [istio-http/1.1,istio,http/1.1] outbound_.5000_._.peers.{of}"
        ),
        f"outbound|6379||store.{of}": f"EDS http1 [istio] outbound_.6379_._.store.{of}",
        f"outbound|7000||store.{of}": f"EDS as-downstream [istio] outbound_.7000_._.store.{of}",
        f"outbound|7001||peers.{of}": f"ORIGINAL_DST http1 [istio] outbound_.7001_._.peers.{of}",
        f"outbound|8123||bare.{of}": f"EDS as-downstream [istio] outbound_.8123_._.bare.{of}",
        f"outbound|9000||helloworld.{of}": f"EDS http2 [istio-h2,istio,h2] outbound_.9000_._.helloworld.{of}",
    }


def test_only_the_workloads_own_identities_are_taken_for_an_answer(mesh):
    found = clusters(mesh.compiled(mesh.view(mesh.sample_mesh())))

    hello = found["outbound|5000||helloworld.sample.svc.cluster.local"]
    assert sans(hello) == ["spiffe://cluster.local/ns/sample/sa/helloworld"]
    assert [each.name for each in hello.transport_socket_matches] == ["tlsMode-istio"]
    assert not hello.HasField("transport_socket"), "plaintext, for endpoints that take no part in it"


@pytest.mark.parametrize(
    ("one_bundle", "bundle"),
    [(False, "spiffe://cluster.local"), pytest.param(True, "ROOTCA", id="an agent of Istio's has no other")],
)
def test_the_bundle_that_an_upstream_is_judged_by_is_one_that_the_agent_has(mesh, one_bundle, bundle):
    hello = mesh.service("helloworld", mesh.port(5000))
    behind = mesh.group(mesh.direct(mesh.endpoint(hello, "10.10.0.1"), 5000))
    upstream = replace(mesh.upstream(hello, hello.ports[0], behind), judged_by_one_bundle=one_bundle)

    found = clusters(mesh.compiled(mesh.view(mesh.outbound_view(upstream))))[upstream.name]

    combined = client_context(found).common_tls_context.combined_validation_context
    assert combined.validation_context_sds_secret_config.name == bundle
    assert sans(found) == ["spiffe://cluster.local/ns/sample/sa/helloworld"]


def test_no_known_identity_means_nobody_and_not_anybody(mesh):
    found = clusters(mesh.compiled(mesh.view(mesh.sample_mesh())))

    assert sans(found["outbound|5000||bare.sample.svc.cluster.local"]) == ["spiffe://nobody.invalid/"]


def test_endpoints_come_and_go_without_their_upstream(mesh):
    hello = mesh.service("helloworld", mesh.port(5000))
    one, two = (mesh.endpoint(hello, ip) for ip in ("10.10.0.1", "10.10.0.2"))
    before = mesh.outbound_view(mesh.upstream(hello, hello.ports[0], mesh.group(mesh.direct(one, 5000))))
    after = mesh.outbound_view(
        mesh.upstream(hello, hello.ports[0], mesh.group(mesh.direct(one, 5000), mesh.direct(two, 5000)))
    )

    same = [mesh.compiled(mesh.view(view)).of_type(CLUSTER) for view in (before, after)]

    assert same[0] == same[1]


@pytest.mark.parametrize(("meshed", "secured"), [((True, True), True), ((True, False), False), ((), False)])
def test_a_headless_service_is_secured_for_all_of_its_endpoints_or_for_none(mesh, meshed, secured):
    peers = mesh.service("peers", mesh.port(7001, Protocol.TCP), headless=True)
    here = [mesh.direct(mesh.endpoint(peers, f"10.10.0.{n}", meshed=each), 7001) for n, each in enumerate(meshed)]
    view = mesh.outbound_view(mesh.upstream(peers, peers.ports[0], mesh.group(*here)))

    cluster = clusters(mesh.compiled(mesh.view(view)))["outbound|7001||peers.sample.svc.cluster.local"]

    assert (client_context(cluster) is not None) == secured


def test_a_gateway_chooses_among_the_endpoints_of_a_headless_service(mesh):
    peers = mesh.service("peers", mesh.port(7001, Protocol.TCP), headless=True)
    view = mesh.outbound_view(mesh.upstream(peers, peers.ports[0]), seen_from=mesh.scope(ProxyKind.ROUTER))

    found = clusters(mesh.compiled(mesh.view(view)))

    assert line(found["outbound|7001||peers.sample.svc.cluster.local"]).startswith("EDS ")


def renewal(cluster) -> tuple[int, int, float]:
    """After how many requests and seconds, and how far ahead of requests."""
    options = http_protocol_options_pb2.HttpProtocolOptions.FromString(
        cluster.typed_extension_protocol_options[_OPTIONS].value
    )
    common, ahead = options.common_http_protocol_options, cluster.preconnect_policy.per_upstream_preconnect_ratio.value
    return common.max_requests_per_connection.value, common.max_connection_duration.seconds, ahead


@pytest.mark.parametrize(
    ("protocol", "pool", "near", "far"),
    [
        (Protocol.HTTP, ConnectionPool(), (0, 0, 0), (50, 60, 1.1)),
        (Protocol.GRPC, ConnectionPool(), (0, 0, 0), (100, 60, 3)),
        (Protocol.HTTP, ConnectionPool(upgrade=Upgrade.YES), (0, 0, 0), (100, 60, 3)),
        (Protocol.GRPC, ConnectionPool(upgrade=Upgrade.AS_CALLED), (0, 0, 0), (50, 60, 1.1)),
        (Protocol.AUTO, ConnectionPool(), (0, 0, 0), (50, 60, 1.1)),
        (Protocol.TCP, ConnectionPool(), (0, 0, 0), (0, 0, 0)),
        pytest.param(
            Protocol.HTTP,
            ConnectionPool(max_requests_per_connection=3, max_connection_seconds=9),
            (3, 9, 0),
            (3, 9, 0),
            id="as a rule says",
        ),
    ],
)
def test_connections_with_requests_are_renewed_if_they_go_through_a_gateway(mesh, protocol, pool, near, far):
    hello = mesh.service("helloworld", mesh.port(9000, protocol))
    here = mesh.endpoint(hello, "10.10.0.1")
    there = mesh.endpoint(hello, "10.10.0.1", cluster=mesh.WEST, network=mesh.N2)
    found = []
    for destination in (mesh.direct(here, 9000), mesh.through("172.30.2.1", there)):
        upstream = mesh.upstream(hello, hello.ports[0], mesh.group(destination))
        upstream = replace(upstream, policy=TrafficPolicy(pool=pool))
        found.append(renewal(clusters(mesh.compiled(mesh.view(mesh.outbound_view(upstream))))[upstream.name]))

    assert found == [near, far]


def test_defaults_that_would_spoil_failover_are_replaced(mesh):
    hello = clusters(mesh.compiled(mesh.view(mesh.sample_mesh())))["outbound|5000||helloworld.sample.svc.cluster.local"]

    assert hello.common_lb_config.update_merge_window.ToTimedelta().total_seconds() == 0
    assert hello.common_lb_config.HasField("update_merge_window")
    assert hello.common_lb_config.healthy_panic_threshold.value == 0
    assert hello.circuit_breakers.thresholds[0].max_retries.value == 2**32 - 1
    assert hello.outlier_detection.max_ejection_percent.value == 99
    assert not hello.common_lb_config.HasField("locality_weighted_lb_config")


def test_connections_to_the_own_workload_come_from_the_address_that_capture_leaves_alone(mesh):
    found = clusters(mesh.compiled(mesh.view(mesh.outbound_view(), mesh.inbound_port(8080))))

    for name in ("inbound|8080||", "InboundPassthroughCluster"):
        bind = found[name].upstream_bind_config
        assert bind.source_address.address == "127.0.0.6"
        assert not bind.socket_options, "a proxy that may not mark its sockets could not connect"


def test_what_a_destination_rule_says_is_in_the_cluster_and_envoy_accepts_it(mesh, accepted_by_envoy):
    policy = TrafficPolicy(
        balancing=Balancing.ROUND_ROBIN,
        pool=ConnectionPool(max_connections=5, connect_seconds=1.5, max_retries=4, max_requests_per_connection=3),
        outliers=OutlierDetection(
            consecutive_errors=7, interval_seconds=2, max_ejection_percent=50, min_health_percent=30
        ),
    )
    plain = mesh.sample_mesh()
    view = mesh.replace(plain, upstreams=tuple(mesh.replace(each, policy=policy) for each in plain.upstreams))

    resources = mesh.compiled(mesh.view(view))

    accepted_by_envoy(resources)
    found = clusters(resources)["outbound|5000||helloworld.sample.svc.cluster.local"]
    assert cluster_pb2.Cluster.LbPolicy.Name(found.lb_policy) == "ROUND_ROBIN"
    [limits] = found.circuit_breakers.thresholds
    assert (limits.max_connections.value, limits.max_retries.value, limits.max_requests.value) == (5, 4, 2**32 - 1)
    assert found.connect_timeout.ToTimedelta().total_seconds() == 1.5
    assert found.outlier_detection.consecutive_5xx.value == 7
    assert found.outlier_detection.enforcing_consecutive_5xx.value == 100
    assert found.common_lb_config.healthy_panic_threshold.value == 30


@pytest.mark.parametrize(("resolution", "patience"), [("endpoints", 2), ("dns", 10), ("none", 10)])
def test_where_another_endpoint_can_take_a_request_one_that_does_not_accept_has_two_seconds(mesh, resolution, patience):
    service = mesh.replace(mesh.service("helloworld", mesh.port(5000)), resolution=Resolution(resolution))
    endpoint = mesh.endpoint(service, "a.example" if resolution == "dns" else "10.0.0.1", meshed=False)
    upstream = mesh.upstream(service, service.ports[0], mesh.group(mesh.direct(endpoint, 443)))
    said = mesh.replace(upstream, policy=TrafficPolicy(pool=ConnectionPool(connect_seconds=7)))

    def seconds_for(one):
        found = clusters(mesh.compiled(mesh.view(mesh.outbound_view(one))))[one.name]
        return found.connect_timeout.ToTimedelta().total_seconds()

    assert seconds_for(upstream) == patience
    assert seconds_for(said) == 7


@pytest.mark.parametrize(
    ("resolution", "kind"),
    [("endpoints", "EDS"), ("dns", "STRICT_DNS"), ("dns-first", "LOGICAL_DNS"), ("none", "ORIGINAL_DST")],
)
def test_how_addresses_are_found(mesh, accepted_by_envoy, resolution, kind):
    service = mesh.replace(mesh.service("helloworld", mesh.port(5000)), resolution=Resolution(resolution))
    endpoint = mesh.endpoint(service, "a.example" if resolution.startswith("dns") else "10.0.0.1", meshed=False)
    upstream = mesh.upstream(service, service.ports[0], mesh.group(mesh.direct(endpoint, 443)))

    resources = mesh.compiled(mesh.view(mesh.outbound_view(upstream)))

    accepted_by_envoy(resources)
    [found] = [each for name, each in clusters(resources).items() if name.startswith("outbound|")]
    assert cluster_pb2.Cluster.DiscoveryType.Name(found.type) == kind
    told = resources.of_type(ENDPOINTS)
    assert bool(told) is (kind == "EDS")


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.HTTPS])
def test_hosts_that_are_looked_up_when_they_are_asked_for(mesh, accepted_by_envoy, protocol):
    service = mesh.replace(
        mesh.service("any", mesh.port(443, protocol), vips={}),
        hostname="*.example.com",
        resolution=Resolution.DNS_OF_REQUEST,
    )
    upstream = mesh.upstream(service, service.ports[0])

    resources = mesh.compiled(mesh.view(mesh.outbound_view(upstream)))

    accepted_by_envoy(resources)
    found = clusters(resources)["outbound|443||*.example.com"]
    assert found.cluster_type.name == "envoy.clusters.dynamic_forward_proxy"
    assert resources.of_type(ENDPOINTS) == {}


def ruled(mesh, accepted_by_envoy, policy, name="outbound|5000||helloworld.sample.svc.cluster.local"):
    """A cluster of the sample mesh under the policy, after Envoy has accepted all of it."""
    plain = mesh.sample_mesh()
    view = mesh.replace(plain, upstreams=tuple(mesh.replace(each, policy=policy) for each in plain.upstreams))
    resources = mesh.compiled(mesh.view(view))
    accepted_by_envoy(resources)
    return clusters(resources)[name]


def options(cluster):
    return http_protocol_options_pb2.HttpProtocolOptions.FromString(
        cluster.typed_extension_protocol_options[_OPTIONS].value
    )


def test_connections_are_used_as_a_rule_says(mesh, accepted_by_envoy):
    pool = ConnectionPool(
        keepalive=Keepalive(4, 60, 7),
        max_connection_seconds=3600,
        idle_seconds=30,
        upgrade=Upgrade.YES,
        max_concurrent_streams=7,
        pings=Pings(30, 5),
    )

    found = ruled(mesh, accepted_by_envoy, TrafficPolicy(pool=pool, retry_budget=RetryBudget(25, 5)))

    probes = found.upstream_connection_options.tcp_keepalive
    assert [each.value for each in (probes.keepalive_probes, probes.keepalive_time, probes.keepalive_interval)] == [
        4,
        60,
        7,
    ]
    said = options(found)
    assert said.explicit_http_config.http2_protocol_options.max_concurrent_streams.value == 7
    pings = said.explicit_http_config.http2_protocol_options.connection_keepalive
    assert (pings.interval.seconds, pings.timeout.seconds) == (30, 5)
    assert said.common_http_protocol_options.max_connection_duration.seconds == 3600
    assert said.common_http_protocol_options.idle_timeout.seconds == 30
    budget = found.circuit_breakers.thresholds[0].retry_budget
    assert (budget.budget_percent.value, budget.min_retry_concurrency.value) == (25, 5)


def test_requests_go_on_as_they_came_where_a_rule_says_so(mesh, accepted_by_envoy):
    found = ruled(mesh, accepted_by_envoy, TrafficPolicy(pool=ConnectionPool(upgrade=Upgrade.AS_CALLED)))

    assert speaks(found) == "as-downstream"


@pytest.mark.parametrize(
    ("balancing", "config"),
    [(Balancing.ROUND_ROBIN, "round_robin_lb_config"), (None, "least_request_lb_config")],
)
def test_new_endpoints_warm_up(mesh, accepted_by_envoy, balancing, config):
    policy = TrafficPolicy(balancing=balancing, warmup=Warmup(30, least_percent=20, aggression=1.5))

    found = getattr(ruled(mesh, accepted_by_envoy, policy), config).slow_start_config

    assert found.slow_start_window.seconds == 30
    assert (found.min_weight_percent.value, found.aggression.default_value) == (20, 1.5)


def test_connections_that_fail_may_count_for_themselves(mesh, accepted_by_envoy):
    split = OutlierDetection(split=True, consecutive_local_failures=9)
    off = OutlierDetection(split=True, consecutive_local_failures=0)

    on = ruled(mesh, accepted_by_envoy, TrafficPolicy(outliers=split)).outlier_detection
    assert on.consecutive_local_origin_failure.value == 9
    without = ruled(mesh, accepted_by_envoy, TrafficPolicy(outliers=off)).outlier_detection
    assert without.enforcing_consecutive_local_origin_failure.value == 0


def test_a_destination_may_be_told_who_called(mesh, accepted_by_envoy):
    found = ruled(mesh, accepted_by_envoy, TrafficPolicy(proxy_protocol="V2"))

    sockets = [*(each.transport_socket for each in found.transport_socket_matches), found.transport_socket]
    assert {each.name for each in sockets} == {"envoy.transport_sockets.upstream_proxy_protocol"}
