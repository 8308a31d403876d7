"""VirtualServices become values. A rule that this version cannot do as it is written is left out, with an issue; the others count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from isthmus.api import virtual_service as api
from isthmus.ingest.destination_rules import full_name
from isthmus.ingest.route_limits import (
    AT_GATEWAYS,
    CLAIMS_AT_GATEWAYS,
    refused_connections,
    refused_host,
    refused_match,
    refused_rule,
)
from isthmus.model.durations import seconds_of
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Hostname, Namespace
from isthmus.model.origins import Origin
from isthmus.model.routing import (
    MESH,
    Comparison,
    ConnectionMatch,
    ConnectionRule,
    Cors,
    Fault,
    Handling,
    HeaderChanges,
    HttpRule,
    Named,
    Redirect,
    RequestMatch,
    Retries,
    Target,
    TextMatch,
    VirtualService,
)

_HOST = ("host", ":authority")
_GRPC_STATUS = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
    "UNAUTHENTICATED",
)  # fmt: skip
"""By number (gRPC's status codes)."""


def virtual_service_of(
    obj: api.VirtualService, cluster: ClusterId, dns_domain: str
) -> tuple[VirtualService, tuple[Issue, ...]]:
    """With an issue for each rule that is left out."""
    reader = _Reader(obj, cluster, dns_domain)
    spec = obj.spec
    value = VirtualService(
        created=obj.metadata.creation_timestamp,
        namespace=reader.namespace,
        name=obj.metadata.name,
        hosts=tuple(reader.hosts(spec.hosts)),
        rules=tuple(reader.rules(spec.http)),
        export_to=tuple(spec.export_to),
        gateways=reader.bound_to,
        tls=tuple(reader.connection_rules(spec.tls, "spec.tls")),
        tcp=tuple(reader.connection_rules(spec.tcp, "spec.tcp")),
    )
    return value, tuple(reader.issues)


class _Unreadable(ValueError):
    """A rule cannot be done as written: which field, and why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class _Reader:
    def __init__(self, obj: api.VirtualService, cluster: ClusterId, dns_domain: str) -> None:
        self._subject = Subject(cluster, "VirtualService", obj.metadata.namespace, obj.metadata.name)
        self._dns_domain = dns_domain
        self.namespace = Namespace(obj.metadata.namespace)
        self.bound_to = self.gateways(obj.spec.gateways) or (MESH,)
        self._is_delegate = not obj.spec.hosts
        self.issues: list[Issue] = []

    def left_out(self, field: str, what: str, fix: str = "write the rule without it") -> None:
        self.issues.append(
            Issue(
                subject=self._subject,
                code="ISM0402",
                severity=Severity.ERROR,
                what=f"{what}: left out",
                fix=fix,
                field=field,
            )
        )

    def rules(self, routes: list[api.HttpRoute]) -> Iterator[HttpRule]:
        for index, route in enumerate(routes):
            try:
                rule = self._rule(route, f"spec.http[{index}]")
            except _Unreadable as error:
                self.left_out(error.field, str(error))
                continue
            if not self._is_delegate and rule.asks_sidecars_for_claims(self.bound_to):
                self.left_out(f"spec.http[{index}].match", CLAIMS_AT_GATEWAYS, AT_GATEWAYS)
            yield rule

    def hosts(self, said: list[str]) -> Iterator[Hostname]:
        for index, host in enumerate(said):
            if refused_host(host):
                self.left_out(f"spec.hosts[{index}]", f"{host!r:.60} is no host")
            else:
                yield full_name(host, self.namespace, self._dns_domain)

    def connection_rules(self, routes: list[api.ConnectionRoute], field: str) -> Iterator[ConnectionRule]:
        for index, route in enumerate(routes):
            rule = self.connections(route)
            wrong = next(refused_connections(rule), None)
            if wrong:
                self.left_out(f"{field}[{index}].{wrong[0]}", wrong[1])
            else:
                yield rule

    def gateways(self, names: Sequence[str]) -> tuple[str, ...]:
        """A name without a namespace is a Gateway of the object's own."""
        return tuple(name if "/" in name or name == MESH else f"{self.namespace}/{name}" for name in names)

    def connections(self, route: api.ConnectionRoute) -> ConnectionRule:
        several = len(route.route) > 1
        return ConnectionRule(
            matches=tuple(map(self._connection_match, route.match)),
            targets=tuple(
                (self._target(entry.destination), entry.weight if several else 1)
                for entry in route.route
                if entry.weight or not several
            ),
        )

    def _connection_match(self, said: api.ConnectionMatch) -> ConnectionMatch:
        return ConnectionMatch(
            sni_hosts=() if "*" in said.sni_hosts else tuple(host.lower() for host in said.sni_hosts),
            subnets=tuple(said.destination_subnets),
            port=said.port,
            source_namespace=said.source_namespace,
            source_labels=tuple(sorted(said.source_labels.items())),
            gateways=self.gateways(said.gateways),
        )

    def _rule(self, route: api.HttpRoute, field: str) -> HttpRule:
        delegate = route.delegate
        rule = HttpRule(
            name=route.name,
            delegate=(Namespace(delegate.namespace or self.namespace), delegate.name) if delegate else None,
            matches=tuple(_match(match, self.gateways(match.gateways)) for match in route.match),
            targets=tuple(self._targets(route, field)),
            mirrors=tuple(self._mirrors(route)),
            handling=self._handling(route, field),
            origin=Origin(self._subject.kind, self._subject.namespace, self._subject.name),
        )
        of_matches = (wrong for match in rule.matches for wrong in refused_match(match))
        for name, why in chain(of_matches, refused_rule(rule)):
            raise _Unreadable(f"{field}.{name}", why)
        return rule

    def _targets(self, route: api.HttpRoute, field: str) -> Iterator[tuple[Target, int, HeaderChanges]]:
        """One destination needs no weight; of several those without one get nothing."""
        response = route.direct_response
        if response and not response.status:
            raise _Unreadable(f"{field}.directResponse.status", "a response has a status")
        if not route.route and not (route.redirect or response or route.delegate):
            raise _Unreadable(f"{field}.route", "there is no destination, redirect or direct response")
        if len(route.route) > 1 and not any(entry.weight for entry in route.route):
            raise _Unreadable(f"{field}.route", "no destination has a weight")
        for entry in route.route:
            weight = 1 if len(route.route) == 1 else entry.weight
            if weight:
                yield self._target(entry.destination), weight, self._changes(entry.headers, f"{field}.route.headers")

    def _mirrors(self, route: api.HttpRoute) -> Iterator[tuple[Target, float]]:
        if route.mirror:
            said = 100.0 if route.mirror_percent is None else float(route.mirror_percent)
            yield self._target(route.mirror), said if route.mirror_percentage is None else route.mirror_percentage.value
        for mirror in route.mirrors:
            yield self._target(mirror.destination), 100.0 if mirror.percentage is None else mirror.percentage.value

    def _target(self, said: api.Destination) -> Target:
        host = full_name(said.host, self.namespace, self._dns_domain)
        return Target(host=host, subset=said.subset, port=said.port.number if said.port else 0)

    def _handling(self, route: api.HttpRoute, field: str) -> Handling:
        rewrite, response = route.rewrite or api.Rewrite(), route.direct_response
        regex = rewrite.uri_regex_rewrite
        return Handling(
            redirect=_redirect(route.redirect) if route.redirect else None,
            response_status=response.status if response else 0,
            response_body=(response.body.string or response.body.octets) if response else "",
            rewrite_path=rewrite.uri,
            rewrite_authority=rewrite.authority,
            rewrite_regex=(regex.match, regex.rewrite) if regex else None,
            timeout_seconds=_seconds(route.timeout, f"{field}.timeout"),
            retries=retries_of(route.retries, f"{field}.retries") if route.retries else None,
            fault=self._fault(route.fault, f"{field}.fault") if route.fault else None,
            cors=_cors(route.cors_policy, f"{field}.corsPolicy") if route.cors_policy else None,
            headers=self._changes(route.headers, f"{field}.headers"),
        )

    def _fault(self, said: api.Fault, field: str) -> Fault:
        """A fault without a percentage happens to nobody (Istio's API reference)."""
        delay, abort = said.delay or api.Delay(), said.abort or api.Abort()
        for name, given in (
            ("delay.exponentialDelay", delay.exponential_delay),
            ("abort.http2Error", abort.http2_error),
        ):
            if given:
                self.left_out(f"{field}.{name}", "is reserved in Istio's API, and nobody does it")
        if abort.grpc_status and abort.grpc_status not in _GRPC_STATUS:
            raise _Unreadable(f"{field}.abort.grpcStatus", f"there is no gRPC status {abort.grpc_status}")
        return Fault(
            delay_percent=delay.percentage.value if delay.percentage else delay.percent,
            delay_seconds=_seconds(delay.fixed_delay, f"{field}.delay.fixedDelay") or 0,
            abort_percent=abort.percentage.value if abort.percentage else 0,
            abort_status=abort.http_status,
            abort_grpc_status=_GRPC_STATUS.index(abort.grpc_status) if abort.grpc_status else None,
        )

    def _changes(self, said: api.Headers, field: str) -> HeaderChanges:
        """The host is no header that can be set beside others: what is set becomes the request's host. It cannot be removed, nor can
        what HTTP/2 begins with a colon be."""
        request, response = said.request, said.response
        for part, operations in (("request", request), ("response", response)):
            for operation, names in (("set", operations.set), ("add", operations.add), ("remove", operations.remove)):
                for name in names:
                    if _is_fixed(name) and not (part == "request" and operation == "set" and name.lower() in _HOST):
                        self.left_out(f"{field}.{part}.{operation}", f"{name} is not a header that can be changed")
        return HeaderChanges(
            authority=next((value for name, value in sorted(request.set.items()) if name.lower() in _HOST), ""),
            request_set=_free(request.set),
            request_add=_free(request.add),
            request_remove=tuple(name for name in request.remove if not _is_fixed(name)),
            response_set=_free(response.set),
            response_add=_free(response.add),
            response_remove=tuple(name for name in response.remove if not _is_fixed(name)),
        )


def _free(said: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in sorted(said.items()) if not _is_fixed(name))


def _is_fixed(name: str) -> bool:
    """Envoy refuses a whole table of routes in which one of these is changed like any header."""
    return name.startswith(":") or name.lower() in _HOST


def _match(said: api.HttpMatch, gateways: tuple[str, ...]) -> RequestMatch:
    return RequestMatch(
        uri=_text(said.uri),
        ignore_case=said.ignore_uri_case,
        method=_text(said.method),
        scheme=_text(said.scheme),
        authority=_text(said.authority),
        headers=_named(said.headers),
        without_headers=_named(said.without_headers),
        query=_named(said.query_params),
        port=said.port,
        source_namespace=said.source_namespace,
        source_labels=tuple(sorted(said.source_labels.items())),
        gateways=gateways,
        name=said.name,
        stat_prefix=said.stat_prefix,
    )


def _cors(said: api.CorsPolicy, field: str) -> Cors:
    origins = [_text(origin) or TextMatch(Comparison.PRESENT) for origin in said.allow_origins]
    origins += [TextMatch(Comparison.EXACT, origin) for origin in said.allow_origin]
    return Cors(
        origins=tuple(origins),
        methods=tuple(said.allow_methods),
        headers=tuple(said.allow_headers),
        exposed_headers=tuple(said.expose_headers),
        max_age_seconds=_seconds(said.max_age, f"{field}.maxAge"),
        credentials=said.allow_credentials,
        forward_unmatched_preflights=said.unmatched_preflights != "IGNORE",
    )


def _named(said: Mapping[str, api.StringMatch]) -> Named:
    return tuple((name, _text(match) or TextMatch(Comparison.PRESENT)) for name, match in sorted(said.items()))


def _text(said: api.StringMatch | None) -> TextMatch | None:
    """None where nothing is compared. Every text begins with an empty prefix, which Envoy refuses to look for."""
    if said is None or (said.prefix == "" and said.exact is None):
        return None
    for comparison, value in (
        (Comparison.EXACT, said.exact),
        (Comparison.PREFIX, said.prefix),
        (Comparison.REGEX, said.regex),
    ):
        if value is not None:
            return TextMatch(comparison, value)
    return None


def _redirect(said: api.Redirect) -> Redirect:
    return Redirect(
        path=said.uri,
        prefix=said.prefix_rewrite,
        authority=said.authority,
        port=said.port,
        as_called=said.derive_port == "FROM_REQUEST_PORT",
        scheme=said.scheme,
        code=said.redirect_code,
    )


def retries_of(said: api.Retries, field: str) -> Retries:
    """Raises ValueError for a time that is none."""
    per_try = _seconds(said.per_try_timeout, f"{field}.perTryTimeout")
    return Retries(
        attempts=said.attempts,
        per_try_seconds=per_try,
        on=said.retry_on,
        back_off_seconds=_seconds(said.backoff, f"{field}.backoff"),
        elsewhere=said.retry_ignore_previous_hosts is not False,
        farther=bool(said.retry_remote_localities),
    )


def _seconds(text: str, field: str) -> float | None:
    try:
        return seconds_of(text) if text else None
    except ValueError as error:
        raise _Unreadable(field, str(error)) from None
