"""What security and telemetry policies mean beyond their shape."""

from __future__ import annotations

import json
from collections.abc import Iterator

from isthmus.assurance.validation.terms import Object, bad_url, is_cidr, positive_port, selector, targets

_PLAIN_KEYS = {
    "source.ip", "remote.ip", "source.namespace", "source.principal", "source.serviceAccount", "request.auth.principal",
    "request.auth.audiences", "request.auth.presenter", "destination.ip", "destination.port", "connection.sni",
    "source.trustDomain",
}  # fmt: skip
_NAMED_KEYS = ("request.headers[", "request.auth.claims[", "experimental.envoy.filters.")


def _selected(spec: Object) -> Iterator[str]:
    yield from selector((spec.get("selector") or {}).get("matchLabels") or {}, "spec.selector")
    yield from targets(spec)


def peer_authentication(item: Object, warnings: list[str]) -> Iterator[str]:
    spec = item.get("spec") or {}
    matched = (spec.get("selector") or {}).get("matchLabels") or {}
    yield from _selected(spec)
    for port in spec.get("portLevelMtls") or {}:
        if not str(port).isdigit():
            yield f"spec.portLevelMtls: {port!r} is not a port"
        else:
            yield from positive_port(port, "spec.portLevelMtls")
    if spec.get("portLevelMtls") and not matched:
        yield "spec.portLevelMtls: needs a selector"


def request_authentication(item: Object, warnings: list[str]) -> Iterator[str]:
    spec = item.get("spec") or {}
    yield from _selected(spec)
    if spec.get("selector") is not None and not spec["selector"].get("matchLabels"):
        warnings.append("spec.selector: is empty, so the policy applies to the whole namespace")
    for index, rule in enumerate(spec.get("jwtRules") or []):
        path = f"spec.jwtRules[{index}]"
        if not rule.get("issuer"):
            yield f"{path}.issuer: is required"
        uri = rule.get("jwksUri") or rule.get("jwks_uri")
        if uri and bad_url(uri):
            yield f"{path}.jwksUri: {bad_url(uri)}"
        if rule.get("jwks") and not _is_key_set(rule["jwks"]):
            yield f"{path}.jwks: is not a JSON Web Key Set"


def _is_key_set(value: str) -> bool:
    try:
        return isinstance(json.loads(value)["keys"], list)
    except (ValueError, KeyError, TypeError):
        return False


def authorization_policy(item: Object, warnings: list[str]) -> Iterator[str]:
    spec = item.get("spec") or {}
    action, rules = spec.get("action", "ALLOW"), spec.get("rules") or []
    yield from _selected(spec)
    if action == "CUSTOM" and not (spec.get("provider") or {}).get("name"):
        yield "spec.provider.name: is required when action is CUSTOM"
    if action != "CUSTOM" and spec.get("provider") is not None:
        yield f"spec.provider: is only for action CUSTOM, not {action}"
    if action in ("DENY", "CUSTOM") and not rules:
        yield f"spec.rules: an action of {action} without rules never does anything"
    for index, rule in enumerate(rules):
        path = f"spec.rules[{index}]"
        for origin in rule.get("from") or []:
            yield from _source(origin.get("source"), f"{path}.from")
        for target in rule.get("to") or []:
            yield from _operation(target.get("operation"), f"{path}.to")
        for condition in rule.get("when") or []:
            yield from _condition(condition, f"{path}.when")


def _source(source: Object | None, path: str) -> Iterator[str]:
    if not source or not any(source.values()):
        yield f"{path}.source: must not be empty"
        return
    for name in ("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"):
        yield from (
            f"{path}.{name}: {block!r} is not an address or CIDR"
            for block in source.get(name) or []
            if not is_cidr(block)
        )
    accounts = [*(source.get("serviceAccounts") or []), *(source.get("notServiceAccounts") or [])]
    others = ("principals", "notPrincipals", "namespaces", "notNamespaces")
    if accounts and any(source.get(name) for name in others):
        yield f"{path}: serviceAccounts cannot be set with namespaces or principals"
    for account in accounts:
        if "*" in account or account.count("/") > 1:
            yield f"{path}.serviceAccounts: {account!r} is not NAME or NAMESPACE/NAME"


def _operation(operation: Object | None, path: str) -> Iterator[str]:
    if not operation or not any(operation.values()):
        yield f"{path}.operation: must not be empty"
        return
    for name in ("ports", "notPorts"):
        for port in operation.get(name) or []:
            if not port.isdigit() or not 1 <= int(port) <= 65535:
                yield f"{path}.{name}: {port!r} is not a port"
    for name in ("paths", "notPaths"):
        for given in operation.get(name) or []:
            if "{" in given and given.count("{") != given.count("}"):
                yield f"{path}.{name}: {given!r} has an open brace"


def _condition(condition: Object, path: str) -> Iterator[str]:
    key = condition["key"]
    values = [*(condition.get("values") or []), *(condition.get("notValues") or [])]
    if not values:
        yield f"{path}: {key!r} needs values or notValues"
    named = key.startswith(_NAMED_KEYS) and key.endswith("]") and not key.endswith("[]")
    if key not in _PLAIN_KEYS and not named:
        yield f"{path}: {key!r} is not a known attribute"
    for value in values:
        if key in ("source.ip", "remote.ip", "destination.ip") and not is_cidr(value):
            yield f"{path}: {value!r} is not an address or CIDR"
        if key == "destination.port" and not (value.isdigit() and 1 <= int(value) <= 65535):
            yield f"{path}: {value!r} is not a port"


def telemetry(item: Object, warnings: list[str]) -> Iterator[str]:
    spec = item.get("spec") or {}
    yield from _selected(spec)
    if len(spec.get("tracing") or []) > 1:
        warnings.append("spec.tracing: only the first entry counts")
    for metric in spec.get("metrics") or []:
        for override in metric.get("overrides") or []:
            for tag, change in (override.get("tagOverrides") or {}).items():
                removes = change.get("operation", "UPSERT") == "REMOVE"
                if removes == bool(change.get("value")):
                    yield f"spec.metrics: tag {tag}: a value {'must not' if removes else 'must'} be given for this operation"
