"""Rows from what an Envoy says of itself."""

from __future__ import annotations

import pytest

from isthmus.cli import envoy_dump


def dump(kind: str, **parts: object) -> dict:
    return {"configs": [{"@type": f"type.googleapis.com/envoy.admin.v3.{kind}ConfigDump", **parts}]}


def test_clusters_are_read_by_their_names():
    names = [
        "outbound|80|v1|a.ns.svc.cluster.local",
        "outbound_.80_.v1_.a.ns.svc.cluster.local",
        "inbound|80||",
        "sds-grpc",
    ]
    parts = [{"cluster": {"name": name, "type": "EDS"}} for name in names]

    assert envoy_dump.cluster_rows(dump("Clusters", dynamic_active_clusters=parts)) == [
        ("-", "80", "", "inbound", "EDS"),
        ("a.ns.svc.cluster.local", "80", "v1", "outbound", "EDS"),
        ("a.ns.svc.cluster.local", "80", "v1", "outbound (sni)", "EDS"),
        ("sds-grpc", "-", "-", "-", "EDS"),
    ]


def test_each_filter_chain_is_a_row_the_default_last():
    chain = {
        "filter_chain_match": {"transport_protocol": "tls", "server_names": ["a", "b"]},
        "filters": [{"name": "x.tcp_proxy", "typed_config": {"cluster": "c1"}}],
    }
    default = {"filters": [{"name": "x.http", "typed_config": {"rds": {"route_config_name": "80"}}}]}
    address = {"socket_address": {"address": "0.0.0.0", "port_value": 80}}
    listener = {"name": "l", "address": address, "filter_chains": [chain], "default_filter_chain": default}

    found = envoy_dump.listener_rows(dump("Listeners", dynamic_listeners=[{"active_state": {"listener": listener}}]))

    assert found == [("0.0.0.0", 80, "SNI: a,b; Trans: tls", "Cluster: c1"), ("0.0.0.0", 80, "ALL", "Route: 80")]


@pytest.mark.parametrize(
    ("route", "match", "action"),
    [
        ({"match": {"prefix": "/"}, "route": {"cluster": "c"}}, "/*", "c"),
        ({"match": {"path": "/a"}, "redirect": {}}, "/a", "redirect"),
        (
            {"match": {"safe_regex": {"regex": "/x.*"}}, "direct_response": {"status": 404}},
            "regex /x.*",
            "direct response 404",
        ),
        (
            {
                "match": {"prefix": "/", "headers": [{"name": "x-user"}]},
                "route": {"weighted_clusters": {"clusters": [{"name": "a", "weight": 9}, {"name": "b", "weight": 1}]}},
            },
            "/* (by x-user)",
            "a 9, b 1",
        ),
    ],
)
def test_routes_say_what_matches_and_where_it_leads(route, match, action):
    table = {"name": "80", "virtual_hosts": [{"name": "v", "domains": ["a", "b", "c"], "routes": [route]}]}

    found = envoy_dump.route_rows(dump("Routes", dynamic_route_configs=[{"route_config": table}]))

    assert found == [("80", "v", "a, b + 1 more", match, action)]


def test_an_ejected_endpoint_is_shown_as_failed():
    host = {
        "address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}},
        "health_status": {"failed_outlier_check": True, "eds_health_status": "HEALTHY"},
        "weight": 3,
        "stats": [{"name": "rq_total", "value": "7"}],
    }

    found = envoy_dump.endpoint_rows({"cluster_statuses": [{"name": "c", "host_statuses": [host]}]})

    assert found == [("10.0.0.1:80", "HEALTHY", "FAILED", 3, 7, "c")]
