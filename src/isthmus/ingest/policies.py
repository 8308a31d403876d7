"""Security objects become values. What this version cannot do is an issue, and errs on the side of refusing."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import chain

import msgspec

from isthmus.api import security as api
from isthmus.api.meta import KubernetesObject
from isthmus.ingest.route_limits import CONTROL, HEADER
from isthmus.ingest.targets import targets_of
from isthmus.ingest.token_keys import check_address, check_keys, discovery_address
from isthmus.model.addresses import is_port
from isthmus.model.durations import seconds_of
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.model.path_templates import bad_path_template
from isthmus.model.security import (
    Action,
    Attribute,
    AuthorizationPolicy,
    Labels,
    MutualTlsMode,
    PeerAuthentication,
    RequestAuthentication,
    Rule,
    TokenRule,
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
    issues += (
        _issue(
            obj, cluster, "ISM0301", Severity.WARNING, "spec.portLevelMtls",
            f"{port!r:.40} is no port: its mode has no effect", "write a number from 1 to 65535",
        )
        for port in sorted(obj.spec.port_level_mtls)
        if not is_port(port)
    )  # fmt: skip
    ports = tuple(
        sorted((int(port), _mode(said.mode)) for port, said in obj.spec.port_level_mtls.items() if is_port(port))
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
    """None for a policy that is bound to what nothing can be bound to."""
    spec = obj.spec
    gateways, unbound = targets_of(spec, _subject(obj, cluster))
    if gateways is None:
        return None, unbound
    action = Action(spec.action) if spec.action in Action.__members__ else Action.DENY
    issues = list(unbound)
    if spec.action not in Action.__members__:
        issues.append(
            _issue(
                obj, cluster, "ISM0302", Severity.ERROR, "spec.action",
                f"there is no action {spec.action}: what the policy matches is denied",
                "use ALLOW, DENY, CUSTOM or AUDIT",
            )
        )  # fmt: skip
    rules = []
    for index, rule in enumerate(spec.rules or ()):
        read, unusable = _usable(_rule(rule or api.Rule()), action)
        rules += [read] if read else []
        issues += [
            _issue(
                obj, cluster, "ISM0305", Severity.ERROR, f"spec.rules[{index}]",
                f"{value!r} is {what}: "
                + ("the rule allows nobody" if action is Action.ALLOW else f"the rule holds for every {of}"),
                f"write it as {right}",
            )
            for value, (what, of, right) in unusable
        ]  # fmt: skip
    policy = AuthorizationPolicy(
        action=action,
        namespace=Namespace(obj.metadata.namespace),
        name=obj.metadata.name,
        selector=_labels(spec.selector),
        rules=tuple(rules),
        provider=spec.provider.name if spec.provider else "",
        gateways=gateways,
        dry_run=obj.metadata.annotations.get(DRY_RUN, "").lower() == "true",
    )
    return policy, tuple(issues)


def request_authentication_of(
    obj: api.RequestAuthentication, cluster: ClusterId
) -> tuple[RequestAuthentication | None, tuple[Issue, ...]]:
    """None for one that is bound to what nothing can be bound to."""
    spec = obj.spec
    gateways, unbound = targets_of(spec, _subject(obj, cluster))
    if gateways is None:
        return None, unbound
    issues = list(unbound)
    rules = []
    for index, said in enumerate(spec.jwt_rules):
        try:
            rules.append(_token_rule(said))
        except ValueError as error:
            issues.append(
                _issue(
                    obj, cluster, "ISM0304", Severity.ERROR, f"spec.jwtRules[{index}]",
                    f"{error}: tokens of {said.issuer or 'this issuer'} prove nothing",
                    "correct it; until then policies that demand such a token refuse",
                )
            )  # fmt: skip
    value = RequestAuthentication(
        created=obj.metadata.creation_timestamp,
        namespace=Namespace(obj.metadata.namespace),
        name=obj.metadata.name,
        selector=_labels(spec.selector),
        gateways=gateways,
        rules=tuple(rules),
    )
    return value, tuple(issues)


def _token_rule(said: api.JwtRule) -> TokenRule:
    if said.jwks:
        check_keys(said.jwks)
    elif said.jwks_uri:
        check_address(said.jwks_uri)
    _check_headers(said)
    return TokenRule(
        issuer=said.issuer,
        audiences=tuple(said.audiences),
        jwks=said.jwks,
        jwks_uri="" if said.jwks else said.jwks_uri,
        discovery="" if said.jwks or said.jwks_uri else discovery_address(said.issuer),
        headers=tuple((header.name, header.prefix) for header in said.from_headers),
        parameters=tuple(said.from_params),
        cookies=tuple(said.from_cookies),
        forward=said.forward_original_token,
        payload_header=said.output_payload_to_header,
        claim_headers=tuple((each.header, each.claim) for each in said.output_claim_to_headers),
        timeout_seconds=seconds_of(said.timeout) if said.timeout else 5.0,
        listed_claims=tuple(said.space_delimited_claims),
    )


def _check_headers(said: api.JwtRule) -> None:
    """Raises ValueError for what Envoy would refuse, with every other rule."""
    optional = (said.output_payload_to_header,) if said.output_payload_to_header else ()
    given = (
        *(each.name for each in said.from_headers),
        *(each.header for each in said.output_claim_to_headers),
        *optional,
    )
    for name in given:
        if not HEADER.fullmatch(name):
            raise ValueError(f"{name!r:.60} cannot be the name of a header")
    if any(CONTROL.search(each.prefix) for each in said.from_headers):
        raise ValueError("a prefix has a character that no header can have")
    if not all(each.claim for each in said.output_claim_to_headers):
        raise ValueError("a header is to have a claim without a name")


def _rule(rule: api.Rule) -> Rule:
    return Rule(
        sources=tuple(tuple(_attributes(entry.source or api.Source())) for entry in rule.from_),
        operations=tuple(tuple(_attributes(entry.operation or api.Operation())) for entry in rule.to),
        conditions=tuple(
            Attribute(condition.key, tuple(condition.values), tuple(condition.not_values)) for condition in rule.when
        ),
    )


_PORTS = ("ports", "destination.port")
_ADDRESSES = ("ip_blocks", "remote_ip_blocks", "source.ip", "remote.ip", "destination.ip")


Objection = tuple[str, str, str]
"""What a value is, of what it says nothing, and how it is written."""

_NO_RANGE: Objection = ("neither an address nor a range of addresses", "address", "10.0.0.1 or 10.0.0.0/8")
_NO_PORT: Objection = ("no number of a port", "port", "8080")
_NO_HEADER: Objection = ("compared with a header that cannot be", "header", "request.headers[x-user]")
_NO_TEMPLATE: Objection = ("no template for paths", "path", "/books/{*} or /books/{**}")


def _usable(rule: Rule, action: Action) -> tuple[Rule | None, list[tuple[str, Objection]]]:
    """Without what nobody can compare anything with. An ALLOW rule that had some is gone, any other holds for every address, port or path: what
    cannot be read never lets in more."""
    unusable = [
        (value, objection)
        for attribute in (*chain(*rule.sources), *chain(*rule.operations), *rule.conditions)
        for value in (*attribute.values, *attribute.not_values)
        if (objection := _objection(attribute.name, value)) is not None
    ]
    if not unusable:
        return rule, []
    if action is Action.ALLOW:
        return None, unusable

    def kept(attributes: tuple[Attribute, ...]) -> tuple[Attribute, ...]:
        return tuple(
            each
            for each in attributes
            if all(_objection(each.name, value) is None for value in (*each.values, *each.not_values))
        )

    return Rule(tuple(map(kept, rule.sources)), tuple(map(kept, rule.operations)), kept(rule.conditions)), unusable


def _objection(name: str, value: str) -> Objection | None:
    if name in _ADDRESSES:
        return None if _is_range(value) else _NO_RANGE
    if name in _PORTS:
        return None if is_port(value) else _NO_PORT
    if name.startswith("request.headers[") and CONTROL.search(name):
        return _NO_HEADER
    return _NO_TEMPLATE if name == "paths" and bad_path_template(value) else None


def _is_range(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


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


def _subject(obj: KubernetesObject, cluster: ClusterId) -> Subject:
    return Subject(cluster, type(obj).__name__, obj.metadata.namespace, obj.metadata.name)


def _issue(
    obj: api.PeerAuthentication | api.AuthorizationPolicy | api.RequestAuthentication,
    cluster: ClusterId,
    code: str,
    severity: Severity,
    field: str,
    what: str,
    fix: str,
) -> Issue:
    return Issue(subject=_subject(obj, cluster), code=code, severity=severity, what=what, fix=fix, field=field)
