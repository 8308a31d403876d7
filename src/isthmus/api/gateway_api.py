"""Gateway API's kinds (gateway.networking.k8s.io), as far as they are read: gateways, routes, and what may refer to what."""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.api.meta import KubernetesObject, PortNumber, Wire

GROUP = "gateway.networking.k8s.io"
RELEASE, CHANNEL = "v1.6.0", "standard"
"""Of Gateway API: the one whose kinds, versions and fields these are."""


class ParentReference(Wire, frozen=True):
    name: str
    group: str = GROUP
    kind: str = "Gateway"
    namespace: str = ""
    section_name: str = ""
    port: int = 0


class ObjectReference(Wire, frozen=True):
    name: str
    group: str = ""
    kind: str = "Secret"
    namespace: str = ""


class LocalReference(Wire, frozen=True):
    """An object of the referrer's own namespace."""

    name: str
    kind: str
    group: str = ""


class Header(Wire, frozen=True):
    name: str
    value: str = ""


class HeaderModifier(Wire, frozen=True):
    set: list[Header] = []
    add: list[Header] = []
    remove: list[str] = []


class PathModifier(Wire, frozen=True):
    type: str = ""
    replace_full_path: str = ""
    replace_prefix_match: str = ""


class RequestRedirect(Wire, frozen=True):
    scheme: str = ""
    hostname: str = ""
    path: PathModifier | None = None
    port: int = 0
    status_code: int = 302


class UrlRewrite(Wire, frozen=True):
    hostname: str = ""
    path: PathModifier | None = None


class Fraction(Wire, frozen=True):
    numerator: int
    denominator: int = 100


class TargetReference(Wire, frozen=True):
    """What requests go to. `port` is asked for where the kind is Service."""

    name: str
    group: str = ""
    kind: str = "Service"
    namespace: str = ""
    port: int = 0


class RequestMirror(Wire, frozen=True):
    backend_ref: TargetReference
    percent: int | None = None
    fraction: Fraction | None = None


class Cors(Wire, frozen=True):
    allow_origins: list[str] = []
    allow_methods: list[str] = []
    allow_headers: list[str] = []
    expose_headers: list[str] = []
    allow_credentials: bool | None = None
    max_age: int | None = None


class RouteFilter(Wire, frozen=True):
    type: str
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    request_mirror: RequestMirror | None = None
    request_redirect: RequestRedirect | None = None
    url_rewrite: UrlRewrite | None = None
    cors: Cors | None = None


class BackendReference(TargetReference, frozen=True):
    weight: int = 1
    filters: list[RouteFilter] = []


class PathMatch(Wire, frozen=True):
    type: str = "PathPrefix"
    value: str = "/"


class NameMatch(Wire, frozen=True):
    """Of a header or a query parameter."""

    name: str
    value: str = ""
    type: str = "Exact"


class HttpRouteMatch(Wire, frozen=True):
    path: PathMatch = msgspec.field(default_factory=PathMatch)
    headers: list[NameMatch] = []
    query_params: list[NameMatch] = []
    method: str = ""


class RouteTimeouts(Wire, frozen=True):
    request: str = ""
    backend_request: str = ""


class RouteRetry(Wire, frozen=True):
    codes: list[int] = []
    attempts: int | None = None
    backoff: str = ""


class HttpRouteRule(Wire, frozen=True):
    name: str = ""
    matches: list[HttpRouteMatch] = []
    filters: list[RouteFilter] = []
    backend_refs: list[BackendReference] = []
    timeouts: RouteTimeouts = msgspec.field(default_factory=RouteTimeouts)
    retry: RouteRetry | None = None
    session_persistence: dict[str, Any] | None = None


class GrpcMethodMatch(Wire, frozen=True):
    type: str = "Exact"
    service: str = ""
    method: str = ""


class GrpcRouteMatch(Wire, frozen=True):
    method: GrpcMethodMatch | None = None
    headers: list[NameMatch] = []


