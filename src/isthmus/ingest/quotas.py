"""Quotas: how much a namespace may add to what all others are given, and what becomes of more.

The annotation `isthmus.io/quota: services=10, virtualservices=20` on a Namespace says it; on the system namespace, for every namespace that
does not say it itself. Only what leaves its namespace counts. The oldest stay what they are; what is over the quota stays within its own
namespace, or, where its kind cannot say so (routes of Gateway API), is left out. Policies are the exception: they hold in their own namespace
alone, and one that is taken away may open a door, so that more of them are told, but stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, cast

import msgspec

from isthmus.api.core import Namespace as NamespaceObject
from isthmus.api.core import Service as ServiceObject
from isthmus.api.meta import KubernetesObject
from isthmus.ingest import labels
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.discovery_selectors import discovered
from isthmus.ingest.inputs import ClusterInput
from isthmus.ingest.revisions import is_of, revisions_of
from isthmus.ingest.services import Declaration, declaration_of
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace, ServiceKey
from isthmus.model.quotas import Allowances, QuotaUse
from isthmus.model.services import Service
from isthmus.model.snapshot import MeshSettings
from isthmus.model.values import dataclass

SERVICES = "services"
UNLIMITED = "unlimited"
_OVER, _UNREADABLE = "ISM0120", "ISM0121"
_AT_HOME = (".",)


class _Excess(Enum):
    """What becomes of an object that is over the quota."""

    STAYS_AT_HOME = "it counts in its own namespace only"
    LEFT_OUT = "it is left out"
    HOLDS = "it holds all the same, because leaving it out might let somebody in"


@dataclass(frozen=True, slots=True)
class _Limited:
    """A kind by what API servers call it. `default` is where it is visible if it does not say so."""

    kind: str
    excess: _Excess
    default: Callable[[MeshSettings], Sequence[str]] = lambda _: ()


_RULES = {
    "serviceentries": _Limited("ServiceEntry", _Excess.STAYS_AT_HOME, lambda settings: settings.service_export_to),
    "virtualservices": _Limited(
        "VirtualService", _Excess.STAYS_AT_HOME, lambda settings: settings.virtual_service_export_to
    ),
    "destinationrules": _Limited(
        "DestinationRule", _Excess.STAYS_AT_HOME, lambda settings: settings.destination_rule_export_to
    ),
    "httproutes": _Limited("HTTPRoute", _Excess.LEFT_OUT),
    "grpcroutes": _Limited("GRPCRoute", _Excess.LEFT_OUT),
    "tlsroutes": _Limited("TLSRoute", _Excess.LEFT_OUT),
    "tcproutes": _Limited("TCPRoute", _Excess.LEFT_OUT),
    "authorizationpolicies": _Limited("AuthorizationPolicy", _Excess.HOLDS),
}
RESOURCES = (SERVICES, *_RULES)
_RESOURCE_OF = {limited.kind: resource for resource, limited in _RULES.items()} | {"Service": SERVICES}


def allowances_of(cluster: ClusterInput, settings: MeshSettings) -> tuple[Allowances, tuple[Issue, ...]]:
    """What the config cluster's Namespaces say. Whoever may change a Namespace may change its quota; the system namespace has none."""
    found = cast("Mapping[tuple[str, str], NamespaceObject]", cluster.objects.get("Namespace", {}))
    said = {name: each.metadata.annotations.get(labels.QUOTA, "") for (_, name), each in found.items()}
    if not any(said.values()):
        return {}, ()
    issues: list[Issue] = []
    bounds = {name: _bounds(text, name, cluster.id, issues) for name, text in sorted(said.items()) if text}
    default = bounds.pop(settings.root_namespace, {})
    allowances: dict[str, dict[Namespace, int]] = {}
    for name in sorted(said.keys() - {settings.root_namespace}):
        inherited = {} if name == "kube-system" else default
        for resource, bound in (inherited | bounds.get(name, {})).items():
            if bound is not None:
                allowances.setdefault(resource, {})[Namespace(name)] = bound
    return allowances, tuple(issues)


