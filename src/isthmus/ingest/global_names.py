"""Global names: one host for a workload wherever it runs, as Admiral makes them, but without writing objects into any cluster.

A Deployment whose Pods have the identity's label is found under `ENVIRONMENT.IDENTITY.SUFFIX`: behind the name are its Pods, in every cluster, as
far as a Service there chooses them; ports are the Service's. A GlobalTrafficPolicy for the identity says how requests are spread over regions,
and may add names with a prefix of their own, spread in another way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from isthmus.api.core import Deployment, Namespace
from isthmus.api.global_names import GlobalPolicy, GlobalTrafficPolicy
from isthmus.ingest.inputs import ClusterInput
from isthmus.ingest.services import Declaration
from isthmus.model import names
from isthmus.model.federation import is_dns_name
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Hostname, ServiceKey
from isthmus.model.origins import Origin
from isthmus.model.security import Labels
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.snapshot import GlobalNames, MeshSettings
from isthmus.model.traffic import DestinationRule, LocalityPreference, OutlierDetection, TrafficPolicy, Wishes
from isthmus.model.values import dataclass
from isthmus.model.workloads import Endpoint

_ENVIRONMENT, _IGNORED = "admiral.io/env", "admiral.io/ignore"
_DEFAULT = "default"
_HTTP_PORT = 80
_BY_WEIGHT = 1
_LAST = "~"
"""Younger than any object: a DestinationRule that somebody writes for the name comes before what is derived."""


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """Some workloads of a service in one cluster: those with the labels."""

    cluster: ClusterId
    service: ServiceKey
    labels: Labels


@dataclass(frozen=True, slots=True)
class GlobalName:
    """One name, and who is behind it."""

    key: ServiceKey
    created: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Derived:
    """What Deployments and policies come to."""

    names: tuple[GlobalName, ...] = ()
    services: tuple[Service, ...] = ()
    rules: tuple[DestinationRule, ...] = ()
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """A Deployment under its name."""

    identity: str
    environment: str
    created: str
    member: Member
    deployment: Subject


@dataclass(frozen=True, slots=True)
class _Spread:
    """A policy for one name, and the object that has it."""

    said: GlobalPolicy
    origin: Origin


def global_names_wanted(environment: Mapping[str, str]) -> GlobalNames:
    """As switches of a control plane say."""
    usual = GlobalNames()
    return GlobalNames(
        suffix=environment.get("ISTHMUS_GLOBAL_NAMES", "").strip(".").lower(),
        identity_label=environment.get("ISTHMUS_IDENTITY_LABEL") or usual.identity_label,
        environment_label=environment.get("ISTHMUS_ENVIRONMENT_LABEL") or usual.environment_label,
    )


def derived(
    clusters: Sequence[ClusterInput],
    declarations: Iterable[Declaration],
    services: Mapping[ServiceKey, Service],
    policies: Iterable[GlobalTrafficPolicy],
    settings: MeshSettings,
    config_cluster: ClusterId,
) -> Derived:
    """In the order of names, whatever order objects came in. Nothing, where the mesh wants none. A name that a service has already is its own.

    `policies` are the config cluster's, the oldest first.
    """
    if not settings.global_names.suffix:
        return Derived()
    issues: list[Issue] = []
    by_place: dict[tuple[ClusterId, names.Namespace], list[Declaration]] = {}
    for declaration in declarations:
        if declaration.selector and not services[declaration.key].cluster_local:
            by_place.setdefault((declaration.cluster, declaration.key.namespace), []).append(declaration)
    found: dict[tuple[str, str], list[_Found]] = {}
    for cluster in sorted(clusters, key=lambda cluster: cluster.id):
        for each in _deployed(cluster, by_place, settings, issues):
            found.setdefault((each.environment, each.identity), []).append(each)
    wanted = _policies(policies, config_cluster, settings.global_names, issues)
    made: list[tuple[GlobalName, Service]] = []
    rules: list[DestinationRule] = []
    for (environment, identity), of_name in sorted(found.items()):
        base = _base(environment, identity, settings.global_names)
        spreads: dict[Hostname, _Spread | None] = {base: None}
        spreads |= {_host(base, each.said, environment): each for each in wanted.pop((environment, identity), ())}
        for host, spread in sorted(spreads.items(), key=lambda item: item[0]):
            key = ServiceKey(settings.root_namespace, host)
            if key in services:
                issues += (_taken(each, services[key]) for each in of_name)
                continue
            name = _named(key, of_name)
            made.append((name, _service(name, services)))
            if spread:
                rules.append(_rule(key, spread))
    for (environment, identity), (spread, *_) in sorted(wanted.items(), key=lambda item: item[0]):
        why = f"no Deployment that answers has the identity {identity} in the environment {environment}"
        subject = Subject(config_cluster, spread.origin.kind, spread.origin.namespace, spread.origin.name)
        issues.append(_without_effect(subject, why, "correct its labels, or take it out"))
    return Derived(
        names=tuple(name for name, _ in made),
        services=tuple(service for _, service in made),
        rules=tuple(rules),
        issues=tuple(issues),
    )


def members_of(name: GlobalName, endpoints: Mapping[ServiceKey, tuple[Endpoint, ...]]) -> tuple[Endpoint, ...]:
    """The endpoints behind the name, out of those of all services."""
    return tuple(
        replace(endpoint, service=name.key, hostname="")
        for member in name.members
        for endpoint in endpoints.get(member.service, ())
        if endpoint.cluster == member.cluster and set(member.labels) <= set(endpoint.workload.labels)
    )


def _named(key: ServiceKey, found: Sequence[_Found]) -> GlobalName:
    return GlobalName(key, min(each.created for each in found), tuple(sorted({each.member for each in found})))


def _deployed(
    cluster: ClusterInput,
    declared: Mapping[tuple[ClusterId, names.Namespace], list[Declaration]],
    settings: MeshSettings,
    issues: list[Issue],
) -> Iterator[_Found]:
    wanted = settings.global_names
    deployments = cast("Mapping[tuple[str, str], Deployment]", cluster.objects.get("Deployment", {}))
    namespaces = cast("Mapping[tuple[str, str], Namespace]", cluster.objects.get("Namespace", {}))
    for (namespace, name), deployment in sorted(deployments.items()):
        pods = deployment.spec.template.metadata
        said = {**pods.annotations, **pods.labels}
        identity = said.get(wanted.identity_label, "")
        if not identity or said.get(_IGNORED) == "true" or deployment.metadata.annotations.get(_IGNORED) == "true":
            continue
        subject = Subject(cluster.id, "Deployment", namespace, name)
        environment = _environment(said, namespaces.get(("", namespace)), wanted)
        host = _base(environment, identity.lower(), wanted)
        if not is_dns_name(host):
            why = f"{host} cannot be a DNS name: its Pods answer for no global name"
            issues.append(_nameless(subject, identity, why, "use letters, digits and '-' in identity and environment"))
            continue
        chosen = [
            each
            for each in declared.get((cluster.id, names.Namespace(namespace)), ())
            if set(each.selector) <= set(pods.labels.items())
        ]
        if not chosen:
            why = f"no Service chooses its Pods: in {cluster.id} they answer for no global name"
            issues.append(_nameless(subject, identity, why, "make a Service whose selector chooses them"))
            continue
        first = min(chosen, key=lambda each: (each.headless, each.created, each.name))
        keys = (wanted.identity_label, wanted.environment_label)
        yield _Found(
            identity=identity.lower(),
            environment=environment,
            deployment=subject,
            created=deployment.metadata.creation_timestamp,
            member=Member(cluster.id, first.key, tuple(sorted((k, v) for k, v in pods.labels.items() if k in keys))),
        )


def _environment(said: Mapping[str, str], namespace: Namespace | None, wanted: GlobalNames) -> str:
    """What the Pods say, else their namespace."""
    around = {**namespace.metadata.annotations, **namespace.metadata.labels} if namespace else {}
    keys = (_ENVIRONMENT, wanted.environment_label)
    return next((place[key].lower() for place in (said, around) for key in keys if place.get(key)), _DEFAULT)


def _service(name: GlobalName, services: Mapping[ServiceKey, Service]) -> Service:
    """Ports of one number are the first cluster's; where the only HTTP port has another number, it is found on 80, too."""
    behind = tuple(dict.fromkeys(member.service for member in name.members))
    found = [services[key] for key in behind]
    ports: dict[tuple[int, bool], ServicePort] = {}
    for service in found:
        for port in service.ports:
            ports.setdefault((port.number, port.protocol is Protocol.UDP), port)
    requests = [port for port in ports.values() if port.protocol.is_http or port.protocol is Protocol.AUTO]
    if len(requests) == 1 and (_HTTP_PORT, False) not in ports:
        ports[_HTTP_PORT, False] = replace(requests[0], number=_HTTP_PORT)
    restricted = all(service.export_to for service in found)
    return Service(
        namespace=name.key.namespace,
        hostname=name.key.hostname,
        name=name.key.hostname,
        ports=tuple(port for _, port in sorted(ports.items())),
        virtual_ips=(),
        headless=False,
        cluster_local=False,
        declared_in=tuple(dict.fromkeys(member.cluster for member in name.members)),
        export_to=tuple(sorted({_absolute(each, s) for s in found for each in s.export_to})) if restricted else (),
        registry="External",
        behind=tuple(sorted(behind)),
        wishes=Wishes(fails_over=True),
    )


