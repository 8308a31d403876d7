"""What role-based access control (Envoy's RBAC filters) makes of a request. The names of its rules say which policy they came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from isthmus.assurance.traffic.request import Request, Tls
from isthmus.assurance.traffic.texts import is_within, matches_header, matches_template, matches_text, path_of
from isthmus.discovery.federation import POLICY_PREFIX
from isthmus.model.values import dataclass

Object = Mapping[str, Any]

_JWT = "envoy.filters.http.jwt_authn"


class Undecidable(Exception):
    """A rule that only a running Envoy can decide; the text says what it asks."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules look at."""

    request: Request
    headers: Mapping[str, str]

    @property
    def metadata(self) -> Object:
        """Of the filters before: a valid token's claims."""
        return {_JWT: {"payload": dict(self.request.claims)}} if self.request.claims else {}


def matched_by(rules: Object, facts: Facts) -> str:
    """The name of the first rule that matches, in the order of names; empty where none does."""
    return next((name for name, policy in sorted(rules.get("policies", {}).items()) if _policy(policy, facts)), "")


def allows(rules: Object, matched: str) -> bool:
    """Whether the request goes on, given the rule that matched it."""
    action = rules.get("action", "ALLOW")
    return bool(matched) if action == "ALLOW" else not matched if action == "DENY" else True


def object_named_by(rule: str) -> str:
    """`ns[foo]-policy[bar]-rule[0]` is of AuthorizationPolicy foo/bar, or of a MeshPeer; anything else has no object of its own."""
    _, found, rest = rule.partition("ns[")
    namespace, _, rest = rest.partition("]-policy[")
    name, closed, _ = rest.partition("]-rule[")
    if not found or not closed:
        return ""
    if name.startswith(POLICY_PREFIX):
        return f"MeshPeer {name.removeprefix(POLICY_PREFIX)}"
    return f"AuthorizationPolicy {namespace}/{name}"


def objects_named_in(rules: Object) -> Iterator[str]:
    """Every policy that the rules came from, once."""
    yield from dict.fromkeys(filter(None, map(object_named_by, sorted(rules.get("policies", {})))))


def _policy(policy: Object, facts: Facts) -> bool:
    if "condition" in policy or "checkedCondition" in policy:
        raise Undecidable("a CEL condition")
    return any(_permission(each, facts) for each in policy.get("permissions", ())) and any(
        _principal(each, facts) for each in policy.get("principals", ())
    )


def _permission(permission: Object, facts: Facts) -> bool:
    [(kind, said)] = permission.items()
    request = facts.request
    match kind:
        case "any":
            return bool(said)
        case "andRules":
            return all(_permission(each, facts) for each in said.get("rules", ()))
        case "orRules":
            return any(_permission(each, facts) for each in said.get("rules", ()))
        case "notRule":
            return not _permission(said, facts)
        case "header":
            return request.is_http and matches_header(said, facts.headers)
        case "urlPath":
            return request.is_http and matches_text(said.get("path", {}), path_of(facts.headers[":path"]))
        case "uriTemplate":
            template = said.get("typedConfig", {}).get("pathTemplate", "")
            return request.is_http and matches_template(template, path_of(facts.headers[":path"]))
        case "destinationIp":
            return is_within(said, request.address)
        case "destinationPort":
            return int(said) == request.port
        case "requestedServerName":
            return matches_text(said, request.sni)
        case "metadata":
            return matches_metadata(said, facts.metadata)
    raise Undecidable(kind)


def _principal(principal: Object, facts: Facts) -> bool:
    [(kind, said)] = principal.items()
    match kind:
        case "any":
            return bool(said)
        case "andIds":
            return all(_principal(each, facts) for each in said.get("ids", ()))
        case "orIds":
            return any(_principal(each, facts) for each in said.get("ids", ()))
        case "notId":
            return not _principal(said, facts)
        case "authenticated":
            return _authenticated(said, facts.request)
        case "directRemoteIp" | "sourceIp" | "remoteIp":
            return is_within(said, facts.request.source)
        case "header":
            return facts.request.is_http and matches_header(said, facts.headers)
        case "urlPath":
            return facts.request.is_http and matches_text(said.get("path", {}), path_of(facts.headers[":path"]))
        case "metadata":
            return matches_metadata(said, facts.metadata)
    raise Undecidable(kind)


def _authenticated(said: Object, request: Request) -> bool:
    if request.tls is not Tls.MUTUAL:
        return False
    return "principalName" not in said or matches_text(said["principalName"], request.caller)


def matches_metadata(matcher: Object, metadata: Object) -> bool:
    """A MetadataMatcher."""
    value: Any = metadata.get(matcher.get("filter", ""), {})
    for segment in matcher.get("path", ()):
        value = value.get(segment.get("key")) if isinstance(value, Mapping) else None
    return _value(matcher.get("value", {}), value) != bool(matcher.get("invert", False))


def _value(matcher: Object, value: Any) -> bool:
    if "orMatch" in matcher:
        return any(_value(each, value) for each in matcher["orMatch"].get("valueMatchers", ()))
    if "listMatch" in matcher:
        return isinstance(value, list) and any(_value(matcher["listMatch"].get("oneOf", {}), each) for each in value)
    if "stringMatch" in matcher:
        return isinstance(value, str) and matches_text(matcher["stringMatch"], value)
    if "boolMatch" in matcher:
        return value is bool(matcher["boolMatch"])
    if "presentMatch" in matcher:
        return (value is not None) == bool(matcher["presentMatch"])
    return "nullMatch" in matcher and value is None
