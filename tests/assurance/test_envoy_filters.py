"""EnvoyFilter: what patches do to the configuration of a sidecar, and what they leave alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import verdict

SHOP = yaml.safe_load((Path(__file__).parent / "explaining" / "shop.yaml").read_text())
LUA = {
    "name": "envoy.filters.http.lua",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": "function envoy_on_request(h) end"},
    },
}
REVIEWS = "outbound|80||reviews.shop.svc.cluster.local"


def patch(apply_to: str, operation: str, value: Any = None, **match: Any) -> dict[str, Any]:
    return {"applyTo": apply_to, "match": match, "patch": {"operation": operation, "value": value}}


def filter_of(*patches: dict[str, Any], name: str = "f", namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"configPatches": list(patches)} | spec,
    }


def rendered(*filters: dict[str, Any], proxy: str = "sidecar/web-1.shop", **metadata: str) -> dict[str, Any]:
    changed = copy.deepcopy(SHOP)
    changed["clusters"][0]["objects"] += filters
    scenario = scenario_of(changed)
    node = node_of(scenario, proxy, "east")
    node["metadata"] |= metadata
    document = render(scenario, node)
    assert verdict(document) == "", "the real Envoy takes it"
    return document


def named(document: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    return next((each for each in document[kind] if each["name"] == name), {})


def http_filters(document: dict[str, Any], listener: str, chain: int = 0) -> list[str]:
    filters = named(document, "listeners", listener)["filterChains"][chain]["filters"]
    [manager] = [each for each in filters if each["name"].endswith("http_connection_manager")]
    return [each["name"].rpartition(".")[2] for each in manager["typedConfig"]["httpFilters"]]


PLAIN = rendered()


@pytest.mark.parametrize(
    ("operation", "anchor", "order"),
    [
        ("INSERT_FIRST", "", ["lua", "cors", "fault", "router"]),
        ("INSERT_BEFORE", "envoy.filters.http.fault", ["cors", "lua", "fault", "router"]),
        ("INSERT_AFTER", "envoy.filters.http.cors", ["cors", "lua", "fault", "router"]),
        ("INSERT_BEFORE", "", ["lua", "cors", "fault", "router"]),
        ("INSERT_BEFORE", "envoy.router", ["cors", "fault", "lua", "router"]),
        ("ADD", "", ["cors", "fault", "lua", "router"]),
        ("INSERT_AFTER", "envoy.filters.http.absent", ["cors", "fault", "router"]),
        ("REPLACE", "envoy.filters.http.fault", ["cors", "lua", "router"]),
    ],
)
def test_http_filters_are_put_where_they_are_wanted(operation, anchor, order):
    chain = {"filter": {"name": "envoy.filters.network.http_connection_manager", "subFilter": {"name": anchor}}}

    found = rendered(filter_of(patch("HTTP_FILTER", operation, LUA, listener={"filterChain": chain})))

    assert http_filters(found, "0.0.0.0_80") == order


def test_an_http_filter_is_removed_and_merged_into():
    def about(name: str) -> dict[str, Any]:
        return {"filterChain": {"filter": {"subFilter": {"name": name}}}}

    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
        },
    }
    found = rendered(
        filter_of(
            patch("HTTP_FILTER", "REMOVE", listener=about("envoy.filters.http.fault")),
            patch("HTTP_FILTER", "MERGE", router, listener=about("envoy.filters.http.router")),
        )
    )

    assert http_filters(found, "0.0.0.0_80") == ["cors", "router"]
    manager = named(found, "listeners", "0.0.0.0_80")["filterChains"][0]["filters"][0]["typedConfig"]
    assert manager["httpFilters"][-1]["typedConfig"]["suppressEnvoyHeaders"] is True


@pytest.mark.parametrize(
    ("context", "outbound", "inbound"),
    [
        ("ANY", True, True),
        ("SIDECAR_OUTBOUND", True, False),
        ("SIDECAR_INBOUND", False, True),
        ("GATEWAY", False, False),
    ],
)
def test_contexts(context, outbound, inbound):
    found = rendered(filter_of(patch("HTTP_FILTER", "INSERT_FIRST", LUA, context=context)), proxy="sidecar/cart-1.shop")

    assert ("lua" in http_filters(found, "0.0.0.0_80")) == outbound
    assert ("lua" in http_filters(found, "virtualInbound", 1)) == inbound


def test_a_manager_is_merged_with_what_a_network_filter_patch_says():
    value = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stream_idle_timeout": "7s",
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        },
    }
    match = {"listener": {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}}}

    found = rendered(filter_of(patch("NETWORK_FILTER", "MERGE", value, **match)))

    manager = named(found, "listeners", "0.0.0.0_80")["filterChains"][0]["filters"][0]["typedConfig"]
    assert manager["streamIdleTimeout"] == "7s"
    assert [each["upgradeType"] for each in manager["upgradeConfigs"]] == ["websocket", "CONNECT"], "lists get longer"
    assert manager["serverName"] == "istio-envoy", "the rest stays"


def test_lists_are_replaced_where_that_is_asked_for():
    value = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        },
    }

    found = rendered(filter_of(patch("NETWORK_FILTER", "MERGE_AND_REPLACE_LIST", value)))

    manager = named(found, "listeners", "0.0.0.0_80")["filterChains"][0]["filters"][0]["typedConfig"]
    assert [each["upgradeType"] for each in manager["upgradeConfigs"]] == ["CONNECT"]


@pytest.mark.parametrize(
    ("filter_class", "order"),
    [
        ("UNSPECIFIED", ["rbac", "rbac", "lua", "router"]),
        ("AUTHN", ["lua", "rbac", "rbac", "router"]),
        ("AUTHZ", ["rbac", "rbac", "lua", "router"]),
        ("STATS", ["rbac", "rbac", "lua", "router"]),
    ],
)
def test_the_class_of_a_filter_says_where_it_goes(filter_class, order):
    added = patch("HTTP_FILTER", "ADD", LUA, context="SIDECAR_INBOUND")
    added["patch"]["filterClass"] = filter_class

    found = rendered(filter_of(added), proxy="sidecar/cart-1.shop")

    assert http_filters(found, "virtualInbound", 1) == order


def test_clusters_are_merged_added_and_removed():
    added = {
        "name": "elsewhere",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "elsewhere"},
    }
    chosen = {"service": "reviews.shop.svc.cluster.local", "portNumber": 80}

    found = rendered(
        filter_of(
            patch("CLUSTER", "ADD", added),
            patch("CLUSTER", "MERGE", {"connect_timeout": "3s"}, cluster=chosen),
            patch("CLUSTER", "REMOVE", cluster={"name": "outbound|80||rates.bank.svc.cluster.local"}),
            patch("CLUSTER", "MERGE", {"per_connection_buffer_limit_bytes": 7}, context="SIDECAR_INBOUND"),
            patch("CLUSTER", "MERGE", {"per_connection_buffer_limit_bytes": 0}, context="SIDECAR_INBOUND"),
            patch("CLUSTER", "MERGE", {"connect_timeout": "2s"}, cluster={"name": "elsewhere"}),
        )
    )

    names = [each["name"] for each in found["clusters"]]
    assert "outbound|80||rates.bank.svc.cluster.local" not in names
    assert named(found, "clusters", "elsewhere")["connectTimeout"] == "2s", (
        "a later patch finds what an earlier one added"
    )
    assert named(found, "clusters", REVIEWS)["connectTimeout"] == "3s"
    assert named(found, "clusters", "InboundPassthroughCluster")["perConnectionBufferLimitBytes"] == 0, "0 can be said"
    others = [each for each in PLAIN["clusters"] if each["name"].startswith("outbound|80||cart")]
    assert [named(found, "clusters", each["name"]) for each in others] == others, "no other cluster is touched"


def test_a_transport_socket_is_merged_into_those_that_a_cluster_chooses_among():
    tls = {
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "allow_renegotiation": True,
            },
        }
    }
    found = named(rendered(filter_of(patch("CLUSTER", "MERGE", tls, cluster={"name": REVIEWS}))), "clusters", REVIEWS)

    [mutual] = [each["transportSocket"]["typedConfig"] for each in found["transportSocketMatches"]]
    assert mutual["allowRenegotiation"] is True
    assert mutual["sni"] == "outbound_.80_._.reviews.shop.svc.cluster.local"
    assert "transportSocket" not in found


def test_routes_and_virtual_hosts():
    route = {"name": "teapot", "match": {"path": "/tea"}, "direct_response": {"status": 418}}
    host = {"name": "extra", "domains": ["extra.example"], "routes": [route]}
    chosen = {"name": "80", "vhost": {"name": "reviews.shop.svc.cluster.local:80"}}
    named_route = {"vhost": chosen["vhost"] | {"route": {"name": "default"}}}

    found = rendered(
        filter_of(
            patch("HTTP_ROUTE", "INSERT_FIRST", route, routeConfiguration=chosen),
            patch("HTTP_ROUTE", "MERGE", {"route": {"timeout": "9s"}}, routeConfiguration=named_route),
            patch("VIRTUAL_HOST", "ADD", host, context="SIDECAR_OUTBOUND", routeConfiguration={"name": "80"}),
            patch(
                "ROUTE_CONFIGURATION",
                "MERGE",
                {"response_headers_to_remove": ["x"]},
                routeConfiguration={"portNumber": 80},
            ),
        )
    )

    table = named(found, "routes", "80")
    hosts = {each["name"]: each for each in table["virtualHosts"]}
    reviews = hosts["reviews.shop.svc.cluster.local:80"]["routes"]
    assert [each["name"] for each in reviews] == ["teapot", "reviews.0", "default"]
    assert reviews[2]["route"]["timeout"] == "9s"
    assert [cluster["weight"] for cluster in reviews[2]["route"]["weightedClusters"]["clusters"]] == [80, 20]
    assert hosts["extra"]["domains"] == ["extra.example"]
    assert table["responseHeadersToRemove"] == ["x"]
    assert "teapot" not in str(hosts["cart.shop.svc.cluster.local:80"])


def test_a_cluster_with_another_name_keeps_its_endpoints():
    renamed = rendered(filter_of(patch("CLUSTER", "MERGE", {"name": "mine"}, cluster={"name": REVIEWS})))

    assert named(renamed, "clusters", "mine")["edsClusterConfig"]["serviceName"] == REVIEWS


def test_what_a_route_repeats_is_its_own_where_a_patch_says_some_of_it():
    """A virtual host says once what its routes have alike; who patches one of them finds it there, as with Istio."""
    cart = {"name": "80", "vhost": {"name": "cart.shop.svc.cluster.local:80"}}
    forward = {"name": "mine", "match": {"path": "/mine"}, "route": {"cluster": REVIEWS}}

    found = rendered(
        filter_of(
            patch("HTTP_ROUTE", "MERGE", {"route": {"retry_policy": {"num_retries": 5}}}, routeConfiguration=cart),
            patch("HTTP_ROUTE", "INSERT_FIRST", forward, routeConfiguration=cart),
        )
    )

    hosts = {each["name"]: each for each in named(found, "routes", "80")["virtualHosts"]}
    mine, idempotent, other = hosts["cart.shop.svc.cluster.local:80"]["routes"]
    whole = hosts["cart.shop.svc.cluster.local:80"]["retryPolicy"]
    assert mine["route"]["retryPolicy"] == {}, "a route that is added repeats what it says, and nothing else"
    assert other["route"]["retryPolicy"] == whole | {"numRetries": 5}
    assert idempotent["route"]["retryPolicy"] == whole | {"numRetries": 5, "retryOn": whole["retryOn"] + ",reset"}
    assert "requestHeadersToAdd" not in idempotent


def test_the_inbound_route_is_inline_and_patched_there():
    found = rendered(
        filter_of(
            patch(
                "HTTP_ROUTE",
                "MERGE",
                {"route": {"timeout": "4s"}},
                context="SIDECAR_INBOUND",
                routeConfiguration={"portNumber": 8080},
            )
        ),
        proxy="sidecar/cart-1.shop",
    )

    tables = [
        each["typedConfig"]["routeConfig"]
        for chain in named(found, "listeners", "virtualInbound")["filterChains"]
        for each in chain["filters"]
        if "routeConfig" in each.get("typedConfig", {})
    ]
    by_name = {table["name"]: table["virtualHosts"][0]["routes"][0]["route"]["timeout"] for table in tables}
    assert by_name == {"inbound|8080||": "4s", "InboundPassthroughCluster": "0s"}


def test_listeners_chains_and_listener_filters():
    extra = {"name": "extra", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 9999}}}
    tcp = {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "x",
            "cluster": "BlackHoleCluster",
        },
    }
    inspector = {
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
        },
    }
    here = {"listener": {"name": "extra"}}
    found = rendered(
        filter_of(
            patch("LISTENER", "ADD", extra, context="SIDECAR_OUTBOUND"),
            patch("FILTER_CHAIN", "ADD", {"name": "all", "filters": [tcp]}, **here),
            patch("LISTENER_FILTER", "ADD", inspector, **here),
            patch("LISTENER", "MERGE", {"per_connection_buffer_limit_bytes": 1024}, listener={"portNumber": 9000}),
            patch(
                "FILTER_CHAIN",
                "REMOVE",
                listener={"portNumber": 80, "filterChain": {"transportProtocol": "raw_buffer"}},
            ),
        )
    )

    [added] = [each for each in found["listeners"] if each["name"] == "extra"]
    assert [chain["name"] for chain in added["filterChains"]] == ["all"]
    assert [each["name"] for each in added["listenerFilters"]] == ["envoy.filters.listener.tls_inspector"]
    limits = {each["name"]: each.get("perConnectionBufferLimitBytes") for each in found["listeners"]}
    assert limits["10.97.0.2_9000"] == 1024
    assert limits["0.0.0.0_80"] is None
    assert "filterChains" not in named(found, "listeners", "0.0.0.0_80")


def test_an_extension_that_is_to_be_fetched_is_inline():
    discovered = {
        "name": "shared",
        "config_discovery": {"config_source": {"ads": {}}, "type_urls": [LUA["typed_config"]["@type"]]},
    }
    found = rendered(
        filter_of(
            patch("EXTENSION_CONFIG", "ADD", {"name": "shared", "typed_config": LUA["typed_config"]}),
            patch("HTTP_FILTER", "INSERT_FIRST", discovered, context="SIDECAR_OUTBOUND"),
        )
    )

    manager = named(found, "listeners", "0.0.0.0_80")["filterChains"][0]["filters"][0]["typedConfig"]
    assert manager["httpFilters"][0]["typedConfig"]["@type"] == LUA["typed_config"]["@type"]


UNCHANGED = named(PLAIN, "clusters", REVIEWS)["connectTimeout"]


def timeout(seconds: int, **more: Any) -> dict[str, Any]:
    value = {"connect_timeout": f"{seconds}s"}
    return filter_of(patch("CLUSTER", "MERGE", value, cluster={"name": REVIEWS}), **more)


@pytest.mark.parametrize(
    ("filters", "seconds"),
    [
        ([timeout(1, name="a"), timeout(3, name="b")], "3s"),
        ([timeout(1, name="a", priority=10), timeout(2, name="b")], "1s"),
        ([timeout(1, name="a"), timeout(2, name="b", namespace="istio-system")], "1s"),
        ([timeout(1, name="a", namespace="istio-system", priority=1), timeout(2, name="b")], "1s"),
        ([timeout(1, namespace="bank")], UNCHANGED),
        ([timeout(1, workloadSelector={"labels": {"app": "web"}})], "1s"),
        ([timeout(1, workloadSelector={"labels": {"app": "other"}})], UNCHANGED),
    ],
)
def test_which_filters_hold_and_which_is_last(filters, seconds):
    assert named(rendered(*filters), "clusters", REVIEWS)["connectTimeout"] == seconds


def test_a_patch_may_choose_proxies_by_what_they_say_of_themselves():
    def chosen(**proxy: Any) -> str:
        value = patch("CLUSTER", "MERGE", {"connect_timeout": "1s"}, cluster={"name": REVIEWS}, proxy=proxy)
        return str(
            named(rendered(filter_of(value), ISTIO_VERSION="1.29.1", TEAM="a"), "clusters", REVIEWS)["connectTimeout"]
        )

    assert chosen(proxyVersion=r"^1\.29.*") == "1s"
    assert chosen(proxyVersion=r"^1\.30.*") == UNCHANGED
    assert chosen(metadata={"TEAM": "a"}) == "1s"
    assert chosen(metadata={"TEAM": "b"}) == UNCHANGED


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        (patch("CLUSTER", "MERGE", {"conect_timeout": "1s"}), "no envoy.config.cluster.v3.Cluster", "conect_timeout"),
        (
            patch(
                "HTTP_FILTER", "ADD", {"name": "x", "typed_config": {"@type": "type.googleapis.com/istio.stats.Config"}}
            ),
            "this Envoy has no type",
            "istio.stats",
        ),
        (patch("BOOTSTRAP", "MERGE", {}), "the agent writes the bootstrap", "applyTo"),
        (
            patch("CLUSTER", "INSERT_FIRST", {"name": "x"}),
            "a CLUSTER cannot be patched by INSERT_FIRST",
            "ADD, MERGE, MERGE_AND_REPLACE_LIST, REMOVE",
        ),
        (patch("ROUTER", "ADD", {}), "there is no applyTo ROUTER", "HTTP_FILTER"),
        (patch("CLUSTER", "MERGE", None), "MERGE needs a value", ""),
        (patch("CLUSTER", "MERGE", {"name": "x"}, context="SIDECAR"), "there is no context SIDECAR", "SIDECAR_INBOUND"),
        (patch("CLUSTER", "MERGE", {"name": "x"}, proxy={"proxyVersion": "("}), "is no expression", ""),
    ],
)
def test_a_patch_that_cannot_be_applied_is_told_and_loses_nothing_else(bad, code, says):
    good = patch("CLUSTER", "MERGE", {"connect_timeout": "3s"}, cluster={"name": REVIEWS})

    found = rendered(filter_of(bad, good))

    [warning] = [each for each in found["warnings"] if each.startswith("EnvoyFilter shop/f in east")]
    assert code in warning
    assert says in warning
    assert named(found, "clusters", REVIEWS)["connectTimeout"] == "3s"
    assert {each["name"] for each in found["listeners"]} == {each["name"] for each in PLAIN["listeners"]}
