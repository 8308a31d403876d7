"""What patches add or merge, as messages; and which of them are none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import json_format

from isthmus.envoy.patches.types import load_named_in
from isthmus.model.envoy_filters import ApplyTo, ConfigPatch, EnvoyFilter
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId
from isthmus.model.snapshot import Snapshot

_MESSAGES: dict[ApplyTo, Any] = {
    ApplyTo.LISTENER: listener_pb2.Listener,
    ApplyTo.FILTER_CHAIN: listener_components_pb2.FilterChain,
    ApplyTo.LISTENER_FILTER: listener_components_pb2.ListenerFilter,
    ApplyTo.NETWORK_FILTER: listener_components_pb2.Filter,
    ApplyTo.HTTP_FILTER: http_connection_manager_pb2.HttpFilter,
    ApplyTo.ROUTE_CONFIGURATION: route_pb2.RouteConfiguration,
    ApplyTo.VIRTUAL_HOST: route_components_pb2.VirtualHost,
    ApplyTo.HTTP_ROUTE: route_components_pb2.Route,
    ApplyTo.CLUSTER: cluster_pb2.Cluster,
    ApplyTo.EXTENSION_CONFIG: extension_pb2.TypedExtensionConfig,
}


_AT = re.compile(r' at "?(\w+)((?:\.\w+|\[[^\]]*\])*)"?\.?$')
"""At the end of what protobuf says: the message, and the path in it."""


class NotAMessage(ValueError):
    """A value that Envoy's API does not have; the text says what is wrong with it. `path` leads there, as far as protobuf says it. `is_unknown`:
    another Envoy may have it."""

    def __init__(self, what: str, *, path: str = "", is_unknown: bool = False) -> None:
        super().__init__(what)
        self.path, self.is_unknown = path, is_unknown


@lru_cache(maxsize=256)
def value_of(patch: ConfigPatch) -> Any:
    """The patch's value, to be copied from and never changed; None for a patch that needs none. Raises NotAMessage."""
    if not patch.value:
        return None
    return parsed(json.loads(patch.value), patch.apply_to)


def parsed(value: Any, apply_to: ApplyTo) -> Any:
    """The message that patches of this kind add or merge. Raises NotAMessage."""
    try:
        load_named_in(value)
        return json_format.ParseDict(value, _MESSAGES[apply_to]())
    except KeyError as error:
        raise NotAMessage(f"this Envoy has no type {error.args[0]}", is_unknown=True) from None
    except (json_format.ParseError, TypeError, ValueError) as error:
        # The first line says what is wrong; the others list every field that there is.
        said = str(error).partition("\n")[0]
        place = _AT.search(said)
        unknown = " has no field named " in said
        raise NotAMessage(said.rstrip("."), path=place[2] if place else "", is_unknown=unknown) from None


def usable(patches: Iterable[ConfigPatch]) -> Iterator[tuple[ConfigPatch, Any]]:
    """The patches that can be applied, each with its value."""
    for patch in patches:
        try:
            yield patch, value_of(patch)
        except NotAMessage:
            continue


def problems(filters: Iterable[EnvoyFilter], cluster: ClusterId) -> tuple[Issue, ...]:
    """An issue for each patch that cannot be applied, on its EnvoyFilter."""
    found = []
    for each in filters:
        for patch in each.patches:
            try:
                value_of(patch)
            except NotAMessage as error:
                found.append(
                    Issue(
                        subject=Subject(cluster, "EnvoyFilter", each.namespace, each.name),
                        code="ISM0502",
                        severity=Severity.ERROR,
                        what=f"the value is no {_MESSAGES[patch.apply_to].DESCRIPTOR.full_name}: {error}: the patch is left out",
                        fix="write it as Envoy's API has it; its other patches, and all other configuration, count",
                        field=f"spec.configPatches[{patch.index}].patch.value",
                    )
                )
    return tuple(found)


def issues_of(snapshot: Snapshot) -> tuple[Issue, ...]:
    """Everything that is wrong with the objects of a snapshot, what only Envoy's own types can tell included."""
    if not snapshot.envoy_filters:
        return snapshot.issues
    config = next((each.id for each in snapshot.clusters.values() if each.is_config_cluster), ClusterId(""))
    return tuple(sorted({*snapshot.issues, *problems(snapshot.envoy_filters, config)}))
