"""What a policy is bound to by `targetRefs`: Gateways of Gateway API, by name. Their proxies carry that name as a label.

A Service or a ServiceEntry is a waypoint's matter (an ambient mesh's gateway in front of a service), and there are none here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from isthmus.api import gateway_api
from isthmus.api.security import Selector, TargetReference
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace

_WAYPOINTS = ("Service", "ServiceEntry", "GatewayClass")


class _Bindable(Protocol):
    @property
    def selector(self) -> Selector | None: ...
    @property
    def target_ref(self) -> TargetReference | None: ...
    @property
    def target_refs(self) -> list[TargetReference]: ...


class _Bound(Protocol):
    @property
    def namespace(self) -> Namespace: ...
    @property
    def name(self) -> str: ...
    @property
    def gateways(self) -> tuple[str, ...]: ...


def targets_of(spec: _Bindable, subject: Subject) -> tuple[tuple[str, ...] | None, tuple[Issue, ...]]:
    """Names of Gateways; none at all if the object says nothing of targets; None if it does, and none of them can be bound to."""
    named = [("spec.targetRef", spec.target_ref)] if spec.target_ref else []
    named += [(f"spec.targetRefs[{index}]", target) for index, target in enumerate(spec.target_refs)]
    issues = []
    for field, target in named:
        why = _objection(target, subject.namespace)
        if why:
            issues.append(
                _issue(subject, field, f"{why}: it is not bound to it", "target a Gateway of its own namespace")
            )
    if named and spec.selector:
        what = "targetRefs and selector exclude each other: the selector has no effect"
        issues.append(_issue(subject, "spec.selector", what, "keep one of the two"))
    gateways = tuple(sorted({target.name for _, target in named if not _objection(target, subject.namespace)}))
    return (gateways if gateways or not named else None), tuple(issues)


def without_gateway(
    found: Iterable[_Bound], kind: str, gateways: Collection[tuple[str, str]], cluster: ClusterId
) -> Iterator[Issue]:
    """Targets that are not there: the policy holds as soon as they are."""
    for each in found:
        for name in each.gateways:
            if (each.namespace, name) not in gateways:
                subject = Subject(cluster, kind, each.namespace, each.name)
                what = f"there is no Gateway {name} in {each.namespace}: the {kind} holds nowhere because of it"
                yield _issue(subject, "spec.targetRefs", what, "create the Gateway, or correct its name")


def _objection(target: TargetReference, namespace: str) -> str:
    if target.kind in _WAYPOINTS:
        return f"a {target.kind} is what waypoints stand before, and sidecars have none"
    if target.kind != "Gateway" or target.group != gateway_api.GROUP:
        return f"{target.group or 'core'}/{target.kind or '(no kind)'} is nothing that policies are bound to"
    if target.namespace not in ("", namespace):
        return f"the Gateway is in another namespace, {target.namespace}"
    return "" if target.name else "the Gateway has no name"


def _issue(subject: Subject, field: str, what: str, fix: str) -> Issue:
    return Issue(subject=subject, code="ISM0303", severity=Severity.WARNING, what=what, fix=fix, field=field)
