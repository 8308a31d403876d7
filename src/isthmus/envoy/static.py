"""A rendered document as one static bootstrap: routes and endpoints inlined, so that Envoy can judge all of it without a control plane."""

from __future__ import annotations

from typing import Any

from isthmus.envoy.bootstrap import RUNTIME

Object = dict[str, Any]


def static_bootstrap(document: Object) -> Object:
    """What `envoy --mode validate` is given. Only the delivery of resources is changed; secrets stay with SDS, which is stood in for: a static
    cluster that asked for one over ADS, as those that are delivered do, would crash Envoy (1.40).
    """
    endpoints = {assignment["clusterName"]: assignment for assignment in document["endpoints"]}
    routes = {table["name"]: table for table in document["routes"]}
    clusters = [_with_secrets_apart(_with_endpoints(cluster, endpoints)) for cluster in document["clusters"]]
    return {
        "node": {"id": "validated", "cluster": "validated"},
        "layeredRuntime": {"layers": [{"name": "static", "staticLayer": RUNTIME}]},
        "staticResources": {
            "clusters": [*clusters, _secret_source()],
            "listeners": [_with_routes(listener, routes) for listener in document["listeners"]],
        },
    }


def _secret_source() -> Object:
    """Resources name this cluster of the bootstrap as their source of secrets."""
    return {
        "name": "sds-grpc",
        "typedExtensionProtocolOptions": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicitHttpConfig": {"http2ProtocolOptions": {}},
            }
        },
        "loadAssignment": {
            "clusterName": "sds-grpc",
            "endpoints": [{"lbEndpoints": [{"endpoint": {"address": {"pipe": {"path": "/nowhere"}}}}]}],
        },
    }


def _with_endpoints(cluster: Object, endpoints: Object) -> Object:
    if cluster.get("type") != "EDS":
        return cluster
    kept = {key: value for key, value in cluster.items() if key not in ("type", "edsClusterConfig")}
    return {**kept, "loadAssignment": endpoints[cluster["edsClusterConfig"].get("serviceName", cluster["name"])]}


def _with_secrets_apart(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_secrets_apart(each) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: _with_secrets_apart(value) for key, value in node.items()}
    return {**found, "sdsConfig": _APART} if "ads" in found.get("sdsConfig", {}) else found


_APART: Object = {
    "apiConfigSource": {
        "apiType": "GRPC",
        "transportApiVersion": "V3",
        "grpcServices": [{"envoyGrpc": {"clusterName": "sds-grpc"}}],
    },
    "resourceApiVersion": "V3",
}


def _with_routes(node: Any, routes: Object) -> Any:
    if isinstance(node, list):
        return [_with_routes(each, routes) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: _with_routes(value, routes) for key, value in node.items() if key != "rds"}
    return {**found, "routeConfig": routes[node["rds"]["routeConfigName"]]} if "rds" in node else found
