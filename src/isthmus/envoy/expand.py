"""Resources as proto3 JSON with every Any expanded: what `render` prints and what people read."""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_spiffe_validator_config_pb2 as _in_secrets  # noqa: F401
from google.protobuf import wrappers_pb2

# The compiler's modules bring the description of every message that they pack into an Any; without it none could be expanded.
from isthmus.envoy import compile as _compile  # noqa: F401
from isthmus.envoy import name_table
from isthmus.envoy.proto_json import to_json
from isthmus.envoy.resources import (
    BUNDLES,
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    NAME_TABLE,
    OWN_TRUST,
    ROUTES,
    SECRET,
    Resource,
    ResourceSet,
)

_MESSAGES: dict[str, Any] = {
    CLUSTER: cluster_pb2.Cluster,
    ENDPOINTS: endpoint_pb2.ClusterLoadAssignment,
    EXTENSION: extension_pb2.TypedExtensionConfig,
    LISTENER: listener_pb2.Listener,
    ROUTES: route_pb2.RouteConfiguration,
    SECRET: secret_pb2.Secret,
    NAME_TABLE: name_table.NameTable,
    BUNDLES: wrappers_pb2.StringValue,
    OWN_TRUST: wrappers_pb2.StringValue,
}

_USUAL_NAMES = {"RBAC": "envoy.filters.http.rbac", "JwtAuthentication": "envoy.filters.http.jwt_authn"}
"""Of filters, by the type of their configuration."""


def decoded(type_url: str, body: bytes) -> Any:
    """The message of a resource. Raises KeyError for a type that this project does not send."""
    return _MESSAGES[type_url].FromString(body)


def as_json(type_url: str, resource: Resource) -> dict[str, Any]:
    """One resource as proto3 JSON."""
    found: dict[str, Any] = to_json(decoded(type_url, resource.body))
    return found


def expanded(resources: ResourceSet, type_url: str) -> list[dict[str, Any]]:
    """Every resource of the type, sorted by name."""
    found = sorted(resources.of_type(type_url).values(), key=lambda resource: resource.name)
    return [as_json(type_url, resource) for resource in found]


def document_of(node: dict[str, Any], resources: ResourceSet) -> dict[str, Any]:
    """Everything that a proxy is given, as `isthmus render` prints it: filters with the configurations that they fetch."""
    tables = expanded(resources, NAME_TABLE)
    return {
        "node": node,
        "listeners": with_extensions(expanded(resources, LISTENER), expanded(resources, EXTENSION)),
        "routes": expanded(resources, ROUTES),
        "clusters": expanded(resources, CLUSTER),
        "endpoints": expanded(resources, ENDPOINTS),
        "nameTable": tables[0] if tables else {"table": {}},
        "warnings": [],
    }


def with_extensions(listeners: list[dict[str, Any]], extensions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Listeners with what their filters fetch in its place, under the filters' usual names. Those that ask nothing are left out."""
    fetched = {each["name"]: each["typedConfig"] for each in extensions}
    found: list[dict[str, Any]] = _with_fetched(listeners, fetched)
    return found


def _with_fetched(node: Any, fetched: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_with_fetched(each, fetched) for each in node if not _asks_nothing(each, fetched)]
    if not isinstance(node, dict):
        return node
    if _is_fetched(node, fetched):
        config = fetched[node["name"]]
        return {"name": _USUAL_NAMES[config["@type"].rpartition(".")[2]], "typedConfig": config}
    return {key: _with_fetched(value, fetched) for key, value in node.items()}


def _asks_nothing(node: Any, fetched: dict[str, Any]) -> bool:
    return _is_fetched(node, fetched) and fetched[node["name"]].keys() == {"@type"}


def _is_fetched(node: Any, fetched: dict[str, Any]) -> bool:
    return isinstance(node, dict) and "configDiscovery" in node and node.get("name") in fetched