def _absolute(exported: str, service: Service) -> str:
    return service.namespace if exported == "." else exported


def _policies(
    policies: Iterable[GlobalTrafficPolicy], config: ClusterId, wanted: GlobalNames, issues: list[Issue]
) -> dict[tuple[str, str], list[_Spread]]:
    """By environment and identity; of several objects for one the first counts."""
    found: dict[tuple[str, str], list[_Spread]] = {}
    owner: dict[tuple[str, str], GlobalTrafficPolicy] = {}
    for obj in policies:
        said = {**obj.spec.selector, **obj.metadata.annotations, **obj.metadata.labels}
        identity = said.get(wanted.identity_label, "").lower()
        environment = next((said[k].lower() for k in (_ENVIRONMENT, wanted.environment_label) if said.get(k)), _DEFAULT)
        subject = Subject(config, "GlobalTrafficPolicy", obj.metadata.namespace, obj.metadata.name)
        wrong = _wrong(obj, identity, environment, wanted)
        first = owner.setdefault((environment, identity), obj) if not wrong else obj
        if first is not obj:
            wrong = f"{first.metadata.namespace}/{first.metadata.name} is older, and for the same name"
        if wrong:
            fix = "correct it; until then the nearest endpoints come first" if first is obj else "keep one of them"
            issues.append(_without_effect(subject, wrong, fix))
            continue
        origin = Origin("GlobalTrafficPolicy", obj.metadata.namespace, obj.metadata.name)
        found[environment, identity] = [_Spread(each, origin) for each in obj.spec.policy]
    return found