class GrpcRouteRule(Wire, frozen=True):
    name: str = ""
    matches: list[GrpcRouteMatch] = []
    filters: list[RouteFilter] = []
    backend_refs: list[BackendReference] = []
    session_persistence: dict[str, Any] | None = None


class ConnectionRouteRule(Wire, frozen=True):
    name: str = ""
    backend_refs: list[BackendReference] = []


class RouteSpec(Wire, frozen=True):
    """What all kinds of routes have."""

    parent_refs: list[ParentReference] = []
    hostnames: list[str] = []


class HttpRouteSpec(RouteSpec, frozen=True):
    rules: list[HttpRouteRule] = msgspec.field(default_factory=lambda: [HttpRouteRule()])


class GrpcRouteSpec(RouteSpec, frozen=True):
    rules: list[GrpcRouteRule] = []


class ConnectionRouteSpec(RouteSpec, frozen=True):
    rules: list[ConnectionRouteRule] = []


class HTTPRoute(KubernetesObject, frozen=True):
    spec: HttpRouteSpec = msgspec.field(default_factory=HttpRouteSpec)
    status: dict[str, Any] = {}


class GRPCRoute(KubernetesObject, frozen=True):
    spec: GrpcRouteSpec = msgspec.field(default_factory=GrpcRouteSpec)
    status: dict[str, Any] = {}


class TLSRoute(KubernetesObject, frozen=True):
    spec: ConnectionRouteSpec = msgspec.field(default_factory=ConnectionRouteSpec)
    status: dict[str, Any] = {}


class TCPRoute(KubernetesObject, frozen=True):
    spec: ConnectionRouteSpec = msgspec.field(default_factory=ConnectionRouteSpec)
    status: dict[str, Any] = {}


class UDPRoute(KubernetesObject, frozen=True):
    spec: ConnectionRouteSpec = msgspec.field(default_factory=ConnectionRouteSpec)
    status: dict[str, Any] = {}


Route = HTTPRoute | GRPCRoute | TLSRoute | TCPRoute | UDPRoute


class LabelRequirement(Wire, frozen=True):
    key: str
    operator: str
    values: list[str] = []


class LabelSelector(Wire, frozen=True):
    match_labels: dict[str, str] = {}
    match_expressions: list[LabelRequirement] = []


class AttachingNamespaces(Wire, frozen=True):
    """Of what may attach: routes to a listener, ListenerSets to a Gateway."""

    from_: str = msgspec.field(default="Same", name="from")
    selector: LabelSelector | None = None


class RouteKind(Wire, frozen=True):
    kind: str
    group: str = GROUP


class AllowedRoutes(Wire, frozen=True):
    namespaces: AttachingNamespaces = msgspec.field(default_factory=AttachingNamespaces)
    kinds: list[RouteKind] = []


class FrontendValidation(Wire, frozen=True):
    ca_certificate_refs: list[ObjectReference] = []
    mode: str = "AllowValidOnly"


class ListenerTls(Wire, frozen=True):
    mode: str = "Terminate"
    certificate_refs: list[ObjectReference] = []
    options: dict[str, str] = {}


class GatewayListenerTls(ListenerTls, frozen=True):
    frontend_validation: FrontendValidation | None = None


class ListenerEntry(Wire, frozen=True):
    name: str
    port: PortNumber
    protocol: str
    hostname: str = ""
    tls: ListenerTls | None = None
    allowed_routes: AllowedRoutes = msgspec.field(default_factory=AllowedRoutes)


class Listener(ListenerEntry, frozen=True):
    """One that is written in the Gateway itself."""

    tls: GatewayListenerTls | None = None


class ListenerNamespaces(AttachingNamespaces, frozen=True):
    from_: str = msgspec.field(default="None", name="from")


class AllowedListeners(Wire, frozen=True):
    namespaces: ListenerNamespaces = msgspec.field(default_factory=ListenerNamespaces)


