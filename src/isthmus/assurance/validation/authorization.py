"""What an AuthorizationPolicy means beyond its shape."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.terms import Object, is_cidr, selected
from isthmus.model.path_templates import bad_path_template

_PLAIN_KEYS = {
    "source.ip", "remote.ip", "source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain",
    "request.auth.principal", "request.auth.audiences", "request.auth.presenter", "destination.ip", "destination.port",
    "connection.sni",
}  # fmt: skip
_NAMED_KEYS = ("request.headers[", "request.auth.claims[", "experimental.envoy.filters.")
_ADDRESS_KEYS = ("source.ip", "remote.ip", "destination.ip")
_BLOCKS = ("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks")
# What only an HTTP request has; on a plain TCP connection a rule with it is wider (DENY) or void (ALLOW).
_HTTP_OPERATIONS = ("hosts", "notHosts", "methods", "notMethods", "paths", "notPaths")
_HTTP_SOURCES = ("requestPrincipals", "notRequestPrincipals", "remoteIpBlocks", "notRemoteIpBlocks")


def authorization_policy(item: Object) -> Iterator[Problem]:
    spec = item.get("spec") or {}
    action, rules = spec.get("action", "ALLOW"), spec.get("rules") or []
    yield from selected(spec)
    if action == "CUSTOM" and not (spec.get("provider") or {}).get("name"):
        yield Problem(codes.NEEDS, "spec.provider.name", "is required when action is CUSTOM")
    if action != "CUSTOM" and spec.get("provider") is not None:
        yield Problem(codes.CONTRADICTION, "spec.provider", f"is only for action CUSTOM, not {action}")
    if action in ("DENY", "CUSTOM") and not rules:
        yield Problem(
            codes.SAYS_NOTHING, "spec.rules", f"an action of {action} without rules never does anything", "add a rule"
        )
    if action == "ALLOW" and not rules:
        yield Problem(codes.RISKY, "spec.rules", "ALLOW without rules allows nobody: everything is denied")
    for index, rule in enumerate(rules):
        yield from _rule(rule, action, f"spec.rules[{index}]")


def _rule(rule: Object, action: str, path: str) -> Iterator[Problem]:
    for index, origin in enumerate(rule.get("from") or []):
        yield from _source(origin.get("source"), f"{path}.from[{index}].source")
    for index, target in enumerate(rule.get("to") or []):
        yield from _operation(target.get("operation"), f"{path}.to[{index}].operation")
    for index, condition in enumerate(rule.get("when") or []):
        yield from _condition(condition, f"{path}.when[{index}]")
    if action == "DENY" and _needs_http(rule) and not _names_ports(rule):
        yield Problem(
            codes.RISKY,
            path,
            "on a TCP port the HTTP conditions of this rule cannot be seen, so it denies more than it says",
            "name the HTTP ports in to.operation.ports",
        )


def _needs_http(rule: Object) -> bool:
    sources = [origin.get("source") or {} for origin in rule.get("from") or []]
    operations = [target.get("operation") or {} for target in rule.get("to") or []]
    return any(operation.get(name) for operation in operations for name in _HTTP_OPERATIONS) or any(
        source.get(name) for source in sources for name in _HTTP_SOURCES
    )


def _names_ports(rule: Object) -> bool:
    operations = [target.get("operation") or {} for target in rule.get("to") or []]
    return bool(operations) and all(operation.get("ports") for operation in operations)


def _source(source: Object | None, path: str) -> Iterator[Problem]:
    if not source or not any(source.values()):
        yield Problem(codes.SAYS_NOTHING, path, "must not be empty")
        return
    for name in _BLOCKS:
        for index, block in enumerate(source.get(name) or []):
            if not is_cidr(block):
                yield Problem(codes.NOT_AN_ADDRESS, f"{path}.{name}[{index}]", f"{block!r} is not an address or CIDR")
    others = [name for name in ("principals", "notPrincipals", "namespaces", "notNamespaces") if source.get(name)]
    for name in ("serviceAccounts", "notServiceAccounts"):
        for index, account in enumerate(source.get(name) or []):
            if "*" in account or account.count("/") > 1:
                yield Problem(codes.NOT_A_NAME, f"{path}.{name}[{index}]", f"{account!r} is not NAME or NAMESPACE/NAME")
        if source.get(name) and others:
            yield Problem(
                codes.EXCLUDE_EACH_OTHER,
                f"{path}.{name}",
                f"serviceAccounts cannot be set with namespaces or principals ({', '.join(others)})",
            )


def _operation(operation: Object | None, path: str) -> Iterator[Problem]:
    if not operation or not any(operation.values()):
        yield Problem(codes.SAYS_NOTHING, path, "must not be empty")
        return
    for name in ("ports", "notPorts"):
        for index, port in enumerate(operation.get(name) or []):
            if not _is_port(port):
                yield Problem(codes.BAD_PORT, f"{path}.{name}[{index}]", f"{port!r} is not a port")
    for name in ("paths", "notPaths"):
        for index, given in enumerate(operation.get(name) or []):
            yield from _path_template(given, f"{path}.{name}[{index}]")


def _path_template(given: str, path: str) -> Iterator[Problem]:
    if why := bad_path_template(given):
        yield Problem(codes.MALFORMED, path, f"{given!r} {why}")


def _condition(condition: Object, path: str) -> Iterator[Problem]:
    key = condition["key"]
    named = key.startswith(_NAMED_KEYS) and key.endswith("]") and not key.endswith("[]")
    if not condition.get("values") and not condition.get("notValues"):
        yield Problem(codes.MISSING, f"{path}.values", f"{key!r} needs values or notValues")
    if key not in _PLAIN_KEYS and not named:
        yield Problem(codes.UNKNOWN_VALUE, f"{path}.key", f"{key!r} is not a known attribute")
    for name in ("values", "notValues"):
        for index, value in enumerate(condition.get(name) or []):
            where = f"{path}.{name}[{index}]"
            if key in _ADDRESS_KEYS and not is_cidr(value):
                yield Problem(codes.NOT_AN_ADDRESS, where, f"{value!r} is not an address or CIDR")
            if key == "destination.port" and not _is_port(value):
                yield Problem(codes.BAD_PORT, where, f"{value!r} is not a port")


def _is_port(value: str) -> bool:
    return value.isdecimal() and value.isascii() and 1 <= int(value[:6]) <= 65535
