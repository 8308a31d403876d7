"""Which virtual host and which route a request takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from isthmus.assurance.traffic.policies import Facts, matches_metadata
from isthmus.assurance.traffic.texts import matches_header, matches_template, matches_text, path_of

Object = Mapping[str, Any]


def virtual_host_for(table: Object, authority: str) -> tuple[Object, str] | None:
    """With the domain that it matched by: exact, then the longest `*.end`, then the longest `beginning.*`, then `*`."""
    host = authority.lower()
    if table.get("ignorePortInHostMatching"):
        host = re.sub(r":[0-9]+$", "", host)
    ranked: list[tuple[int, int, str, Object]] = []
    for virtual_host in table.get("virtualHosts", ()):
        for domain in virtual_host.get("domains", ()):
            kind = _domain_kind(domain.lower(), host)
            if kind:
                ranked.append((kind, len(domain), domain, virtual_host))
    if not ranked:
        return None
    best = max(ranked, key=lambda each: each[:2])
    return best[3], best[2]


def _domain_kind(domain: str, host: str) -> int:
    """How specific a match is; 0 is none."""
    if domain == host:
        return 4
    if domain == "*":
        return 1
    if domain.startswith("*"):
        return 3 if host.endswith(domain[1:]) and len(host) > len(domain) - 1 else 0
    if domain.endswith("*"):
        return 2 if host.startswith(domain[:-1]) and len(host) > len(domain) - 1 else 0
    return 0


def route_for(routes: Sequence[Object], facts: Facts) -> Object | None:
    """The first that matches."""
    return next((route for route in routes if _matches(route.get("match", {}), facts)), None)


def described(route: Object) -> str:
    """What a route's match asks for, in a few words."""
    match = route.get("match", {})
    said = []
    for key, word in (("prefix", "path from"), ("path", "path"), ("pathSeparatedPrefix", "path below")):
        if key in match:
            said.append(f"{word} {match[key]}")
    if "safeRegex" in match:
        said.append(f"path like {match['safeRegex'].get('regex', '')}")
    said += [f"header {each.get('name')}" for each in match.get("headers", ())]
    said += [_claim(each) for each in match.get("dynamicMetadata", ())]
    said += [f"parameter {each.get('name')}" for each in match.get("queryParameters", ())]
    return ", ".join(said)


def _claim(matcher: Object) -> str:
    name = ".".join(segment["key"] for segment in matcher["path"][1:])
    return f"no such claim {name}" if matcher.get("invert") else f"claim {name}"


def _matches(match: Object, facts: Facts) -> bool:
    headers = facts.headers
    target = headers[":path"]
    if not _path_matches(match, target) or not all(matches_header(each, headers) for each in match.get("headers", ())):
        return False
    if not all(matches_metadata(each, facts.metadata) for each in match.get("dynamicMetadata", ())):
        return False
    query = dict(parse_qsl(target.partition("?")[2].partition("#")[0], keep_blank_values=True))
    return all(_parameter_matches(each, query) for each in match.get("queryParameters", ())) and _is_grpc(
        match, headers
    )


def _path_matches(match: Object, target: str) -> bool:
    path, folded = path_of(target), not match.get("caseSensitive", True)
    if "safeRegex" in match:
        return re.fullmatch(match["safeRegex"].get("regex", ""), path) is not None
    if "pathMatchPolicy" in match:
        return matches_template(match["pathMatchPolicy"].get("typedConfig", {}).get("pathTemplate", ""), path)
    if "connectMatcher" in match:
        return False

    def as_said(text: str) -> str:
        return text.lower() if folded else text

    if "path" in match:
        return as_said(path) == as_said(match["path"])
    if "pathSeparatedPrefix" in match:
        prefix = as_said(match["pathSeparatedPrefix"])
        return as_said(path) == prefix or as_said(path).startswith(prefix + "/")
    return as_said(target).startswith(as_said(str(match.get("prefix", ""))))


def _parameter_matches(matcher: Object, query: Mapping[str, str]) -> bool:
    value = query.get(str(matcher.get("name")))
    if "stringMatch" in matcher:
        return value is not None and matches_text(matcher["stringMatch"], value)
    return (value is not None) == bool(matcher.get("presentMatch", True))


def _is_grpc(match: Object, headers: Mapping[str, str]) -> bool:
    return "grpc" not in match or headers.get("content-type", "").startswith("application/grpc")
