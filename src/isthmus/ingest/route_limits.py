"""What Envoy refuses of a rule for requests or connections. One such value costs the whole table of routes, of every caller; so the rule is
left out, whoever wrote it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator

from isthmus.ingest.command_operators import bad_format
from isthmus.model.regular_expressions import not_re2
from isthmus.model.routing import (
    DIRECT_BODY_BYTES_MAX,
    Comparison,
    ConnectionRule,
    Cors,
    Fault,
    Handling,
    HeaderChanges,
    HttpRule,
    Named,
    Redirect,
    RequestMatch,
    Retries,
    TextMatch,
    claim_named,
)

Wrong = Iterator[tuple[str, str]]
"""Fields, as the VirtualService has them, each with the reason."""

_WHOLE_MAX = 2**31 - 1
_SECONDS_MAX = 2**31 - 1
_BACK_OFF_MAX = 3600.0
_NAME_MAX = 1024
_HOST_MAX = 255
HEADER_BYTES_MAX = 16384
CLAIMS_AT_GATEWAYS = "claims of a token are matched at gateways only, not by sidecars"
AT_GATEWAYS = "name the gateways that the rules are for"
_CHANGES_MAX = 1000
CONTROL = re.compile(r"[\x00\r\n]")
_SEGMENTS = re.compile(r"[^?#]+[^?#/]", re.DOTALL)
HEADER = re.compile(r":?[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def refused_match(match: RequestMatch) -> Wrong:
    for name, text in (
        ("uri", match.uri),
        ("method", match.method),
        ("scheme", match.scheme),
        ("authority", match.authority),
    ):
        yield from _text(text, f"match.{name}")
    if match.uri and match.uri.comparison is Comparison.SEGMENTS and not _SEGMENTS.fullmatch(match.uri.value):
        yield "match.uri", f"{match.uri.value!r:.60} is no beginning of a path: it may not have ? or #"
    yield from _headers(match.headers, "match.headers")
    yield from _headers(match.without_headers, "match.withoutHeaders")
    for name, text in match.query:
        if not name or len(name.encode()) > _NAME_MAX:
            yield "match.queryParams", f"{name!r:.60} cannot be the name of a parameter"
        yield from _text(text, f"match.queryParams.{name:.60}")


def refused_rule(rule: HttpRule) -> Wrong:
    """All but its matches."""
    weights = [weight for _, weight, _ in rule.targets]
    yield from _weights(weights)
    for target, _, changes in rule.targets:
        yield from _whole(target.port, "route.destination.port", 65535)
        yield from _changes(changes, "route.headers")
    for target, percent in rule.mirrors:
        yield from _whole(target.port, "mirror.port", 65535)
        yield from _percent(percent, "mirrorPercentage")
    yield from _handling(rule.handling)


def refused_connections(rule: ConnectionRule) -> Wrong:
    yield from _weights([weight for _, weight in rule.targets])
    for target, _ in rule.targets:
        yield from _whole(target.port, "route.destination.port", 65535)
    for match in rule.matches:
        yield from _whole(match.port, "match.port", 65535)
        for subnet in match.subnets:
            try:
                ipaddress.ip_network(subnet, strict=False)
            except ValueError:
                yield "match.destinationSubnets", f"{subnet!r:.60} is neither an address nor a range of them"
        for host in match.sni_hosts:
            if CONTROL.search(host) or not host:
                yield "match.sniHosts", f"{host!r:.60} is no host"
            elif not is_server_name(host):
                yield "match.sniHosts", f"{host!r:.60} is neither a whole name nor *. and the end of one"


def is_server_name(host: str) -> bool:
    """Whether Envoy compares it with the server name of a TLS handshake: in a name, a wildcard is a whole first label."""
    return host == "*" or "*" not in host.removeprefix("*.")


def refused_host(host: str) -> bool:
    """Whether it can be no host of a table of routes."""
    return not host.removesuffix(".") or CONTROL.search(host) is not None or len(host.encode()) > _HOST_MAX


def _handling(said: Handling) -> Wrong:
    if said.redirect:
        yield from _redirect(said.redirect)
    if said.response_status or said.response_body:
        yield from _status(said.response_status, "directResponse.status")
        body = said.response_body.encode() if isinstance(said.response_body, str) else said.response_body
        if len(body) > DIRECT_BODY_BYTES_MAX:
            yield "directResponse.body", f"{len(body)} bytes are more than {DIRECT_BODY_BYTES_MAX}"
    yield from _plain(said.rewrite_path, "rewrite.uri")
    yield from _plain(said.rewrite_authority, "rewrite.authority")
    if said.rewrite_regex:
        yield from _substitution(said.rewrite_regex, "rewrite.uriRegexRewrite")
        if said.rewrite_path:
            yield "rewrite", "uri and uriRegexRewrite exclude each other"
    yield from _seconds(said.timeout_seconds, "timeout")
    if said.retries:
        yield from refused_retries(said.retries)
    if said.fault:
        yield from _fault(said.fault)
    if said.cors:
        yield from _cors(said.cors)
    yield from _changes(said.headers, "headers")


def _redirect(said: Redirect) -> Wrong:
    for name, text in (("uri", said.path), ("prefixRewrite", said.prefix), ("authority", said.authority)):
        yield from _plain(text, f"redirect.{name}")
    yield from _plain(said.scheme, "redirect.scheme")
    yield from _whole(said.port, "redirect.port", 65535)
    if said.regex:
        yield from _substitution(said.regex, "redirect.uriRegexRewrite")


def refused_retries(said: Retries) -> Wrong:
    yield from _whole(said.attempts, "retries.attempts", _WHOLE_MAX)
    yield from _seconds(said.per_try_seconds, "retries.perTryTimeout")
    if said.back_off_seconds is not None and not 0.001 <= said.back_off_seconds <= _BACK_OFF_MAX:
        yield "retries.backoff", f"{said.back_off_seconds:.10g}s is not between 1ms and an hour"


def _fault(said: Fault) -> Wrong:
    yield from _percent(said.delay_percent, "fault.delay.percentage")
    yield from _percent(said.abort_percent, "fault.abort.percentage")
    yield from _seconds(said.delay_seconds, "fault.delay.fixedDelay")
    if said.abort_status:
        yield from _status(said.abort_status, "fault.abort.httpStatus")


def _cors(said: Cors) -> Wrong:
    for origin in said.origins:
        if origin.comparison is Comparison.PRESENT:
            yield "corsPolicy.allowOrigins", "an origin is compared with nothing"
        yield from _text(origin, "corsPolicy.allowOrigins")
    for name, texts in (
        ("allowMethods", said.methods),
        ("allowHeaders", said.headers),
        ("exposeHeaders", said.exposed_headers),
    ):
        for text in texts:
            yield from _plain(text, f"corsPolicy.{name}")
    yield from _seconds(said.max_age_seconds, "corsPolicy.maxAge")


def _changes(said: HeaderChanges, field: str) -> Wrong:
    given = (
        ("request.set", said.request_set),
        ("request.add", said.request_add),
        ("response.set", said.response_set),
        ("response.add", said.response_add),
    )
    for operation, changes in given:
        if len(changes) > _CHANGES_MAX:
            yield f"{field}.{operation}", f"{len(changes)} headers are more than {_CHANGES_MAX}"
        for name, value in changes:
            yield from _changeable(name, f"{field}.{operation}")
            yield from _plain(value, f"{field}.{operation}.{name:.60}")
            if len(value.encode()) > HEADER_BYTES_MAX or len(name) > HEADER_BYTES_MAX:
                yield f"{field}.{operation}.{name:.60}", f"more than {HEADER_BYTES_MAX} bytes are no header"
            if why := bad_format(value):
                yield f"{field}.{operation}.{name:.60}", why
    for name in (*said.request_remove, *said.response_remove):
        yield from _changeable(name, f"{field}.remove")
    yield from _plain(said.authority, f"{field}.request.set.host")


def _headers(said: Named, field: str) -> Wrong:
    for name, text in said:
        if not claim_named(name):
            yield from _header(name, field)
        yield from _text(text, f"{field}.{name:.60}")


def _text(said: TextMatch | None, field: str) -> Wrong:
    if said is not None and said.comparison is Comparison.REGEX:
        yield from _expression(said.value, field)


def _substitution(said: tuple[str, str], field: str) -> Wrong:
    expression, substitute = said
    yield from _expression(expression, f"{field}.match")
    yield from _plain(substitute, f"{field}.rewrite")


def _expression(text: str, field: str) -> Wrong:
    why = not_re2(text) if text else "it is empty"
    if why:
        yield field, f"{text!r:.60} is not a regular expression: {why}"


def _header(name: str, field: str) -> Wrong:
    if not HEADER.fullmatch(name):
        yield field, f"{name!r:.60} cannot be the name of a header"


def _changeable(name: str, field: str) -> Wrong:
    yield from _header(name, field)
    if name.startswith(":") or name.lower() == "host":
        yield field, f"{name:.60} is not a header that can be changed"


def _plain(text: str, field: str) -> Wrong:
    if CONTROL.search(text):
        yield field, f"{text!r:.60} has a character that no header can have"


def _weights(said: Iterable[int]) -> Wrong:
    weights = list(said)
    if any(weight < 0 for weight in weights) or sum(weights) > _WHOLE_MAX:
        yield "route.weight", f"weights are not negative, and together no more than {_WHOLE_MAX}"


def _whole(said: int, field: str, most: int) -> Wrong:
    if not 0 <= said <= most:
        yield field, f"{said:.10g} is not between 0 and {most}"


def _percent(said: float, field: str) -> Wrong:
    if not 0 <= said <= 100:
        yield field, f"{said:.10g} is no percentage"


def _status(said: int, field: str) -> Wrong:
    if not 200 <= said < 600:
        yield field, f"{said:.10g} is not a status from 200 to 599"


def _seconds(said: float | None, field: str) -> Wrong:
    if said is not None and said > _SECONDS_MAX:
        yield field, f"{said:.10g}s is too long"
