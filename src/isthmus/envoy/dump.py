"""What an Envoy has accepted, out of its own configuration dump, as resources that can be given to another one.

The dump is proto3 JSON (`/config_dump?include_eds`). Static parts and secrets are not in the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf import json_format

from isthmus.envoy import compile as _every_extension
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, Resource, ResourceSet

_ = _every_extension
"""Imported for the messages of all extensions that our configuration holds: JSON names them, and they have to be known."""

_MESSAGES = {
    CLUSTER: cluster_pb2.Cluster,
    ENDPOINTS: endpoint_pb2.ClusterLoadAssignment,
    EXTENSION: extension_pb2.TypedExtensionConfig,
    LISTENER: listener_pb2.Listener,
    ROUTES: route_pb2.RouteConfiguration,
}
_NAMES = {ENDPOINTS: "cluster_name"}


def resources_in(dump: Mapping[str, Any]) -> ResourceSet:
    """Raises ValueError for what is not a dump of configuration that we made."""
    found: dict[str, dict[str, Resource]] = {type_url: {} for type_url in _MESSAGES}
    for entry in _dynamic(dump):
        type_url = str(entry.get("@type", ""))
        if type_url in _MESSAGES:
            try:
                message = json_format.ParseDict({k: v for k, v in entry.items() if k != "@type"}, _MESSAGES[type_url]())
            except json_format.ParseError as error:
                raise ValueError(str(error)) from None
            name = str(getattr(message, _NAMES.get(type_url, "name")))
            found[type_url][name] = Resource.of(name, message)
    return ResourceSet(MappingProxyType({type_url: MappingProxyType(named) for type_url, named in found.items()}))


def _dynamic(dump: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for config in dump.get("configs") or ():
        for cluster in config.get("dynamic_active_clusters") or ():
            yield cluster.get("cluster") or {}
        for listener in config.get("dynamic_listeners") or ():
            yield (listener.get("active_state") or {}).get("listener") or {}
        for routes in config.get("dynamic_route_configs") or ():
            yield routes.get("route_config") or {}
        for endpoints in config.get("dynamic_endpoint_configs") or ():
            yield endpoints.get("endpoint_config") or {}
        for extension in config.get("ecds_filters") or ():
            yield extension.get("ecds_filter") or {}
