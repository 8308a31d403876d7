"""The whole of Gateway API: a cluster's objects become servers, exposures, network gateways and rules, and conditions for their writers.

Routes of several objects for one host are one set of rules, in the order of how specific they are; the older object comes first where they
are equally so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field, replace

from isthmus.api import gateway_api as api
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.gateway_api.attaching import Attachment, Gateways, attachments_of
from isthmus.ingest.gateway_api.backend_tls import backend_tls_of, issues_of
from isthmus.ingest.gateway_api.gateways import OpenGateway, classes_of, open_gateways
from isthmus.ingest.gateway_api.listener_sets import parent_of
from isthmus.ingest.gateway_api.listeners import OpenListener
from isthmus.ingest.gateway_api.objects import Objects
from isthmus.ingest.gateway_api.references import Grants, Referrer
from isthmus.ingest.gateway_api.rules import Findings, Place, Ranked, connection_rules, grpc_rules, http_rules
from isthmus.model.attachments import RESOLVED, Attachments, Backend, Condition, Parent, RouteAttachments, RouteParent
from isthmus.model.gateways import Server
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Hostname, Namespace
from isthmus.model.routing import MESH, ConnectionMatch, ConnectionRule, HttpRule, VirtualService
from isthmus.model.snapshot import Exposure
from isthmus.model.topology import NetworkGateway
from isthmus.model.traffic import DestinationRule
from isthmus.model.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayApi:
    """Everything that a cluster's objects of Gateway API say."""

    servers: tuple[Server, ...] = ()
    exposures: tuple[Exposure, ...] = ()
    network_gateways: tuple[NetworkGateway, ...] = ()
    virtual_services: tuple[VirtualService, ...] = ()
    destination_rules: tuple[DestinationRule, ...] = ()
    attachments: Attachments = field(default_factory=Attachments)
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class _Audience:
    """Who a set of rules is for: those who come through a gateway's listener, or all callers in the mesh, or one namespace's."""

    gateway: str
    namespace: Namespace
    callers: str
    host: Hostname


@dataclass(slots=True)
class _Said:
    """What all routes say to one audience."""

    created: list[str] = field(default_factory=list)
    requests: list[Ranked] = field(default_factory=list)
    tls: list[ConnectionRule] = field(default_factory=list)
    tcp: list[ConnectionRule] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Rules:
    """What one route says, and what reading it has found."""

    requests: tuple[Ranked, ...]
    connections: tuple[ConnectionRule, ...]
    findings: Findings


def gateway_api_of(objects: Objects, cache: IngestCache) -> GatewayApi:
    """Pure, and blind to the order in which objects come. `cache` keeps what each route says from one change to the next."""
    grants = Grants(objects.grants)
    gateways = list(open_gateways(objects, grants))
    reader = _Reader(objects, grants, gateways, cache)
    routes = [found for route in objects.routes if (found := reader.route(route)) is not None]
    issues = [issue for gateway in gateways for issue in _gateway_issues(gateway, objects.cluster)]
    issues += _sets_without_gateway(objects)
    secured, policies = backend_tls_of(objects)
    issues += issues_of(policies, objects.cluster)
    cache.end_round()
    return GatewayApi(
        servers=tuple(sorted(server for gateway in gateways for server in gateway.servers())),
        exposures=tuple(sorted(exposure for gateway in gateways for exposure in gateway.exposures())),
        network_gateways=tuple(
            sorted({found for gateway in gateways for found in gateway.network_gateways(objects.cluster)})
        ),
        virtual_services=tuple(reader.virtual_services()),
        destination_rules=tuple(secured),
        attachments=Attachments(
            classes=tuple(sorted(classes_of(objects))),
            gateways=tuple(gateway.attachments(reader.attached_to(gateway.listeners)) for gateway in gateways),
            listener_sets=tuple(
                sorted(
                    each.attachments(reader.attached_to(each.listeners))
                    for gateway in gateways
                    for each in gateway.listener_sets
                )
            ),
            routes=tuple(sorted(routes)),
            policies=tuple(sorted(policies)),
        ),
        issues=(*issues, *reader.issues),
    )


def _gateway_issues(gateway: OpenGateway, cluster: ClusterId) -> Iterator[Issue]:
    """What is wrong with a Gateway, also for those who do not look at its status."""
    metadata = gateway.gateway.metadata
    subject = Subject(cluster, "Gateway", metadata.namespace, metadata.name)
    for condition in (gateway.accepted, gateway.programmed):
        if not condition.holds:
            yield Issue(
                subject=subject,
                code="ISM0606",
                severity=Severity.WARNING,
                what=f"cannot be reached as it is written: {condition.message}",
                fix="let its Service list every listener's port, and have an address",
                field="spec.addresses",
            )
    yield from _listener_issues(gateway.listeners, subject)
    for each in gateway.listener_sets:
        subject = Subject(cluster, "ListenerSet", each.obj.metadata.namespace, each.obj.metadata.name)
        if not each.accepted.holds and not each.listeners:
            yield _not_taken(
                subject, each.accepted.message, "let the Gateway's spec.allowedListeners name its namespace"
            )
        yield from _listener_issues(each.listeners, subject)


