"""Which DestinationRule holds between a caller's namespace and a service, and which endpoints a subset has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from isthmus.discovery.kinds import Kind
from isthmus.discovery.visibility import is_exported, is_for_all
from isthmus.model.names import Hostname, Namespace
from isthmus.model.services import Service
from isthmus.model.snapshot import Snapshot
from isthmus.model.traffic import DestinationRule, Subset
from isthmus.model.views import ProxyKind, Scope


def rule_for(scope: Scope, service: Service, snapshot: Snapshot) -> DestinationRule | None:
    """From the caller's own namespace, else from the service's, else from the root: the first that has one for the host.

    Gateways start the TLS that a BackendTLSPolicy of Gateway API asks for, whatever the rule says of TLS.

    In one namespace the most specific host counts, and rules that choose the caller by its labels before others. Several rules for it
    are one: the oldest one's policy, and everybody's subsets. A Pod of a headless service is called as the service's rule says, if it has none
    of its own, but has no subsets.
    """
    rule = _rule_for(scope, service, snapshot)
    if rule is None and service.pod_of:
        rule = _rule_for(scope, snapshot.services[service.pod_of], snapshot)
    return replace(rule, subsets=()) if rule and service.pod_of else rule


def _rule_for(scope: Scope, service: Service, snapshot: Snapshot) -> DestinationRule | None:
    known = snapshot.rules_by_host.get(service.hostname, ())
    if not known:
        return None
    found = _of_writers(scope, service, [rule for rule in known if not rule.backend_tls], snapshot)
    if scope.kind is not ProxyKind.ROUTER:
        return found
    secured = next((rule for rule in known if rule.backend_tls and _is_about(rule, service)), None)
    return replace(found, backend_tls=secured.backend_tls) if found and secured else found or secured


def _is_about(rule: DestinationRule, service: Service) -> bool:
    """A BackendTLSPolicy is for an object of its own namespace, and for no other that has the host, too, or is covered by it."""
    return (rule.namespace, rule.host) == (service.namespace, service.hostname)


def _of_writers(
    scope: Scope, service: Service, known: Sequence[DestinationRule], snapshot: Snapshot
) -> DestinationRule | None:
    default, root = snapshot.settings.destination_rule_export_to, snapshot.settings.root_namespace
    if all(
        rule.namespace in (service.namespace, root) and is_for_all(rule.export_to or default) and not rule.selector
        for rule in known
    ):
        # The same for every caller, so nobody is asked who calls.
        return _first((service.namespace, root), known, service.hostname)
    namespace, labels = scope.namespace, dict(scope.labels)
    there = [
        rule
        for rule in known
        if is_exported(rule.export_to or default, rule.namespace, namespace)
        and all(labels.get(key) == value for key, value in rule.selector)
        and (not rule.selector or rule.namespace == namespace)
    ]
    return _first((*(() if namespace == root else (namespace,)), service.namespace, root), there, service.hostname)


def _first(places: Sequence[Namespace], rules: Sequence[DestinationRule], hostname: Hostname) -> DestinationRule | None:
    for place in dict.fromkeys(places):
        own = [rule for rule in rules if rule.namespace == place]
        if own:
            host = max((rule.host for rule in own), key=lambda host: (host == hostname, len(host)))
            alike = [rule for rule in own if rule.host == host]
            return _merged([rule for rule in alike if rule.selector] or alike)
    return None


def is_in(subset: Subset, kind: Kind) -> bool:
    """Whether workloads of this kind have every label of the subset."""
    theirs = kind.all_labels()
    return all(theirs.get(key) == value for key, value in dict(subset.labels).items())


def _merged(rules: Sequence[DestinationRule]) -> DestinationRule:
    oldest, *others = sorted(rules, key=lambda rule: (rule.created, rule.name))
    subsets = {subset.name: subset for subset in oldest.subsets}
    for rule in others:
        for subset in rule.subsets:
            subsets.setdefault(subset.name, subset)
    return replace(oldest, subsets=tuple(subsets.values()))