def _wrong(obj: GlobalTrafficPolicy, identity: str, environment: str, wanted: GlobalNames) -> str:
    """The first reason why nothing can be made of it; empty for none."""
    if not identity:
        return f"it has no label {wanted.identity_label}"
    base = _base(environment, identity, wanted)
    hosts: list[Hostname] = []
    for index, each in enumerate(obj.spec.policy):
        host = _host(base, each, environment)
        if not is_dns_name(host):
            return f"spec.policy[{index}] is for {host}, which cannot be a DNS name"
        if host in hosts:
            return f"spec.policy[{index}] is for {host}, as spec.policy[{hosts.index(host)}] is"
        hosts.append(host)
        if each.lb_type not in (0, _BY_WEIGHT):
            return f"spec.policy[{index}].lbType is {each.lb_type}: 0 (topology) and 1 (weights) are known"
        total = sum(group.weight for group in each.target)
        if each.lb_type == _BY_WEIGHT and (total != 100 or any(group.weight < 0 for group in each.target)):
            return f"the weights of spec.policy[{index}].target come to {total}, not 100"
    return ""


def _base(environment: str, identity: str, wanted: GlobalNames) -> Hostname:
    return Hostname(f"{environment}.{identity}.{wanted.suffix}")


def _host(base: Hostname, said: GlobalPolicy, environment: str) -> Hostname:
    """The prefix `default`, or the environment itself, is the name without any."""
    prefix = said.dns_prefix.lower()
    if not prefix and said.dns.lower().endswith(f".{base}"):
        prefix = said.dns.lower().removesuffix(f".{base}")
    return base if prefix in ("", _DEFAULT, environment) else Hostname(f"{prefix}.{base}")


def _rule(key: ServiceKey, spread: _Spread) -> DestinationRule:
    said, outliers = spread.said, spread.said.outlier_detection
    shares = tuple(sorted((group.region, group.weight) for group in said.target if group.weight))
    return DestinationRule(
        created=_LAST,
        namespace=key.namespace,
        name=key.hostname,
        host=key.hostname,
        policy=TrafficPolicy(
            locality=LocalityPreference(distribute=(("*", shares),) if said.lb_type == _BY_WEIGHT else ()),
            outliers=OutlierDetection(
                consecutive_errors=0,
                consecutive_gateway_errors=outliers.consecutive_gateway_errors or None,
                interval_seconds=float(outliers.interval) or None,
                base_ejection_seconds=float(outliers.base_ejection_time) or None,
            )
            if outliers
            else None,
        ),
        port_policies=(),
        subsets=(),
        export_to=(),
        made_from=spread.origin,
    )


def _nameless(deployment: Subject, identity: str, why: str, fix: str) -> Issue:
    what = f"has the identity {identity}, but {why}"
    return Issue(subject=deployment, code="ISM0506", severity=Severity.WARNING, what=what, fix=fix)


def _taken(found: _Found, service: Service) -> Issue:
    why = f"{service.hostname} is a {service.kind}'s in {service.namespace}: its Pods do not answer for it"
    return _nameless(found.deployment, found.identity, why, "take the other one out, or give it another host")


def _without_effect(policy: Subject, why: str, fix: str) -> Issue:
    return Issue(subject=policy, code="ISM0505", severity=Severity.WARNING, what=f"has no effect: {why}", fix=fix)
