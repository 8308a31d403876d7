"""The bootstrap: accepted by the real Envoy, with the control planes in order and no key in it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from isthmus.envoy.bootstrap import BootstrapSettings, bootstrap, envoy_arguments
from isthmus.model.proxy_config import ProxyConfig, StatisticsKept


def settings(*control_planes: tuple[str, int]) -> BootstrapSettings:
    return BootstrapSettings(
        node={"id": "sidecar~10.10.0.2~a.b~b.svc.cluster.local", "cluster": "a.b", "metadata": {"CLUSTER_ID": "east"}},
        control_planes=control_planes,
        control_plane_name="istiod.istio-system.svc",
        sds_socket="/run/p/sds.sock",
        admin_socket="/run/p/admin.sock",
        health_socket="/run/p/health.sock",
        proof_socket="/run/p/proof.sock",
        marks_sockets=True,
    )


def document(written: bytes) -> dict:
    return json.loads(written)


def upstream(written: bytes, name: str) -> dict:
    return next(each for each in document(written)["static_resources"]["clusters"] if each["name"] == name)


@pytest.mark.parametrize(
    "control_planes", [(("10.0.0.1", 15012),), (("10.0.0.1", 15012), ("172.30.0.9", 443)), (("istiod.example", 15012),)]
)
def test_envoy_accepts_it(mesh, control_planes):
    assert mesh.complaint(bootstrap(settings(*control_planes))) == ""


def test_control_planes_are_priorities_in_order_of_preference():
    found = upstream(bootstrap(settings(("10.0.0.2", 15012), ("10.0.0.1", 15013))), "xds-grpc")

    order = [
        (each["priority"], each["lb_endpoints"][0]["endpoint"]["address"]["socket_address"])
        for each in found["load_assignment"]["endpoints"]
    ]
    assert order == [
        (0, {"address": "10.0.0.2", "port_value": 15012}),
        (1, {"address": "10.0.0.1", "port_value": 15013}),
    ]


@pytest.mark.parametrize(("host", "kind"), [("10.0.0.1", "STATIC"), ("fd00::1", "STATIC"), ("istiod.ns", "STRICT_DNS")])
def test_names_are_resolved_and_addresses_are_not(host, kind):
    assert upstream(bootstrap(settings((host, 15012))), "xds-grpc")["type"] == kind


def test_the_control_plane_is_checked_and_the_key_comes_from_the_agent():
    found = upstream(bootstrap(settings(("10.0.0.1", 15012))), "xds-grpc")

    context = found["transport_socket"]["typed_config"]["common_tls_context"]
    checked = context["combined_validation_context"]
    names = [
        each["matcher"]["exact"] for each in checked["default_validation_context"]["match_typed_subject_alt_names"]
    ]
    assert names == ["istiod.istio-system.svc"]
    assert checked["validation_context_sds_secret_config"]["name"] == "control-plane"
    for each in (context["tls_certificate_sds_secret_configs"][0], checked["validation_context_sds_secret_config"]):
        source = each["sds_config"]["api_config_source"]
        assert source["grpc_services"] == [{"envoy_grpc": {"cluster_name": "sds-grpc"}}]


def test_every_connection_of_its_own_is_marked():
    found = document(bootstrap(settings(("10.0.0.1", 15012))))["cluster_manager"]["upstream_bind_config"]

    assert [(each["level"], each["name"], each["int_value"]) for each in found["socket_options"]] == [(1, 36, 1337)]
    assert "source_address" not in found


def test_readiness_and_statistics_are_all_that_strangers_may_ask():
    listeners = document(bootstrap(settings(("10.0.0.1", 15012))))["static_resources"]["listeners"]

    asked = {}
    for each in listeners:
        if "pipe" in each["address"]:
            continue  # Where the agent tries certificates: nobody else can reach it.
        manager = each["filter_chains"][0]["filters"][0]["typed_config"]
        route = manager["route_config"]["virtual_hosts"][0]["routes"][0]
        asked[each["address"]["socket_address"]["port_value"]] = (route["match"], route["route"]["cluster"])
        assert manager["request_headers_timeout"] == "30s", "a slow head is not waited for"
    assert asked == {
        15021: ({"path": "/healthz/ready"}, "agent"),
        15090: ({"path": "/stats/prometheus"}, "prometheus_stats"),
    }


@pytest.mark.parametrize(
    ("ips", "place"),
    [
        ("10.0.0.1", {"address": "0.0.0.0"}),
        ("10.0.0.1,fd00::1", {"address": "0.0.0.0"}),
        ("fd00::1", {"address": "::", "ipv4_compat": True}),
    ],
)
def test_strangers_ask_at_the_pods_first_address(mesh, ips, place):
    own = settings(("10.0.0.1", 15012))
    node = {**own.node, "metadata": {**own.node["metadata"], "INSTANCE_IPS": ips}}

    written = bootstrap(replace(own, node=node))

    assert mesh.complaint(written) == ""
    readiness, statistics, _ = document(written)["static_resources"]["listeners"]
    assert readiness["address"]["socket_address"] == {**place, "port_value": 15021}
    assert statistics["address"]["socket_address"] == {**place, "port_value": 15090}


def test_equal_settings_give_equal_bytes():
    assert bootstrap(settings(("a", 1))) == bootstrap(settings(("a", 1)))


def test_envoys_on_one_machine_do_not_meet():
    arguments = envoy_arguments("/run/p/bootstrap.json")

    assert arguments[:2] == ["-c", "/run/p/bootstrap.json"]
    assert "--disable-hot-restart" in arguments


def test_the_agent_is_the_last_resort_over_a_plain_socket(mesh):
    found = json.loads(bootstrap(replace(settings(("10.0.0.1", 15012)), last_good_socket="/run/agent/last-good.sock")))

    [upstream] = [each for each in found["static_resources"]["clusters"] if each["name"] == "xds-grpc"]
    last = upstream["load_assignment"]["endpoints"][-1]
    assert (last["priority"], last["lb_endpoints"][0]["endpoint"]["address"]) == (
        1,
        {"pipe": {"path": "/run/agent/last-good.sock"}},
    )
    assert upstream["transport_socket_matches"][0]["transport_socket"]["name"] == "envoy.transport_sockets.raw_buffer"
    assert mesh.complaint(json.dumps(found).encode()) == ""


def test_a_proxys_own_configuration_says_what_it_counts_and_how_it_is_started(mesh):
    kept = StatisticsKept(prefixes=("dns",), suffixes=(".circuit_breakers",), expressions=("http.*rq_time",))
    config = ProxyConfig(
        drain_seconds=44.5,
        runtime=(("overload.global_downstream_max_connections", "100"),),
        statistics=kept,
        statsd="10.0.0.9:8125",
        flush_milliseconds=50,
        flush_kilobytes=8,
    )

    written = bootstrap(replace(settings(("10.0.0.1", 15012)), config=config))
    arguments = " ".join(envoy_arguments("/b.json", config=config))

    assert mesh.complaint(written) == ""
    found = document(written)
    patterns = found["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    wanted = ({"prefix": "dns"}, {"suffix": ".circuit_breakers"}, {"safe_regex": {"regex": "http.*rq_time"}})
    assert all(each in patterns for each in wanted)
    assert found["stats_sinks"][0]["typed_config"]["address"]["socket_address"]["address"] == "10.0.0.9"
    assert found["layered_runtime"]["layers"][0]["static_layer"]["overload.global_downstream_max_connections"] == "100"
    assert "--drain-time-s 45" in arguments
    assert "--file-flush-interval-msec 50 --file-flush-min-size-kb 8" in arguments