def _listener_issues(listeners: Iterable[OpenListener], subject: Subject) -> Iterator[Issue]:
    for index, listener in enumerate(listeners):
        wrong = [each for each in listener.conditions if not each.holds and each.type != "Conflicted"]
        for condition in wrong[:1]:
            served = "is served as far as it goes" if listener.is_served else "is not served"
            yield Issue(
                subject=subject,
                code="ISM0605",
                severity=Severity.ERROR,
                what=f"listener {listener.listener.name} {served}: {condition.message}",
                fix="mend what is named",
                field=f"spec.listeners[{index}]",
            )


def _sets_without_gateway(objects: Objects) -> Iterator[Issue]:
    """No controller speaks of them: each thinks that the Gateway may be another's."""
    known = {(gateway.metadata.namespace, gateway.metadata.name) for gateway in objects.gateways}
    for each in objects.listener_sets:
        parent = parent_of(each)
        if parent not in known:
            said = each.spec.parent_ref
            named = f"{parent[0]}/{parent[1]}" if parent else f"{said.kind} of group {said.group}"
            subject = Subject(objects.cluster, "ListenerSet", each.metadata.namespace, each.metadata.name)
            yield _not_taken(subject, f"there is no Gateway {named}", "correct spec.parentRef, or create the Gateway")


def _not_taken(subject: Subject, why: str, fix: str) -> Issue:
    return Issue(
        subject=subject,
        code="ISM0608",
        severity=Severity.ERROR,
        what=f"adds nothing: {why}",
        fix=fix,
        field="spec.parentRef",
    )


class _Reader:
    """Gathers what routes say, by audience."""

    def __init__(self, objects: Objects, grants: Grants, gateways: Sequence[OpenGateway], cache: IngestCache) -> None:
        self._objects = objects
        self._cache = cache
        self._grants = grants
        self._gateways = Gateways.of(gateways)
        self._said: dict[_Audience, _Said] = defaultdict(_Said)
        self.attached: dict[str, int] = defaultdict(int)
        self.issues: dict[Issue, None] = {}

    def route(self, route: api.Route) -> RouteAttachments | None:
        """What becomes of a route; None for one whose parents are all others' business."""
        kind = type(route).__name__
        parents: list[RouteParent] = []
        backends: dict[Backend, None] = {}
        listeners: set[str] = set()
        for attachment in attachments_of(route, kind, self._gateways, self._objects):
            findings = self._read(route, kind, attachment)
            listeners |= {each.listener.bound_by for each in attachment.listeners}
            backends |= dict.fromkeys(findings.backends)
            parents.append(_parent(attachment, findings))
        for listener in listeners:
            self.attached[listener] += 1
        self._tell(route, kind, parents)
        if not parents:
            return None
        return RouteAttachments(
            kind=kind,
            namespace=Namespace(route.metadata.namespace),
            name=route.metadata.name,
            parents=tuple(parents),
            backends=tuple(backends),
        )

    def attached_to(self, listeners: Iterable[OpenListener]) -> list[int]:
        """The number of routes of each."""
        return [self.attached[listener.bound_by] for listener in listeners]

    def virtual_services(self) -> Iterator[VirtualService]:
        for audience, said in sorted(self._said.items(), key=lambda item: item[0]):
            ordered = sorted(said.requests, key=lambda ranked: ranked.rank)
            yield VirtualService(
                created=min(said.created),
                namespace=audience.namespace,
                name=f"{audience.gateway}~{audience.host}",
                hosts=(audience.host,),
                rules=tuple(ranked.rule for ranked in ordered),
                export_to=(audience.callers,),
                gateways=(audience.gateway,),
                tls=tuple(said.tls),
                tcp=tuple(said.tcp),
                of_routes=True,
            )

    def _read(self, route: api.Route, kind: str, attachment: Attachment) -> Findings:
        """Also of a route that holds nowhere, so that its writer learns what it refers to in vain."""
        findings = Findings()
        frontend = attachment.frontend
        referrer = self._referrer(route, kind, needs_grant=frontend is None)
        if frontend is not None:
            own = frontend.namespace == route.metadata.namespace
            callers = "*" if own else route.metadata.namespace
            for host in frontend.hosts:
                audience = _Audience(MESH, Namespace(route.metadata.namespace), callers, host)
                self._add(audience, route, Place(referrer), findings, only_port=frontend.port)
        for attached in attachment.listeners:
            listener = attached.listener
            namespace = Namespace(listener.gateway.metadata.namespace)
            for host in attached.hosts:
                audience = _Audience(listener.bound_by, namespace, "*", host)
                self._add(audience, route, Place(referrer, listener.listener.port), findings, only_port=0)
        if frontend is None and not attachment.listeners:
            self._rules(route, Place(referrer), findings)
        return findings

    def _add(self, audience: _Audience, route: api.Route, at: Place, findings: Findings, *, only_port: int) -> None:
        said, rules = self._said[audience], self._rules(route, at, findings)
        said.created.append(route.metadata.creation_timestamp)
        said.requests += [_at_port(ranked, only_port) for ranked in rules.requests]
        for rule in rules.connections:
            if isinstance(route, api.TLSRoute):
                hosts = (audience.host,) if audience.gateway != MESH else tuple(map(str.lower, route.spec.hostnames))
                match = ConnectionMatch(sni_hosts=tuple(host for host in hosts if host != "*"), port=only_port)
                said.tls.append(replace(rule, matches=(match,)))
            else:
                said.tcp.append(replace(rule, matches=(ConnectionMatch(port=only_port),)))

    def _rules(self, route: api.Route, at: Place, findings: Findings) -> _Rules:
        """What the route says there. The port of a listener matters to redirects alone."""
        by = at.referrer
        if not _redirects(route):
            at = Place(by)
        key = (by.kind, by.namespace, by.name, by.needs_grant, by.dns_domain, by.import_domain, at.port)
        rules = self._cache.once(key, (route, *self._objects.grants), lambda: _rules_of(route, at))
        findings.add(rules.findings)
        return rules

    def _referrer(self, route: api.Route, kind: str, *, needs_grant: bool) -> Referrer:
        settings = self._objects.settings
        return Referrer(
            kind=kind,
            namespace=route.metadata.namespace,
            name=route.metadata.name,
            grants=self._grants,
            dns_domain=settings.dns_domain,
            # Where services have no name of the cluster set, namespace sameness makes the imported one the one of that name.
            import_domain=settings.cluster_set.domain if settings.cluster_set.hosts else settings.dns_domain,
            needs_grant=needs_grant,
        )

    def _tell(self, route: api.Route, kind: str, parents: Iterable[RouteParent]) -> None:
        """What is wrong with a route, also for those who do not look at its status."""
        subject = Subject(self._objects.cluster, kind, route.metadata.namespace, route.metadata.name)

        def found(code: str, what: str, fix: str, field: str) -> None:
            self.issues[Issue(subject=subject, code=code, severity=Severity.ERROR, what=what, fix=fix, field=field)] = (
                None
            )

        if kind == "UDPRoute":
            found("ISM0601", "UDP is not routed: the route has no effect", "route UDP without the mesh", "spec")
            return
        for parent in parents:
            name = f"{parent.parent.kind} {parent.parent.name}"
            if not parent.accepted.holds:
                what = f"does not hold at {name}: {parent.accepted.message}"
                found("ISM0602", what, "mend the reference, or the listener", "spec.parentRefs")
            if not parent.references.holds:
                fix = "mend the reference, or let a ReferenceGrant allow it; until then its requests are answered 500"
                found("ISM0603", parent.references.message, fix, "spec.rules")
            for other in parent.others:
                found("ISM0604", other.message, "write the rule without it", "spec.rules")
        for index in _with_sessions(route):
            what = "sessions are not kept at one endpoint: the field has no effect"
            found(
                "ISM0604",
                what,
                "leave it out, or balance by a DestinationRule's consistentHash",
                f"spec.rules[{index}]",
            )


