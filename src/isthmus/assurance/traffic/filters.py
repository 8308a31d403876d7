"""The filters that may turn a request or a connection away, asked in their order, with what each of them says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from isthmus.assurance.traffic.policies import (
    Facts,
    Undecidable,
    allows,
    matched_by,
    object_named_by,
    objects_named_in,
)
from isthmus.assurance.traffic.request import Request
from isthmus.model.values import dataclass

Object = Mapping[str, Any]

_RBAC = ("envoy.filters.http.rbac", "envoy.filters.network.rbac")
_ASKING = ("envoy.filters.http.ext_authz", "envoy.filters.network.ext_authz")
_TOKENS = "envoy.filters.http.jwt_authn"
_CUSTOM = "istio-ext-authz-"


class Verdict(StrEnum):
    """`ASKED`: somebody else decides. `UNDECIDED`: only a running Envoy can."""

    ALLOWED = "allowed"
    DENIED = "denied"
    ASKED = "asked"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one filter made of it. `rule` is the one that decided, `policy` the object that it came from, where one did."""

    filter: str
    verdict: Verdict
    says: str
    rule: str = ""
    policy: str = ""


def judged_connections(filters: Sequence[Object], request: Request) -> tuple[Judged, ...]:
    """What the network filters say."""
    return tuple(_until_denied(filters, request, None))


def judged_requests(filters: Sequence[Object], request: Request, route: Object | None) -> tuple[Judged, ...]:
    """What the HTTP filters say; the route may have settings of its own for each."""
    return tuple(_until_denied(filters, request, route))


def _until_denied(filters: Sequence[Object], request: Request, route: Object | None) -> Iterator[Judged]:
    facts = Facts(request, request.all_headers())
    asked_about = ""
    for each in filters:
        name, config = each.get("name", ""), _config(each, route)
        if name in _RBAC:
            asked_about = _shadow(config, facts) or asked_about
            if "rules" in config:
                judged = _rbac(name, config["rules"], facts)
                yield judged
                if judged.verdict is Verdict.DENIED:
                    return
        elif name in _ASKING and ("filterEnabledMetadata" not in config or asked_about):
            yield Judged(
                filter=name,
                verdict=Verdict.ASKED,
                says=f"{_server(config)} is asked, and decides",
                rule=asked_about,
                policy=object_named_by(asked_about),
            )
        elif name == _TOKENS and not request.claims and _demands_token(config):
            yield Judged(filter=name, verdict=Verdict.DENIED, says="a token is demanded, and the request has none")
            return


def _config(filter_: Object, route: Object | None) -> Object:
    own = (route or {}).get("typedPerFilterConfig", {}).get(filter_.get("name", ""), {})
    return dict(own.get("rbac") or filter_.get("typedConfig", {}))


def _shadow(config: Object, facts: Facts) -> str:
    """The rule for which an external authorization is to be asked."""
    try:
        matched = matched_by(config.get("shadowRules", {}), facts)
    except Undecidable:
        return ""
    return matched if matched.startswith(_CUSTOM) else ""


def _rbac(name: str, rules: Object, facts: Facts) -> Judged:
    try:
        matched = matched_by(rules, facts)
    except Undecidable as error:
        return Judged(filter=name, verdict=Verdict.UNDECIDED, says=f"a running Envoy has to decide: {error}")
    policy = object_named_by(matched)
    if not allows(rules, matched):
        if matched:
            return Judged(
                filter=name, verdict=Verdict.DENIED, says=f"{policy or matched} denies it", rule=matched, policy=policy
            )
        every = list(objects_named_in(rules))
        says = f"there are ALLOW policies ({', '.join(every) or 'which allow nobody'}) and none allows it"
        return Judged(filter=name, verdict=Verdict.DENIED, says=says, policy=every[0] if len(every) == 1 else "")
    action = rules.get("action", "ALLOW")
    says = {"ALLOW": f"{policy or matched} allows it", "DENY": "no DENY policy matches"}.get(action, "it is noted")
    return Judged(filter=name, verdict=Verdict.ALLOWED, says=says, rule=matched, policy=policy)


def _server(config: Object) -> str:
    http = config.get("httpService", {}).get("serverUri", {}).get("cluster", "")
    return str(http or config.get("grpcService", {}).get("envoyGrpc", {}).get("clusterName", "an external server"))


def _demands_token(config: Object) -> bool:
    """Unless every rule lets requests without a token through."""
    for rule in config.get("rules", ()):
        requires = rule.get("requires", {})
        alternatives = requires.get("requiresAny", {}).get("requirements", [requires])
        if requires and not any("allowMissing" in each or "allowMissingOrFailed" in each for each in alternatives):
            return True
    return False
