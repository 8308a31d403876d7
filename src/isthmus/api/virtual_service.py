"""Istio's VirtualService, as far as the mesh reads it."""

from __future__ import annotations

import msgspec

from isthmus.api.meta import KubernetesObject, Wire


class StringMatch(Wire, frozen=True):
    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class HttpMatch(Wire, frozen=True):
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = {}
    without_headers: dict[str, StringMatch] = {}
    query_params: dict[str, StringMatch] = {}
    ignore_uri_case: bool = False
    port: int = 0
    source_labels: dict[str, str] = {}
    source_namespace: str = ""
    gateways: list[str] = []
    name: str = ""
    stat_prefix: str = ""


class PortSelector(Wire, frozen=True):
    number: int = 0


class Destination(Wire, frozen=True):
    host: str = ""
    subset: str = ""
    port: PortSelector | None = None


class HeaderOperations(Wire, frozen=True):
    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: list[str] = []


class Headers(Wire, frozen=True):
    request: HeaderOperations = msgspec.field(default_factory=HeaderOperations)
    response: HeaderOperations = msgspec.field(default_factory=HeaderOperations)


class RouteDestination(Wire, frozen=True):
    destination: Destination
    weight: int = 0
    headers: Headers = msgspec.field(default_factory=Headers)


class Redirect(Wire, frozen=True):
    uri: str = ""
    prefix_rewrite: str = ""
    authority: str = ""
    port: int = 0
    derive_port: str = ""
    scheme: str = ""
    redirect_code: int = 301


class Body(Wire, frozen=True):
    """`octets` are decoded from base64."""

    string: str = ""
    octets: bytes = msgspec.field(default=b"", name="bytes")


class DirectResponse(Wire, frozen=True):
    status: int = 0
    body: Body = msgspec.field(default_factory=Body)


class RegexRewrite(Wire, frozen=True):
    match: str = ""
    rewrite: str = ""


class Rewrite(Wire, frozen=True):
    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class Retries(Wire, frozen=True):
    attempts: int = 0
    per_try_timeout: str = ""
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: str = ""


class Percent(Wire, frozen=True):
    value: float = 0


class Delay(Wire, frozen=True):
    percentage: Percent | None = None
    percent: int = 0
    fixed_delay: str = ""
    exponential_delay: str = ""


class Abort(Wire, frozen=True):
    percentage: Percent | None = None
    http_status: int = 0
    grpc_status: str = ""
    http2_error: str = msgspec.field(default="", name="http2Error")


class Fault(Wire, frozen=True):
    delay: Delay | None = None
    abort: Abort | None = None


class Mirror(Wire, frozen=True):
    destination: Destination
    percentage: Percent | None = None


class Delegate(Wire, frozen=True):
    name: str = ""
    namespace: str = ""


class CorsPolicy(Wire, frozen=True):
    allow_origins: list[StringMatch] = []
    allow_origin: list[str] = []
    allow_methods: list[str] = []
    allow_headers: list[str] = []
    expose_headers: list[str] = []
    max_age: str = ""
    allow_credentials: bool | None = None
    unmatched_preflights: str = ""


class HttpRoute(Wire, frozen=True):
    name: str = ""
    match: list[HttpMatch] = []
    route: list[RouteDestination] = []
    redirect: Redirect | None = None
    direct_response: DirectResponse | None = None
    rewrite: Rewrite | None = None
    timeout: str = ""
    retries: Retries | None = None
    fault: Fault | None = None
    mirror: Destination | None = None
    mirror_percentage: Percent | None = None
    mirror_percent: int | None = None
    mirrors: list[Mirror] = []
    headers: Headers = msgspec.field(default_factory=Headers)
    delegate: Delegate | None = None
    cors_policy: CorsPolicy | None = None


class ConnectionMatch(Wire, frozen=True):
    """Of a `tls` or a `tcp` route; only the former has sniHosts."""

    sni_hosts: list[str] = []
    destination_subnets: list[str] = []
    port: int = 0
    source_labels: dict[str, str] = {}
    source_namespace: str = ""
    gateways: list[str] = []


class ConnectionRoute(Wire, frozen=True):
    match: list[ConnectionMatch] = []
    route: list[RouteDestination] = []


class VirtualServiceSpec(Wire, frozen=True):
    hosts: list[str] = []
    gateways: list[str] = []
    http: list[HttpRoute] = []
    tls: list[ConnectionRoute] = []
    tcp: list[ConnectionRoute] = []
    export_to: list[str] = []


class VirtualService(KubernetesObject, frozen=True):
    spec: VirtualServiceSpec = msgspec.field(default_factory=VirtualServiceSpec)