class GatewayAddress(Wire, frozen=True):
    value: str = ""
    type: str = "IPAddress"


class FrontendTlsEntry(Wire, frozen=True):
    validation: FrontendValidation | None = None


class FrontendTlsOfPort(Wire, frozen=True):
    port: PortNumber
    tls: FrontendTlsEntry = msgspec.field(default_factory=FrontendTlsEntry)


class FrontendTls(Wire, frozen=True):
    default: FrontendTlsEntry = msgspec.field(default_factory=FrontendTlsEntry)
    per_port: list[FrontendTlsOfPort] = []


class GatewayTlsConfig(Wire, frozen=True):
    frontend: FrontendTls = msgspec.field(default_factory=FrontendTls)


class GatewayInfrastructure(Wire, frozen=True):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class KubernetesGatewaySpec(Wire, frozen=True):
    gateway_class_name: str = ""
    listeners: list[Listener] = []
    addresses: list[GatewayAddress] = []
    allowed_listeners: AllowedListeners | None = None
    tls: GatewayTlsConfig = msgspec.field(default_factory=GatewayTlsConfig)
    infrastructure: GatewayInfrastructure = msgspec.field(default_factory=GatewayInfrastructure)


class KubernetesGateway(KubernetesObject, frozen=True):
    """Gateway API's Gateway; Istio's own kind has the same name."""

    spec: KubernetesGatewaySpec = msgspec.field(default_factory=KubernetesGatewaySpec)
    status: dict[str, Any] = {}


class ParentGateway(Wire, frozen=True):
    name: str
    group: str = GROUP
    kind: str = "Gateway"
    namespace: str = ""


class ListenerSetSpec(Wire, frozen=True):
    parent_ref: ParentGateway = msgspec.field(default_factory=lambda: ParentGateway(name=""))
    listeners: list[ListenerEntry] = []


class ListenerSet(KubernetesObject, frozen=True):
    """More listeners of a Gateway, written by others than its own writers."""

    spec: ListenerSetSpec = msgspec.field(default_factory=ListenerSetSpec)
    status: dict[str, Any] = {}


class GatewayClassSpec(Wire, frozen=True):
    controller_name: str = ""


class GatewayClass(KubernetesObject, frozen=True):
    spec: GatewayClassSpec = msgspec.field(default_factory=GatewayClassSpec)
    status: dict[str, Any] = {}


class PolicyTarget(Wire, frozen=True):
    name: str
    kind: str
    group: str = ""
    section_name: str = ""


class SubjectName(Wire, frozen=True):
    type: str
    hostname: str = ""
    uri: str = ""


class BackendValidation(Wire, frozen=True):
    hostname: str
    ca_certificate_refs: list[LocalReference] = []
    well_known_certificates: str = msgspec.field(default="", name="wellKnownCACertificates")
    subject_alt_names: list[SubjectName] = []


class BackendTlsSpec(Wire, frozen=True):
    target_refs: list[PolicyTarget] = []
    validation: BackendValidation = msgspec.field(default_factory=lambda: BackendValidation(hostname=""))


class BackendTLSPolicy(KubernetesObject, frozen=True):
    spec: BackendTlsSpec = msgspec.field(default_factory=BackendTlsSpec)
    status: dict[str, Any] = {}


class GrantFrom(Wire, frozen=True):
    kind: str
    namespace: str
    group: str = ""


class GrantTo(Wire, frozen=True):
    kind: str
    group: str = ""
    name: str = ""


class ReferenceGrantSpec(Wire, frozen=True):
    from_: list[GrantFrom] = msgspec.field(default_factory=list, name="from")
    to: list[GrantTo] = []


class ReferenceGrant(KubernetesObject, frozen=True):
    spec: ReferenceGrantSpec = msgspec.field(default_factory=ReferenceGrantSpec)
