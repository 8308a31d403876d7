"""Istio's EnvoyFilter: changes to Envoy's own configuration, as values. What they change is not known here, only where.

Values are kept as JSON text, so that they can be compared and hashed; what they mean is `envoy.patches`' to say.
"""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from isthmus.model.names import Namespace
from isthmus.model.origins import Origin
from isthmus.model.security import Labels
from isthmus.model.values import dataclass

VERSION = "ISTIO_VERSION"
"""What a proxy says of its version, in its node metadata."""


class ApplyTo(StrEnum):
    """What is changed."""

    LISTENER = "LISTENER"
    FILTER_CHAIN = "FILTER_CHAIN"
    LISTENER_FILTER = "LISTENER_FILTER"
    NETWORK_FILTER = "NETWORK_FILTER"
    HTTP_FILTER = "HTTP_FILTER"
    ROUTE_CONFIGURATION = "ROUTE_CONFIGURATION"
    VIRTUAL_HOST = "VIRTUAL_HOST"
    HTTP_ROUTE = "HTTP_ROUTE"
    CLUSTER = "CLUSTER"
    EXTENSION_CONFIG = "EXTENSION_CONFIG"


class Operation(StrEnum):
    """How it is changed."""

    MERGE = "MERGE"
    MERGE_AND_REPLACE_LIST = "MERGE_AND_REPLACE_LIST"
    ADD = "ADD"
    REMOVE = "REMOVE"
    INSERT_BEFORE = "INSERT_BEFORE"
    INSERT_AFTER = "INSERT_AFTER"
    INSERT_FIRST = "INSERT_FIRST"
    REPLACE = "REPLACE"


class FilterClass(StrEnum):
    """Beside which filters of the mesh's own an HTTP filter is put, where a patch that adds it names none."""

    UNSPECIFIED = "UNSPECIFIED"
    AUTHN = "AUTHN"
    AUTHZ = "AUTHZ"
    STATS = "STATS"


class Context(StrEnum):
    """Which side of which proxies."""

    ANY = "ANY"
    SIDECAR_INBOUND = "SIDECAR_INBOUND"
    SIDECAR_OUTBOUND = "SIDECAR_OUTBOUND"
    GATEWAY = "GATEWAY"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerChoice:
    """Which listeners, chains and filters. Empty and 0 mean any."""

    port: int = 0
    name: str = ""
    listener_filter: str = ""
    chain: str = ""
    sni: str = ""
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()
    destination_port: int = 0
    filter: str = ""
    sub_filter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChoice:
    """Which route tables, virtual hosts and routes. `action`: ROUTE, REDIRECT, DIRECT_RESPONSE, or empty for any."""

    port: int = 0
    port_name: str = ""
    gateway: str = ""
    table: str = ""
    host: str = ""
    domain: str = ""
    route: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterChoice:
    """Which of Envoy's clusters."""

    port: int = 0
    service: str = ""
    subset: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigPatch:
    """One change. `value` is JSON; empty for REMOVE. `index` is its place in its EnvoyFilter.

    `proxy_version` is an expression, `claims` what the proxy has to say about itself.
    """

    origin: Origin
    index: int
    apply_to: ApplyTo
    operation: Operation
    context: Context = Context.ANY
    value: str = ""
    filter_class: FilterClass = FilterClass.UNSPECIFIED
    listener: ListenerChoice = field(default_factory=ListenerChoice)
    routes: RouteChoice = field(default_factory=RouteChoice)
    cluster: ClusterChoice = field(default_factory=ClusterChoice)
    proxy_version: str = ""
    claims: Labels = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyFilter:
    """`selector` empty chooses every proxy of the namespace, in the root namespace of the mesh. `gateways` are Gateway API's, by name."""

    priority: int
    created: str
    namespace: Namespace
    name: str
    selector: Labels
    gateways: tuple[str, ...]
    patches: tuple[ConfigPatch, ...]
