"""Delegates: a root VirtualService's rule is replaced by the rules of the VirtualService that it names.

A delegate's match has to be a refinement of one of the root's: a rule whose matches contradict the root's is left out, with an issue. What
the delegate does not say itself it has from the root. Delegates of delegates are not followed, as in Istio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from isthmus.ingest.route_limits import AT_GATEWAYS, CLAIMS_AT_GATEWAYS
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.model.routing import Comparison, Handling, HttpRule, Named, RequestMatch, TextMatch, VirtualService

_SILENT = Handling()


def with_delegates(
    found: Sequence[VirtualService], cluster: ClusterId
) -> tuple[tuple[VirtualService, ...], tuple[Issue, ...]]:
    """The VirtualServices that have hosts, with their delegates' rules in place."""
    delegates = {(each.namespace, each.name): each for each in found if not each.hosts}
    issues: list[Issue] = []
    roots = []
    for root in found:
        if not root.hosts:
            continue
        if any(rule.delegate for rule in root.rules):
            root = replace(root, rules=tuple(_rules(root, delegates, cluster, issues)))
        roots.append(root)
    return tuple(roots), tuple(issues)


def _rules(
    root: VirtualService,
    delegates: dict[tuple[Namespace, str], VirtualService],
    cluster: ClusterId,
    issues: list[Issue],
) -> Iterator[HttpRule]:
    for index, rule in enumerate(root.rules):
        if rule.delegate is None:
            yield rule
            continue

        def left_out(what: str, fix: str, code: str = "ISM0405", index: int = index) -> None:
            subject = Subject(cluster, "VirtualService", root.namespace, root.name)
            field = f"spec.http[{index}].delegate"
            issues.append(Issue(subject=subject, code=code, severity=Severity.ERROR, what=what, fix=fix, field=field))

        delegate = delegates.get(rule.delegate)
        name = "/".join(rule.delegate)
        if delegate is None or not _is_for(delegate, root.namespace):
            left_out(
                f"there is no delegate {name} that this namespace sees: the rule is left out",
                "create a VirtualService of that name without hosts, or export it to this namespace",
            )
            continue
        for number, below in enumerate(delegate.rules):
            merged = _merged(rule, below)
            if merged is None:
                left_out(
                    f"rule {number} of the delegate {name} contradicts the matches here, and is left out",
                    "let each match of the delegate refine one of these: an equal or longer prefix, no other port",
                )
            else:
                if merged.asks_sidecars_for_claims(root.gateways) and not rule.asks_sidecars_for_claims(root.gateways):
                    left_out(
                        f"rule {number} of the delegate {name}: {CLAIMS_AT_GATEWAYS}: left out", AT_GATEWAYS, "ISM0402"
                    )
                yield merged


def _is_for(delegate: VirtualService, namespace: Namespace) -> bool:
    to = delegate.export_to
    return not to or "*" in to or namespace in to or ("." in to and delegate.namespace == namespace)


def _merged(root: HttpRule, below: HttpRule) -> HttpRule | None:
    """None where no match of the delegate refines one of the root's."""
    matches = _matches(root.matches, below.matches)
    if matches is None:
        return None
    own, from_root = below.handling, root.handling
    inherited = {
        field: getattr(from_root, field)
        for field in Handling.__dataclass_fields__
        if getattr(own, field) == getattr(_SILENT, field)
    }
    return HttpRule(
        name="-".join(part for part in (root.name, below.name) if part),
        matches=matches,
        targets=below.targets,
        mirrors=below.mirrors or root.mirrors,
        handling=replace(own, **inherited),
        origin=below.origin,
    )


def _matches(root: tuple[RequestMatch, ...], below: tuple[RequestMatch, ...]) -> tuple[RequestMatch, ...] | None:
    if not root or not below:
        return root or below
    found: list[RequestMatch] = []
    for leaf in below:
        refined = [_refined(wider, leaf) for wider in root if not _contradict(wider, leaf)]
        if not refined:
            return None
        found += refined
    return tuple(found)


def _refined(root: RequestMatch, leaf: RequestMatch) -> RequestMatch:
    return replace(
        leaf,
        uri=leaf.uri or root.uri,
        ignore_case=leaf.ignore_case or root.ignore_case,
        method=leaf.method or root.method,
        scheme=leaf.scheme or root.scheme,
        authority=leaf.authority or root.authority,
        headers=_both(root.headers, leaf.headers),
        without_headers=_both(root.without_headers, leaf.without_headers),
        query=_both(root.query, leaf.query),
        port=leaf.port or root.port,
        source_namespace=leaf.source_namespace or root.source_namespace,
        source_labels=tuple(sorted((dict(root.source_labels) | dict(leaf.source_labels)).items())),
        gateways=leaf.gateways or root.gateways,
    )


def _both(root: Named, leaf: Named) -> Named:
    return tuple(sorted((dict(root) | dict(leaf)).items()))


def _contradict(root: RequestMatch, leaf: RequestMatch) -> bool:
    texts = [(root.uri, leaf.uri), (root.method, leaf.method), (root.scheme, leaf.scheme)]
    texts.append((root.authority, leaf.authority))
    for one, other in (
        (root.headers, leaf.headers),
        (root.without_headers, leaf.without_headers),
        (root.query, leaf.query),
    ):
        texts += [(dict(one).get(name), text) for name, text in other]
    labels = dict(root.source_labels)
    return (
        any(_excludes(*pair) for pair in texts)
        or (bool(root.port and leaf.port) and root.port != leaf.port)
        or bool(root.source_namespace and leaf.source_namespace and root.source_namespace != leaf.source_namespace)
        or any(labels.get(name, value) != value for name, value in leaf.source_labels)
    )


def _excludes(root: TextMatch | None, leaf: TextMatch | None) -> bool:
    """Whether the leaf may match what the root does not. Nobody can tell that of regular expressions."""
    if root is None or leaf is None or root.comparison is Comparison.PRESENT:
        return False
    if Comparison.REGEX in (root.comparison, leaf.comparison):
        return True
    if root.comparison is Comparison.EXACT:
        return leaf != root
    return leaf.comparison is Comparison.PRESENT or not leaf.value.startswith(root.value)
