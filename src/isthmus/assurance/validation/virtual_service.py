"""What a VirtualService means beyond its shape."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.assurance.validation.shapes import seconds
from isthmus.assurance.validation.terms import Object, bad_host, dns_label, export_to, is_ip, labels, positive_port

_HEADER = re.compile(r"[-_A-Za-z0-9]+")


def virtual_service(item: Object, warnings: list[str]) -> Iterator[str]:
    spec = item.get("spec") or {}
    hosts, gateways = spec.get("hosts") or [], spec.get("gateways") or []
    delegate = not hosts
    yield from export_to(spec.get("exportTo") or [], "spec.exportTo")
    if not any(spec.get(kind) for kind in ("http", "tls", "tcp")):
        yield "spec: needs at least one of http, tls, tcp"
    if delegate and (gateways or spec.get("tls") or spec.get("tcp")):
        yield "spec: without hosts this is a delegate, and has only http routes and no gateways"
    yield from _hosts(hosts, gateways)
    for index, route in enumerate(spec.get("http") or []):
        yield from _http(route, f"spec.http[{index}]", delegate, warnings)
    for index, route in enumerate(spec.get("tls") or []):
        yield from _tls(route, f"spec.tls[{index}]", hosts)
    for index, route in enumerate(spec.get("tcp") or []):
        yield from _routes(route.get("route") or [], f"spec.tcp[{index}]")
    rules = spec.get("http") or []
    for index, route in enumerate(rules[:-1]):
        if not route.get("match"):
            warnings.append(f"spec.http[{index}]: matches everything, so the routes after it are never used")


def _hosts(hosts: list[str], gateways: list[str]) -> Iterator[str]:
    in_mesh = not gateways or "mesh" in gateways
    for host in hosts:
        problem = bad_host(host, sni=bool(gateways))
        if problem:
            yield f"spec.hosts: {problem}"
        elif host == "*" and in_mesh:
            yield "spec.hosts: * is only for gateways, not for the mesh"
        elif not in_mesh and "." not in host and not host.startswith("*") and not is_ip(host):
            yield f"spec.hosts: {host!r} is a short name, which gateways do not know"
    if len(set(hosts)) != len(hosts):
        yield "spec.hosts: a host is given twice"
    for gateway in gateways:
        if len(gateway.split("/")) > 2 or not all(gateway.split("/")) or ("/" not in gateway and bad_host(gateway)):
            yield f"spec.gateways: {gateway!r} is not NAME or NAMESPACE/NAME"


def _http(route: Object, path: str, delegate: bool, warnings: list[str]) -> Iterator[str]:
    ways = [name for name in ("route", "redirect", "directResponse", "delegate") if route.get(name)]
    if len(ways) != 1:
        yield f"{path}: needs exactly one of route, redirect, directResponse, delegate; has {', '.join(ways) or 'none'}"
    if delegate and "delegate" in ways:
        yield f"{path}.delegate: a delegate cannot delegate"
    if "delegate" in ways and not route["delegate"].get("name"):
        yield f"{path}.delegate.name: is required"
    for extra in ("fault", "rewrite"):
        if route.get(extra) and ("redirect" in ways or (extra == "rewrite" and "directResponse" in ways)):
            yield f"{path}.{extra}: has no effect beside {ways[0]}"
    for match in route.get("match") or []:
        yield from _http_match(match, f"{path}.match")
    yield from _headers(route.get("headers"), path)
    yield from _routes(route.get("route") or [], path)
    yield from _answers(route, path)
    yield from _extras(route, path)


def _http_match(match: Object, path: str) -> Iterator[str]:
    named = {key: match[key] for key in ("uri", "scheme", "method", "authority") if match.get(key) is not None}
    for group in ("headers", "withoutHeaders", "queryParams"):
        for name, test in (match.get(group) or {}).items():
            if group != "queryParams" and not _HEADER.fullmatch(name.removeprefix(":").split(".")[0] or "!"):
                yield f"{path}.{group}: {name!r} is not a header name"
            elif not name:
                yield f"{path}.{group}: a name must not be empty"
            named[f"{group}[{name}]"] = test
    for name, test in named.items():
        if "regex" in test:
            yield from _regex(test["regex"], f"{path}.{name}")
        elif name.startswith("headers") and test.get("prefix") == "":
            yield f"{path}.{name}: an empty prefix matches anything"
    yield from labels(match.get("sourceLabels") or {}, f"{path}.sourceLabels")
    if match.get("port") is not None:
        yield from positive_port(match["port"], f"{path}.port")


def _regex(value: str, path: str) -> Iterator[str]:
    try:
        re.compile(value)
    except re.error as error:
        yield f"{path}: {value!r} is not a regular expression: {error}"
    if not value:
        yield f"{path}: a regular expression must not be empty"


def _routes(routes: list[Object], path: str) -> Iterator[str]:
    if not routes and not path.startswith("spec.http"):
        yield f"{path}.route: is required"
    for index, way in enumerate(routes):
        where = f"{path}.route[{index}]"
        yield from destination(way["destination"], f"{where}.destination")
        yield from _headers(way.get("headers"), where)
    if len(routes) > 1 and sum(way.get("weight") or 0 for way in routes) == 0:
        yield f"{path}.route: the weights sum up to 0"


def destination(given: Object, path: str) -> Iterator[str]:
    host = given.get("host") or ""
    problem = bad_host(host)
    if problem:
        yield f"{path}.host: {problem}"
    elif host.startswith("*"):
        yield f"{path}.host: {host!r}: requests cannot be sent to a wildcard"
    if given.get("subset") and not dns_label(given["subset"]):
        yield f"{path}.subset: {given['subset']!r} is not a DNS label"
    if given.get("port") is not None:
        yield from positive_port(given["port"].get("number"), f"{path}.port")


def _headers(changes: Object | None, path: str) -> Iterator[str]:
    for side, change in (changes or {}).items():
        where = f"{path}.headers.{side}"
        for verb in ("set", "add", "remove"):
            for name in change.get(verb) or []:
                allowed = verb == "set" and name in (":authority", ":method", ":path", ":scheme")
                if not _HEADER.fullmatch(name) and not allowed:
                    yield f"{where}.{verb}: {name!r} is not the name of a header that can be changed"


def _answers(route: Object, path: str) -> Iterator[str]:
    redirect, direct, rewrite = route.get("redirect"), route.get("directResponse"), route.get("rewrite")
    if redirect is not None:
        if not any(redirect.get(key) is not None for key in ("uri", "authority", "port", "derivePort", "scheme")):
            yield f"{path}.redirect: must change something"
        if redirect.get("scheme") not in (None, "", "http", "https"):
            yield f"{path}.redirect.scheme: must be http or https"
        if redirect.get("redirectCode") not in (None, 0, 301, 302, 303, 307, 308):
            yield f"{path}.redirect.redirectCode: {redirect['redirectCode']} is not a redirect"
    if direct is not None:
        if not 100 <= direct["status"] < 600:
            yield f"{path}.directResponse.status: {direct['status']} is not an HTTP status"
        if direct.get("body") == {}:
            yield f"{path}.directResponse.body: needs string or bytes"
    if rewrite is not None:
        pattern = rewrite.get("uriRegexRewrite")
        if not any(rewrite.values()):
            yield f"{path}.rewrite: must change something"
        if rewrite.get("uri") and pattern:
            yield f"{path}.rewrite: uri and uriRegexRewrite exclude each other"
        if pattern is not None:
            yield from _regex(pattern.get("match") or "", f"{path}.rewrite.uriRegexRewrite.match")


def _extras(route: Object, path: str) -> Iterator[str]:
    retries = route.get("retries") or {}
    if retries.get("attempts", 0) < 0:
        yield f"{path}.retries.attempts: must not be negative"
    if retries.get("attempts") == 0 and any(retries.get(key) for key in ("perTryTimeout", "retryOn")):
        yield f"{path}.retries: has settings, but no attempts"
    fault = route.get("fault")
    if fault is not None:
        if not fault.get("delay") and not fault.get("abort"):
            yield f"{path}.fault: needs delay or abort"
        if fault.get("delay") is not None and seconds(fault["delay"].get("fixedDelay")) is None:
            yield f"{path}.fault.delay.fixedDelay: is required"
        if fault.get("abort") is not None and not set(fault["abort"]) & {"httpStatus", "grpcStatus", "http2Error"}:
            yield f"{path}.fault.abort: needs httpStatus or grpcStatus"
    cors = route.get("corsPolicy") or {}
    for origin in cors.get("allowOrigins") or []:
        if not any(origin.values()):
            yield f"{path}.corsPolicy.allowOrigins: an origin must not be empty"
        if "regex" in origin:
            yield from _regex(origin["regex"], f"{path}.corsPolicy.allowOrigins")
    if route.get("mirror") and route.get("mirrors"):
        yield f"{path}: mirror and mirrors exclude each other"
    mirrors = [
        *([route["mirror"]] if route.get("mirror") else []),
        *(m["destination"] for m in route.get("mirrors") or []),
    ]
    for mirror in mirrors:
        yield from destination(mirror, f"{path}.mirror")


def _tls(route: Object, path: str, hosts: list[str]) -> Iterator[str]:
    if not route.get("match"):
        yield f"{path}.match: is required"
    for match in route.get("match") or []:
        if not match.get("sniHosts"):
            yield f"{path}.match.sniHosts: is required"
        for name in match.get("sniHosts") or []:
            if bad_host(name, sni=True):
                yield f"{path}.match.sniHosts: {bad_host(name, sni=True)}"
            elif not any(_covers(host, name) for host in hosts):
                yield f"{path}.match.sniHosts: {name!r} is none of the hosts"
    yield from _routes(route.get("route") or [], path)


def _covers(host: str, name: str) -> bool:
    return host == name or (host.startswith("*") and name.endswith(host[1:]))
