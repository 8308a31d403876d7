"""Policies and what they select: somebody, and not the same as another one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from isthmus.assurance.analysis.injection import is_ambient
from isthmus.assurance.analysis.items import Index, Item, Labels, selects
from isthmus.assurance.catalogue import gateways as gateway_codes
from isthmus.assurance.catalogue import policies as codes
from isthmus.assurance.catalogue import routing
from isthmus.assurance.catalogue.code import Code
from isthmus.model.issues import Issue
from isthmus.model.selectors import GATEWAY_NAME


def sidecars(index: Index) -> Iterator[Issue]:
    found = []
    for sidecar in index.each("Sidecar"):
        home = index.namespaces.get(sidecar.namespace)
        if home is not None and is_ambient(home):
            yield sidecar.finding(codes.INEFFECTIVE_POLICY, f"namespace {home.name} has no sidecars: it is ambient")
        else:
            found.append((sidecar, (sidecar.spec.get("workloadSelector") or {}).get("labels") or {}))
    yield from _without_selector(found, codes.SEVERAL_DEFAULT_SIDECARS)
    yield from _with_selector(index, found, codes.CONFLICTING_SIDECARS)


def telemetries(index: Index) -> Iterator[Issue]:
    found = [
        (item, (item.spec.get("selector") or {}).get("matchLabels") or {})
        for item in index.each("Telemetry")
        if not item.spec.get("targetRef") and not item.spec.get("targetRefs")
    ]
    yield from _without_selector(found, codes.SEVERAL_DEFAULT_TELEMETRIES)
    yield from _with_selector(index, found, codes.CONFLICTING_TELEMETRIES)


Selecting = Sequence[tuple[Item, Labels]]


def _without_selector(found: Selecting, code: Code) -> Iterator[Issue]:
    by_namespace: dict[str, list[Item]] = defaultdict(list)
    for item, labels in found:
        if not labels:
            by_namespace[item.namespace].append(item)
    for items in by_namespace.values():
        for item in items if len(items) > 1 else ():
            others = ", ".join(other.name for other in items if other is not item)
            yield item.finding(code, f"has no selector, and neither has {others} of the same namespace")


def _with_selector(index: Index, found: Selecting, code: Code) -> Iterator[Issue]:
    clashes: dict[Item, set[str]] = defaultdict(set)
    chosen = [(item, labels) for item, labels in found if labels]
    for item, labels in chosen:
        pods = index.pods(item.namespace, labels)
        if not pods and not _selects_entry(index, item.namespace, labels):
            shown = ", ".join(f"{key}={value}" for key, value in labels.items())
            yield item.finding(routing.NOT_FOUND, f"no workload of the namespace has the labels {shown}")
        for other, second in chosen:
            if other is not item and other.namespace == item.namespace:
                both = [pod.name for pod in pods if selects(second, pod.labels)]
                if both:
                    clashes[item].add(f"{other.name} selects {both[0]}, too")
    for item, said in clashes.items():
        yield item.finding(code, "; ".join(sorted(said)))


def _selects_entry(index: Index, namespace: str, labels: Labels) -> bool:
    return any(selects(labels, given) for given in index.workload_labels.get(namespace, ()))


def authorization_policies(index: Index) -> Iterator[Issue]:
    known = set(index.namespaces) | set(index.workload_labels) | {index.settings.root_namespace}
    for policy in index.each("AuthorizationPolicy"):
        if not policy.spec.get("targetRef") and not policy.spec.get("targetRefs"):
            yield from _nobody(index, policy)
        for number, rule in enumerate(policy.spec.get("rules") or []):
            for place, origin in enumerate(rule.get("from") or []):
                for key in ("namespaces", "notNamespaces"):
                    path = f"spec.rules[{number}].from[{place}].source.{key}"
                    for position, name in enumerate((origin.get("source") or {}).get(key) or []):
                        if not any(fnmatchcase(each, name) for each in known):
                            yield policy.finding(
                                routing.NOT_FOUND, f"no namespace is called {name}", path=f"{path}[{position}]"
                            )


def _nobody(index: Index, policy: Item) -> Iterator[Issue]:
    labels: Labels = (policy.spec.get("selector") or {}).get("matchLabels") or {}
    in_root = policy.namespace == index.settings.root_namespace
    if in_root and not labels:
        return
    spaces = list(index.workload_labels) if in_root else [policy.namespace]
    if not any(_selects_entry(index, namespace, labels) for namespace in spaces):
        shown = ", ".join(f"{key}={value}" for key, value in labels.items())
        what = f"no workload has the labels {shown}" if labels else "its namespace has no workload"
        yield policy.finding(codes.NOBODY_SELECTED, what, path="spec.selector" if labels else "")


def gateway_api_selectors(index: Index) -> Iterator[Issue]:
    """Which labels such gateways' Pods have is their deployer's to say; their names are not."""
    for kind in ("RequestAuthentication", "AuthorizationPolicy", "WasmPlugin", "Telemetry"):
        for policy in index.each(kind):
            if policy.spec.get("targetRef") or policy.spec.get("targetRefs"):
                continue
            labels = (policy.spec.get("selector") or {}).get("matchLabels") or {}
            spaces = (
                list(index.pods_by_namespace)
                if policy.namespace == index.settings.root_namespace
                else [policy.namespace]
            )
            names = {
                pod.labels[GATEWAY_NAME]
                for namespace in spaces
                for pod in index.pods(namespace, labels)
                if labels and pod.labels.get(GATEWAY_NAME)
            }
            if names:
                yield policy.finding(
                    gateway_codes.INEFFECTIVE_SELECTOR, f"selects Pods of gateway {', '.join(sorted(names))} by labels"
                )