def _with_sessions(route: api.Route) -> list[int]:
    if not isinstance(route, api.HTTPRoute | api.GRPCRoute):
        return []
    rules: Sequence[api.HttpRouteRule | api.GrpcRouteRule] = route.spec.rules
    return [index for index, rule in enumerate(rules) if rule.session_persistence is not None]


def _rules_of(route: api.Route, at: Place) -> _Rules:
    findings = Findings()
    requests: Iterator[Ranked] = iter(())
    connections: Iterator[ConnectionRule] = iter(())
    if isinstance(route, api.HTTPRoute):
        requests = http_rules(route, at, findings)
    elif isinstance(route, api.GRPCRoute):
        requests = grpc_rules(route, at, findings)
    elif isinstance(route, api.TLSRoute | api.TCPRoute):
        connections = connection_rules(route, at.referrer, findings)
    return _Rules(tuple(requests), tuple(connections), findings)


def _redirects(route: api.Route) -> bool:
    return isinstance(route, api.HTTPRoute) and any(
        each.request_redirect is not None for rule in route.spec.rules for each in rule.filters
    )


def _at_port(ranked: Ranked, port: int) -> Ranked:
    if not port:
        return ranked
    rule: HttpRule = ranked.rule
    return replace(ranked, rule=replace(rule, matches=tuple(replace(match, port=port) for match in rule.matches)))


def _parent(attachment: Attachment, findings: Findings) -> RouteParent:
    accepted = attachment.accepted
    others: tuple[Condition, ...] = ()
    if findings.unsupported and accepted.holds:
        others = (Condition("PartiallyInvalid", True, "UnsupportedValue", "; ".join(findings.unsupported)),)
    references = findings.references[0] if findings.references else RESOLVED
    parent: Parent = attachment.parent
    return RouteParent(parent=parent, accepted=accepted, references=references, others=others)
