"""Patches on resources. An unpatched resource stays the very same; a patched one is computed once for all the proxies that have it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2

from isthmus.envoy.patches import clusters, listeners, routes
from isthmus.envoy.patches.values import usable
from isthmus.envoy.resources import CLUSTER, LISTENER, ROUTES, Resource
from isthmus.incremental.while_used import while_used
from isthmus.model.envoy_filters import ApplyTo, ConfigPatch, Context, Operation
from isthmus.model.views import ProxyKind

Typed = tuple[str, Resource]
Patches = tuple[ConfigPatch, ...]

_OF_ROUTES = (ApplyTo.ROUTE_CONFIGURATION, ApplyTo.VIRTUAL_HOST, ApplyTo.HTTP_ROUTE)
_OF_LISTENERS = (
    ApplyTo.LISTENER,
    ApplyTo.FILTER_CHAIN,
    ApplyTo.LISTENER_FILTER,
    ApplyTo.NETWORK_FILTER,
    ApplyTo.HTTP_FILTER,
    ApplyTo.EXTENSION_CONFIG,
    *_OF_ROUTES,
)
_ABOUT: dict[str, tuple[ApplyTo, ...]] = {CLUSTER: (ApplyTo.CLUSTER,), LISTENER: _OF_LISTENERS, ROUTES: _OF_ROUTES}


def patched(found: Iterable[Typed], patches: Patches, side: Context) -> Iterator[Typed]:
    """The resources as the patches for this side leave them."""
    if not patches:
        yield from found
        return
    held = _held(patches, side)
    for type_url, resource in found:
        about = tuple(patch for patch in held if patch.apply_to in _ABOUT.get(type_url, ()))
        changed = patched_resource(type_url, resource, about) if about else resource
        if changed is not None:
            yield type_url, changed


def added(patches: Patches, side: Context) -> Iterator[Typed]:
    """Whole listeners and clusters that patches add, with what later patches say of them."""
    held = _held(patches, side)
    for patch, value in usable(held):
        if patch.operation is Operation.ADD and patch.apply_to in (ApplyTo.CLUSTER, ApplyTo.LISTENER):
            kind = CLUSTER if patch.apply_to is ApplyTo.CLUSTER else LISTENER
            later = tuple(each for each in held[held.index(patch) + 1 :] if each.apply_to in _ABOUT[kind])
            changed = patched_resource(kind, Resource.of(value.name, value), later)
            if changed is not None:
                yield kind, changed


def side_of(kind: ProxyKind, *, inbound: bool) -> Context:
    """Of what a proxy has for what goes out, or for what comes in."""
    if kind is ProxyKind.ROUTER:
        return Context.GATEWAY
    return Context.SIDECAR_INBOUND if inbound else Context.SIDECAR_OUTBOUND


@while_used
def patched_resource(type_url: str, resource: Resource, patches: Patches) -> Resource | None:
    """None where a patch removes it."""
    message = _message(type_url, resource.body)
    for patch, value in usable(patches):
        match type_url:
            case _ if type_url == CLUSTER:
                kept = clusters.patch(message, patch, value)
            case _ if type_url == LISTENER:
                kept = listeners.patch(message, patch, _with_extension(value, patch, patches))
            case _:
                routes.patch(message, patch, value)
                kept = True
        if not kept:
            return None
    changed = Resource.of(resource.name, message)
    return resource if changed.version == resource.version else changed


def _held(patches: Patches, side: Context) -> Patches:
    return tuple(patch for patch in patches if patch.context in (Context.ANY, side))


def _message(type_url: str, body: bytes) -> Any:
    kinds = {CLUSTER: cluster_pb2.Cluster, LISTENER: listener_pb2.Listener, ROUTES: route_pb2.RouteConfiguration}
    return kinds[type_url].FromString(body)


def _with_extension(value: Any, patch: ConfigPatch, patches: Patches) -> Any:
    """A filter whose configuration is to be fetched has it inline, where an EXTENSION_CONFIG patch gives it: nothing is fetched here."""
    if patch.apply_to is not ApplyTo.HTTP_FILTER or value is None or not value.HasField("config_discovery"):
        return value
    for each, extension in usable(patches):
        if each.apply_to is ApplyTo.EXTENSION_CONFIG and extension.name == value.name:
            inline = type(value)(name=value.name)
            inline.typed_config.CopyFrom(extension.typed_config)
            return inline
    return value
