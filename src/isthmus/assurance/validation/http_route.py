"""What one HTTP route of a VirtualService means beyond its shape."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.http_extras import extras
from isthmus.assurance.validation.problems import Problem, entry
from isthmus.assurance.validation.route_parts import HEADER_NAME, destination, gateway_names, header_changes, routes
from isthmus.assurance.validation.terms import Object, bad_host, dns_label, labels, positive_port, regex
from isthmus.model.routing import claim_named

_WAYS = ("route", "redirect", "directResponse", "delegate")
_BODY_BYTES_MAX = 1024 * 1024


def http_route(route: Object, path: str, delegate: bool, on_gateway: bool) -> Iterator[Problem]:
    ways = [name for name in _WAYS if route.get(name)]
    if len(ways) != 1:
        has = ", ".join(ways) or "none"
        yield Problem(
            codes.CONTRADICTION if ways else codes.MISSING, path, f"needs exactly one of {', '.join(_WAYS)}; has {has}"
        )
    if "delegate" in ways:
        if delegate:
            yield Problem(codes.NOT_DONE_HERE, f"{path}.delegate", "a delegate cannot delegate")
        if not route["delegate"].get("name"):
            yield Problem(codes.MISSING, f"{path}.delegate.name", "is required")
    for extra in ("fault", "rewrite"):
        if route.get(extra) and ("redirect" in ways or (extra == "rewrite" and "directResponse" in ways)):
            yield Problem(codes.CONTRADICTION, f"{path}.{extra}", f"has no effect beside {ways[0]}")
    for index, match in enumerate(route.get("match") or []):
        yield from _match(match, f"{path}.match[{index}]", on_gateway)
    yield from header_changes(route.get("headers"), path)
    yield from routes(route.get("route") or [], f"{path}.route", required=False)
    yield from _redirect(route, path)
    yield from _direct_response(route.get("directResponse"), f"{path}.directResponse")
    yield from _rewrite(route, path)
    yield from _mirrors(route, path)
    yield from extras(route, path)


def _match(match: Object, path: str, on_gateway: bool) -> Iterator[Problem]:
    tests = {
        f"{path}.{key}": match[key] for key in ("uri", "scheme", "method", "authority") if match.get(key) is not None
    }
    for group in ("headers", "withoutHeaders", "queryParams"):
        for name, test in (match.get(group) or {}).items():
            where = entry(f"{path}.{group}", name)
            yield from _name_in_match(name, group, where, on_gateway)
            tests[where] = test
            if group == "headers" and test.get("prefix") == "":
                yield Problem(codes.SAYS_NOTHING, where, "an empty prefix matches anything")
    for where, test in tests.items():
        if "regex" in test:
            yield from regex(test["regex"], f"{where}.regex")
    yield from labels(match.get("sourceLabels") or {}, f"{path}.sourceLabels")
    yield from gateway_names(match.get("gateways") or [], f"{path}.gateways")
    if match.get("sourceNamespace") and not dns_label(match["sourceNamespace"]):
        yield Problem(codes.NOT_A_NAME, f"{path}.sourceNamespace", f"{match['sourceNamespace']!r} is not a namespace")
    if match.get("port") is not None:
        yield from positive_port(match["port"], f"{path}.port")


def _name_in_match(name: str, group: str, where: str, on_gateway: bool) -> Iterator[Problem]:
    if not name:
        yield Problem(codes.BAD_HEADER, where, "a name must not be empty")
    elif group != "queryParams" and claim_named(name):
        if not on_gateway:
            yield Problem(
                codes.NOT_DONE_HERE,
                where,
                "claims of a token are matched at gateways only",
                "name the gateways that the rules are for",
            )
    elif group != "queryParams" and not HEADER_NAME.fullmatch(name.removeprefix(":")):
        yield Problem(codes.BAD_HEADER, where, f"{name!r} is not a header name")


def _redirect(route: Object, path: str) -> Iterator[Problem]:
    redirect = route.get("redirect")
    if redirect is None:
        return
    where = f"{path}.redirect"
    changes = ("uri", "prefixRewrite", "authority", "port", "derivePort", "scheme")
    if not any(redirect.get(key) is not None for key in changes):
        yield Problem(codes.SAYS_NOTHING, where, "must change something", f"set one of {', '.join(changes)}")
    if redirect.get("scheme") not in (None, "", "http", "https"):
        yield Problem(codes.UNKNOWN_VALUE, f"{where}.scheme", "must be http or https")
    if redirect.get("redirectCode") not in (None, 0, 301, 302, 303, 307, 308):
        yield Problem(codes.BAD_STATUS, f"{where}.redirectCode", f"{redirect['redirectCode']} is not a redirect")
    if redirect.get("prefixRewrite"):
        if redirect.get("uri"):
            yield Problem(codes.EXCLUDE_EACH_OTHER, where, "uri and prefixRewrite exclude each other")
        for index, match in enumerate(route.get("match") or []):
            uri = match.get("uri") or {}
            if uri and "prefix" not in uri:
                yield Problem(
                    codes.CONTRADICTION,
                    f"{where}.prefixRewrite",
                    f"replaces a prefix, but match[{index}] compares {', '.join(uri)}",
                    "match by prefix, or use uri",
                )
    if redirect.get("authority") and bad_host(redirect["authority"].rpartition(":")[0] or redirect["authority"]):
        yield Problem(codes.NOT_A_HOST, f"{where}.authority", f"{redirect['authority']!r} is not a host")


def _direct_response(direct: Object | None, path: str) -> Iterator[Problem]:
    if direct is None:
        return
    if not 100 <= direct["status"] < 600:
        yield Problem(codes.BAD_STATUS, f"{path}.status", f"{direct['status']} is not an HTTP status")
    body = direct.get("body")
    if body == {}:
        yield Problem(codes.SAYS_NOTHING, f"{path}.body", "needs string or bytes")
    size = len(((body or {}).get("string") or (body or {}).get("bytes") or "").encode())
    if size > _BODY_BYTES_MAX:
        yield Problem(codes.OUT_OF_BOUNDS, f"{path}.body", f"{size} bytes are more than {_BODY_BYTES_MAX}")
    elif size > _BODY_BYTES_MAX // 10:
        yield Problem(codes.RISKY, f"{path}.body", f"{size} bytes are sent to every proxy that has the route")


def _rewrite(route: Object, path: str) -> Iterator[Problem]:
    rewrite = route.get("rewrite")
    if rewrite is None:
        return
    pattern = rewrite.get("uriRegexRewrite")
    if not any(rewrite.values()):
        yield Problem(codes.SAYS_NOTHING, f"{path}.rewrite", "must change something")
    if rewrite.get("uri") and pattern:
        yield Problem(codes.EXCLUDE_EACH_OTHER, f"{path}.rewrite", "uri and uriRegexRewrite exclude each other")
    if pattern is not None:
        yield from regex(pattern.get("match") or "", f"{path}.rewrite.uriRegexRewrite.match")
    changes = ((route.get("headers") or {}).get("request")) or {}
    for verb in ("set", "add"):
        for name in changes.get(verb) or {}:
            if rewrite.get("authority") and name.lower() in (":authority", "host"):
                yield Problem(
                    codes.CONTRADICTION,
                    entry(f"{path}.headers.request.{verb}", name),
                    "the authority is rewritten, too: it cannot be set both ways",
                )


def _mirrors(route: Object, path: str) -> Iterator[Problem]:
    if route.get("mirror") and route.get("mirrors"):
        yield Problem(codes.EXCLUDE_EACH_OTHER, path, "mirror and mirrors exclude each other")
    if route.get("mirror"):
        yield from destination(route["mirror"], f"{path}.mirror")
    for index, mirror in enumerate(route.get("mirrors") or []):
        yield from destination(mirror["destination"], f"{path}.mirrors[{index}].destination")
    for share in ("mirrorPercentage", "mirrorPercent"):
        if route.get(share) is not None and not route.get("mirror"):
            yield Problem(codes.HAS_NO_EFFECT, f"{path}.{share}", "has no effect without mirror")
