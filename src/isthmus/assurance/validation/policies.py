"""What security policies and Telemetry mean beyond their shape."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem, entry
from isthmus.assurance.validation.route_parts import HEADER_NAME
from isthmus.assurance.validation.terms import Object, bad_url, positive_port, selected
from isthmus.ingest.expressions import not_cel
from isthmus.ingest.token_keys import check_keys


def peer_authentication(item: Object) -> Iterator[Problem]:
    spec = item.get("spec") or {}
    matched = (spec.get("selector") or {}).get("matchLabels") or {}
    yield from selected(spec)
    for port in spec.get("portLevelMtls") or {}:
        where = entry("spec.portLevelMtls", str(port))
        if not str(port).isdecimal():
            yield Problem(codes.BAD_PORT, where, f"{port!r} is not a port")
        else:
            yield from positive_port(port, where)
    if spec.get("portLevelMtls") and not matched:
        yield Problem(
            codes.NEEDS,
            "spec.portLevelMtls",
            "needs a selector: ports are those of workloads",
            "name the workloads in spec.selector.matchLabels",
        )


def request_authentication(item: Object) -> Iterator[Problem]:
    spec = item.get("spec") or {}
    yield from selected(spec)
    if spec.get("selector") is not None and not spec["selector"].get("matchLabels"):
        yield Problem(codes.RISKY, "spec.selector", "is empty, so the policy applies to the whole namespace")
    for index, rule in enumerate(spec.get("jwtRules") or []):
        yield from _jwt_rule(rule, f"spec.jwtRules[{index}]")


def _jwt_rule(rule: Object, path: str) -> Iterator[Problem]:
    if not rule.get("issuer"):
        yield Problem(codes.MISSING, f"{path}.issuer", "is required")
    if rule.get("jwks_uri"):
        yield Problem(codes.OUTDATED, f"{path}.jwks_uri", "jwks_uri is an outdated spelling", "write jwksUri")
    uri = rule.get("jwksUri") or rule.get("jwks_uri")
    if uri and bad_url(uri):
        yield Problem(codes.BAD_URL, f"{path}.jwksUri", bad_url(uri))
    elif uri and uri.startswith("http://"):
        yield Problem(codes.RISKY, f"{path}.jwksUri", "keys come over plain HTTP: who can change them can sign tokens")
    if rule.get("jwks"):
        try:
            check_keys(rule["jwks"])
        except ValueError as error:
            yield Problem(codes.BAD_KEYS, f"{path}.jwks", f"is not a JSON Web Key Set: {error}")
    header = rule.get("outputPayloadToHeader")
    if header and not HEADER_NAME.fullmatch(header):
        yield Problem(codes.BAD_HEADER, f"{path}.outputPayloadToHeader", f"{header!r} is not a header name")
    for index, place in enumerate(rule.get("fromHeaders") or []):
        if not HEADER_NAME.fullmatch(place["name"]):
            yield Problem(
                codes.BAD_HEADER, f"{path}.fromHeaders[{index}].name", f"{place['name']!r} is not a header name"
            )


def telemetry(item: Object) -> Iterator[Problem]:
    spec = item.get("spec") or {}
    yield from selected(spec)
    for kind in ("tracing", "accessLogging", "metrics"):
        for index, part in enumerate(spec.get(kind) or []):
            if kind == "tracing" and index:
                yield Problem(codes.HAS_NO_EFFECT, f"spec.tracing[{index}]", "only the first entry counts")
            if kind == "tracing" and len(part.get("providers") or []) > 1:
                yield Problem(codes.HAS_NO_EFFECT, f"spec.tracing[{index}].providers", "only the first provider counts")
    for index, rule in enumerate(spec.get("accessLogging") or []):
        expression = (rule.get("filter") or {}).get("expression")
        if expression and (why := not_cel(expression)):
            yield Problem(codes.BAD_EXPRESSION, f"spec.accessLogging[{index}].filter.expression", why)
    for number, metric in enumerate(spec.get("metrics") or []):
        for index, override in enumerate(metric.get("overrides") or []):
            path = f"spec.metrics[{number}].overrides[{index}].tagOverrides"
            for tag, change in (override.get("tagOverrides") or {}).items():
                removes = change.get("operation", "UPSERT") == "REMOVE"
                if removes == bool(change.get("value")):
                    yield Problem(
                        codes.CONTRADICTION if removes else codes.MISSING,
                        f"{entry(path, tag)}.value",
                        f"a value {'must not' if removes else 'must'} be given for this operation",
                    )