def _bounds(text: str, namespace: str, cluster: ClusterId, issues: list[Issue]) -> dict[str, int | None]:
    """None is no bound, in spite of what holds for all."""
    found: dict[str, int | None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        resource, _, count = (word.strip() for word in part.partition("="))
        if resource in RESOURCES and (count == UNLIMITED or (count.isascii() and count.isdigit())):
            found[resource] = None if count == UNLIMITED else int(count[:9])
        else:
            issues.append(
                Issue(
                    subject=Subject(cluster, "Namespace", "", namespace),
                    code=_UNREADABLE,
                    severity=Severity.ERROR,
                    what=f"its quota says {part!r}, which bounds nothing",
                    fix=f"write RESOURCE=NUMBER or RESOURCE={UNLIMITED}, with one of {', '.join(RESOURCES)}",
                    field=f"metadata.annotations[{labels.QUOTA}]",
                )
            )
    return found


def rules_within(
    cluster: ClusterInput,
    allowances: Allowances,
    settings: MeshSettings,
    cache: IngestCache,
    revisions: frozenset[str],
) -> tuple[ClusterInput, tuple[QuotaUse, ...], tuple[Issue, ...]]:
    """The config cluster's objects as the quotas let them be, with what of these is used, and each object that is over one.

    `revisions`: whose rules count.
    """
    objects: dict[str, Mapping[tuple[str, str], object]] = {}
    uses: list[QuotaUse] = []
    issues: list[Issue] = []
    for resource, limited in _RULES.items():
        bounds = allowances.get(resource)
        if bounds is None:
            continue
        found = cast("Mapping[tuple[str, str], KubernetesObject]", cluster.objects.get(limited.kind, {}))
        counted: dict[Namespace, list[KubernetesObject]] = {namespace: [] for namespace in bounds}
        for (namespace, _), obj in found.items():
            if namespace in bounds and is_of(obj, revisions) and _leaves(obj, limited, settings):
                counted[Namespace(namespace)].append(obj)
        kept = dict(found)
        for use, over in _uses(resource, counted, bounds, _age):
            uses.append(use)
            for obj in over:
                subject = Subject(cluster.id, limited.kind, use.namespace, obj.metadata.name)
                issues.append(_over(subject, use, limited.excess))
                name = (use.namespace, obj.metadata.name)
                if limited.excess is _Excess.LEFT_OUT:
                    del kept[name]
                elif limited.excess is _Excess.STAYS_AT_HOME:
                    key = ("at home", limited.kind, name)
                    kept[name] = cache.once(key, (obj,), lambda obj=obj: _at_home(obj))  # type: ignore[misc]
        if kept != found:
            objects[limited.kind] = kept
    within = replace(cluster, objects={**cluster.objects, **objects}) if objects else cluster
    return within, tuple(uses), tuple(issues)


def services_within(
    services: dict[ServiceKey, Service],
    declarations: Iterable[Declaration],
    allowances: Allowances,
    settings: MeshSettings,
    cache: IngestCache,
) -> tuple[tuple[QuotaUse, ...], tuple[Issue, ...]]:
    """Changes services that are over a quota so that they stay in their namespace. One that several clusters declare counts once."""
    bounds = allowances.get(SERVICES)
    if bounds is None:
        return (), ()
    created: dict[ServiceKey, str] = {}
    for each in declarations:
        if each.key.namespace in bounds:
            created[each.key] = min(each.created, created.get(each.key, each.created))
    counted: dict[Namespace, list[Service]] = {namespace: [] for namespace in bounds}
    for key in created:
        service = services[key]
        if _is_for_others(service.export_to or settings.service_export_to, key.namespace):
            counted[key.namespace].append(service)
    uses: list[QuotaUse] = []
    issues: list[Issue] = []
    for use, over in _uses(SERVICES, counted, bounds, lambda each: (created[each.key], each.name)):
        uses.append(use)
        for service in over:
            subject = Subject(service.declared_in[0], "Service", use.namespace, service.name)
            issues.append(_over(subject, use, _Excess.STAYS_AT_HOME))
            services[service.key] = cache.once(
                ("at home", service.key),
                (service,),
                lambda service=service: replace(service, export_to=_AT_HOME),  # type: ignore[misc]
            )
    return tuple(uses), tuple(issues)


def refusal(
    kind: str,
    obj: KubernetesObject,
    clusters: Sequence[ClusterInput],
    config_cluster: ClusterId,
    settings: MeshSettings,
) -> str:
    """Why an object may not be written now: its namespace has all that its quota allows. Empty if it may, or counted before already."""
    resource = _RESOURCE_OF.get(kind)
    config = next((cluster for cluster in clusters if cluster.id == config_cluster), None)
    if resource is None or config is None:
        return ""
    allowances, _ = allowances_of(config, settings)
    bound = allowances.get(resource, {}).get(Namespace(obj.metadata.namespace))
    if bound is None:
        return ""
    revisions = revisions_of(config, settings)

    def counts(each: KubernetesObject) -> bool:
        if isinstance(each, ServiceObject):
            said = declaration_of(each, cluster=config_cluster, dns_domain=settings.dns_domain)
            exported = (said is not None and said.export_to) or settings.service_export_to
            return said is not None and _is_for_others(exported, said.key.namespace)
        return is_of(each, revisions) and _leaves(each, _RULES[resource], settings)

    known = {
        each.metadata.name
        for cluster in (clusters if resource == SERVICES else (config,))
        for each in cast(
            "Mapping[object, KubernetesObject]", discovered(cluster, settings.discovery).objects.get(kind, {})
        ).values()
        if each.metadata.namespace == obj.metadata.namespace and counts(each)
    }
    if not counts(obj) or obj.metadata.name in known or len(known) < bound:
        return ""
    use = QuotaUse(namespace=Namespace(obj.metadata.namespace), resource=resource, used=len(known), allowed=bound)
    return f"{_is_used_up(use)}: {_way_out(resource)}"


def _uses(
    resource: str,
    counted: Mapping[Namespace, list[Any]],
    bounds: Mapping[Namespace, int],
    age: Callable[[Any], tuple[str, str]],
) -> Iterable[tuple[QuotaUse, list[Any]]]:
    """Of each namespace, with those that are too many: the youngest."""
    for namespace, found in sorted(counted.items()):
        allowed = bounds[namespace]
        use = QuotaUse(namespace=namespace, resource=resource, used=len(found), allowed=allowed)
        yield use, sorted(found, key=age)[allowed:]


def _age(obj: KubernetesObject) -> tuple[str, str]:
    return obj.metadata.creation_timestamp, obj.metadata.name


def _leaves(obj: KubernetesObject, limited: _Limited, settings: MeshSettings) -> bool:
    """Whether it counts. Kinds that cannot say where they are visible always do."""
    if limited.excess is not _Excess.STAYS_AT_HOME:
        return True
    said = cast(Any, obj).spec.export_to or limited.default(settings)
    return _is_for_others(said, Namespace(obj.metadata.namespace))


def _is_for_others(export_to: Sequence[str], own: Namespace) -> bool:
    return not export_to or any(each not in (".", "~", own) for each in export_to)


def _at_home(obj: KubernetesObject) -> KubernetesObject:
    spec = msgspec.structs.replace(cast(Any, obj).spec, export_to=list(_AT_HOME))
    return msgspec.structs.replace(cast(Any, obj), spec=spec)  # type: ignore[no-any-return]


def _over(subject: Subject, use: QuotaUse, excess: _Excess) -> Issue:
    return Issue(
        subject=subject,
        code=_OVER,
        severity=Severity.ERROR,
        what=f"{_is_used_up(use)}, and this is one of the youngest: {excess.value}",
        fix=_way_out(use.resource),
    )


def _is_used_up(use: QuotaUse) -> str:
    there = f"there are {use.used} {use.resource} of namespace {use.namespace}"
    if use.resource == SERVICES or _RULES[use.resource].excess is _Excess.STAYS_AT_HOME:
        there += " that others see"
    return f"{there}, and its quota is {use.allowed}"


def _way_out(resource: str) -> str:
    more = f"have the mesh's administrator raise {resource} in the annotation {labels.QUOTA} of the Namespace"
    if resource == SERVICES:
        return f'delete one, annotate it {labels.EXPORT_TO}: ".", or {more}'
    if _RULES[resource].excess is _Excess.STAYS_AT_HOME:
        return f'delete one, give it exportTo: ["."], or {more}'
    return f"delete one, or {more}"
