"""Security objects become values. What this version cannot do is an issue, and errs on the side of refusing."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from isthmus.api import security as api
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.model.security import (
    Action,
    Attribute,
    AuthorizationPolicy,
    Labels,
    MutualTlsMode,
    PeerAuthentication,
    Rule,
)

DRY_RUN = "istio.io/dry-run"


def peer_authentication_of(
    obj: api.PeerAuthentication, cluster: ClusterId
) -> tuple[PeerAuthentication, tuple[Issue, ...]]:
    """Ports' modes count only together with a selector, because port numbers are a workload's own."""
    issues = []
    selector = _labels(obj.spec.selector)
    if obj.spec.port_level_mtls and not selector:
        issues.append(
            _issue(
                obj, cluster, "ISM0301", Severity.WARNING, "spec.portLevelMtls",
                "port modes have no effect without a selector", "name the workload in spec.selector.matchLabels",
            )
        )  # fmt: skip
    ports = tuple(
        sorted((int(port), _mode(said.mode)) for port, said in obj.spec.port_level_mtls.items() if port.isdecimal())
    )
    value = PeerAuthentication(
        created=obj.metadata.creation_timestamp,
        namespace=Namespace(obj.metadata.namespace),
        name=obj.metadata.name,
        selector=selector,
        mode=_mode(obj.spec.mtls.mode) if obj.spec.mtls else None,
        port_modes=ports if selector else (),
    )
    return value, tuple(issues)


def authorization_policy_of(
    obj: api.AuthorizationPolicy, cluster: ClusterId
) -> tuple[AuthorizationPolicy | None, tuple[Issue, ...]]:
    """None for a policy that is bound to something else than workloads by their labels."""
    spec = obj.spec
    if spec.target_ref or spec.target_refs:
        return None, (
            _issue(
                obj, cluster, "ISM0303", Severity.WARNING, "spec.targetRefs",
                "policies for targetRefs are not read by this version", "select workloads by spec.selector instead",
            ),
        )  # fmt: skip
    action = Action(spec.action) if spec.action in Action.__members__ else Action.DENY
    issues: list[Issue] = []
    if action is Action.CUSTOM or spec.action not in Action.__members__:
        issues.append(
            _issue(
                obj, cluster, "ISM0302", Severity.ERROR, "spec.action",
                f"action {spec.action} is not done by this version: what the policy matches is denied",
                "use ALLOW, DENY or AUDIT",
            )
        )  # fmt: skip
    policy = AuthorizationPolicy(
        action=action,
        namespace=Namespace(obj.metadata.namespace),
        name=obj.metadata.name,
        selector=_labels(spec.selector),
        rules=tuple(_rule(rule or api.Rule()) for rule in spec.rules or ()),
        dry_run=obj.metadata.annotations.get(DRY_RUN, "").lower() == "true",
    )
    return policy, tuple(issues)


def _rule(rule: api.Rule) -> Rule:
    return Rule(
        sources=tuple(tuple(_attributes(entry.source or api.Source())) for entry in rule.from_),
        operations=tuple(tuple(_attributes(entry.operation or api.Operation())) for entry in rule.to),
        conditions=tuple(
            Attribute(condition.key, tuple(condition.values), tuple(condition.not_values)) for condition in rule.when
        ),
    )


def _attributes(said: api.Source | api.Operation) -> Iterator[Attribute]:
    """Every field that says something, with its `not` half."""
    fields = msgspec.structs.asdict(said)
    for name in sorted(name for name in fields if not name.startswith("not_")):
        values, others = tuple(fields[name]), tuple(fields[f"not_{name}"])
        if values or others:
            yield Attribute(name, values, others)


def _labels(selector: api.Selector | None) -> Labels:
    return tuple(sorted(selector.match_labels.items())) if selector else ()


def _mode(text: str) -> MutualTlsMode | None:
    return MutualTlsMode(text) if text in MutualTlsMode.__members__ else None


def _issue(
    obj: api.PeerAuthentication | api.AuthorizationPolicy,
    cluster: ClusterId,
    code: str,
    severity: Severity,
    field: str,
    what: str,
    fix: str,
) -> Issue:
    kind = type(obj).__name__
    subject = Subject(cluster, kind, obj.metadata.namespace, obj.metadata.name)
    return Issue(subject=subject, code=code, severity=severity, what=what, fix=fix, field=field)
