"""Resources as proto3 JSON with every Any expanded: what `render` prints and what people read."""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

# The compiler's modules bring the description of every message that they pack into an Any; without it none could be expanded.
from isthmus.envoy import compile as _compile  # noqa: F401
from isthmus.envoy import name_table
from isthmus.envoy import secrets as _secrets  # noqa: F401
from isthmus.envoy.proto_json import to_json
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, NAME_TABLE, ROUTES, SECRET, Resource, ResourceSet

_MESSAGES: dict[str, Any] = {
    CLUSTER: cluster_pb2.Cluster,
    ENDPOINTS: endpoint_pb2.ClusterLoadAssignment,
    LISTENER: listener_pb2.Listener,
    ROUTES: route_pb2.RouteConfiguration,
    SECRET: secret_pb2.Secret,
    NAME_TABLE: name_table.NameTable,
}


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
    """Everything that a proxy is given, as `isthmus render` prints it."""
    tables = expanded(resources, NAME_TABLE)
    return {
        "node": node,
        "listeners": expanded(resources, LISTENER),
        "routes": expanded(resources, ROUTES),
        "clusters": expanded(resources, CLUSTER),
        "endpoints": expanded(resources, ENDPOINTS),
        "nameTable": tables[0] if tables else {"table": {}},
        "warnings": [],
    }
