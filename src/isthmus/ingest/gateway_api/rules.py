"""Rules of routes: what a request has to be, what is done with it, and where it goes.

Each match becomes a rule of its own, with its rank: routes of several objects for one host are tried by how specific they are, not by
which was written first. A rule that cannot be done answers 500, as the specification wants it: a filter is never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import field, replace

from isthmus.api import gateway_api as api
from isthmus.ingest.gateway_api.references import Referrer, resolved
from isthmus.ingest.route_limits import refused_match, refused_rule
from isthmus.model.attachments import Backend, Condition
from isthmus.model.durations import seconds_of
from isthmus.model.origins import Origin
from isthmus.model.routing import (
    Comparison,
    ConnectionRule,
    Cors,
    Handling,
    HeaderChanges,
    HttpRule,
    Redirect,
    RequestMatch,
    Retries,
    Target,
    TextMatch,
)
from isthmus.model.values import dataclass

_UNRESOLVED = 500
"""The status of requests whose backend there is not."""

_DEFAULT_ATTEMPTS = 2
_UNCHANGED = HeaderChanges()
_WELL_KNOWN = {"http": 80, "https": 443}
_ROOT = TextMatch(Comparison.PREFIX, "/")

Rank = tuple[int, ...]


@dataclass(slots=True)
class Findings:
    """What reading a route's rules has found: backends to look for, and what is wrong."""

    backends: list[Backend] = field(default_factory=list)
    references: list[Condition] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """What the same route is found to say elsewhere is said once."""
        self.references += [each for each in other.references if each not in self.references]
        self.unsupported += [each for each in other.unsupported if each not in self.unsupported]
        self.backends += [each for each in other.backends if each not in self.backends]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A rule of one match. The lowest rank is tried first."""

    rank: Rank
    rule: HttpRule


@dataclass(frozen=True, slots=True)
class Place:
    """Where a route holds: at a listener's port, or at a service (port 0)."""

    referrer: Referrer
    port: int = 0

    @property
    def origin(self) -> Origin:
        return Origin(self.referrer.kind, self.referrer.namespace, self.referrer.name)


class Unsupported(ValueError):
    """A rule asks for something that is not done."""


def http_rules(route: api.HTTPRoute, at: Place, findings: Findings) -> Iterator[Ranked]:
    """The rules of an HTTPRoute."""
    for index, rule in enumerate(route.spec.rules):
        name = _name(route, rule.name, index)
        for said in rule.matches or [api.HttpRouteMatch()]:
            yield from _ranked(name, _http_match(said), rule, at, findings)


def grpc_rules(route: api.GRPCRoute, at: Place, findings: Findings) -> Iterator[Ranked]:
    """The same of a GRPCRoute, whose methods are paths."""
    for index, rule in enumerate(route.spec.rules):
        name = _name(route, rule.name, index)
        whole = api.HttpRouteRule(filters=rule.filters, backend_refs=rule.backend_refs)
        for said in rule.matches or [api.GrpcRouteMatch()]:
            headers = tuple(sorted((each.name.lower(), _text(each)) for each in said.headers))
            match = RequestMatch(uri=_grpc_path(said.method), headers=headers)
            yield from _ranked(name, match, whole, at, findings)


def _ranked(name: str, match: RequestMatch, rule: api.HttpRouteRule, at: Place, findings: Findings) -> Iterator[Ranked]:
    """None for a match that Envoy would refuse, with every other rule of the table."""
    wrong = next(refused_match(match), None)
    if wrong:
        _unsupported(f"{name}: {wrong[1]}", findings)
    else:
        yield Ranked(_http_rank(match), _rule(name, match, rule, at, findings))


def _unsupported(what: str, findings: Findings) -> None:
    if what not in findings.unsupported:
        findings.unsupported.append(what)


def connection_rules(route: api.TLSRoute | api.TCPRoute, by: Referrer, findings: Findings) -> Iterator[ConnectionRule]:
    """Where connections go. A backend that there is not closes its share of them."""
    for rule in route.spec.rules:
        targets = [(_backend(ref, by, findings), ref.weight) for ref in rule.backend_refs]
        yield ConnectionRule(matches=(), targets=tuple(each for each in targets if each[1]))


def _name(route: api.Route, name: str, index: int) -> str:
    return f"{route.metadata.namespace}.{route.metadata.name}.{name or index}"


def _http_match(said: api.HttpRouteMatch) -> RequestMatch:
    path = said.path
    uri = {
        "Exact": TextMatch(Comparison.EXACT, path.value),
        "RegularExpression": TextMatch(Comparison.REGEX, path.value),
    }.get(path.type) or _prefix(path.value)
    return RequestMatch(
        uri=uri,
        method=TextMatch(Comparison.EXACT, said.method) if said.method else None,
        headers=tuple(sorted((each.name.lower(), _text(each)) for each in said.headers)),
        query=tuple(sorted((each.name, _text(each)) for each in said.query_params)),
    )


def _prefix(value: str) -> TextMatch:
    """Path segments, whole ones: `/a` is not a prefix of `/ab`. What ends in a slash means the same without it."""
    trimmed = value.rstrip("/")
    return TextMatch(Comparison.SEGMENTS, trimmed) if trimmed else _ROOT


def _text(said: api.NameMatch) -> TextMatch:
    return TextMatch(Comparison.REGEX if said.type == "RegularExpression" else Comparison.EXACT, said.value)


def _grpc_path(said: api.GrpcMethodMatch | None) -> TextMatch:
    if said is None or not (said.service or said.method):
        return _ROOT
    if said.type == "RegularExpression":
        return TextMatch(Comparison.REGEX, f"/{said.service or '[^/]+'}/{said.method or '[^/]+'}")
    if said.service and said.method:
        return TextMatch(Comparison.EXACT, f"/{said.service}/{said.method}")
    if said.service:
        return TextMatch(Comparison.PREFIX, f"/{said.service}/")
    return TextMatch(Comparison.REGEX, f"/[^/]+/{re.escape(said.method)}")


def _http_rank(match: RequestMatch) -> Rank:
    """The specification's order: an exact path, the longest prefix, a method, the most headers, the most query parameters. It leaves
    regular expressions to implementations: here they come before prefixes, behind one of which they would never be asked.
    """
    uri = match.uri or _ROOT
    kind = (Comparison.EXACT, Comparison.REGEX).index(uri.comparison) if uri.comparison in _FIRST else len(_FIRST)
    return (kind, -len(uri.value), -bool(match.method), -len(match.headers), -len(match.query))


_FIRST = (Comparison.EXACT, Comparison.REGEX)


def _rule(name: str, match: RequestMatch, rule: api.HttpRouteRule, at: Place, findings: Findings) -> HttpRule:
    failing = HttpRule(
        name=name,
        matches=(match,),
        targets=(),
        mirrors=(),
        handling=Handling(response_status=_UNRESOLVED),
        origin=at.origin,
    )
    found: list[tuple[Target, int, HeaderChanges]] = []
    try:
        handling = _handling(rule, match, at)
        found = [(_backend(ref, at.referrer, findings), ref.weight, _backend_changes(ref)) for ref in rule.backend_refs]
        mirrors = tuple(_mirrors(rule.filters, at.referrer, findings))
    except Unsupported as error:
        _unsupported(f"{name}: {error}", findings)
        return failing
    targets = tuple(each for each in found if each[1])
    if not targets and not handling.redirect:
        return failing
    done = replace(failing, targets=targets, mirrors=mirrors, handling=handling)
    for _, why in refused_rule(done):
        _unsupported(f"{name}: {why}", findings)
        return failing
    return done


def _backend(reference: api.TargetReference, by: Referrer, findings: Findings) -> Target:
    leads = resolved(reference, by)
    if leads.backend is not None:
        findings.backends.append(leads.backend)
    if leads.problem is not None:
        findings.references.append(leads.problem)
    return leads.target


def _backend_changes(reference: api.BackendReference) -> HeaderChanges:
    for each in reference.filters:
        if each.type not in ("RequestHeaderModifier", "ResponseHeaderModifier"):
            raise Unsupported(f"filter {each.type} of a single backend is not done: use it for the whole rule")
    return _header_changes(reference.filters)


def _mirrors(filters: Sequence[api.RouteFilter], by: Referrer, findings: Findings) -> Iterator[tuple[Target, float]]:
    for each in filters:
        mirror = each.request_mirror
        if mirror is not None:
            share = 100.0 if mirror.percent is None else float(mirror.percent)
            if mirror.fraction is not None:
                share = 100.0 * mirror.fraction.numerator / max(1, mirror.fraction.denominator)
            target = _backend(mirror.backend_ref, by, findings)
            if share > 0:
                yield target, share


_FILTERS = {
    "RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite", "CORS",
}  # fmt: skip


def _handling(rule: api.HttpRouteRule, match: RequestMatch, at: Place) -> Handling:
    redirect: Redirect | None = None
    rewrite = api.UrlRewrite()
    cors: Cors | None = None
    for each in rule.filters:
        if each.type not in _FILTERS:
            raise Unsupported(f"filter {each.type} is not done")
        if each.request_redirect is not None:
            redirect = _redirect(each.request_redirect, match, at.port)
        if each.url_rewrite is not None:
            rewrite = each.url_rewrite
        if each.cors is not None:
            cors = _cors(each.cors)
    path, regex = _rewritten(rewrite.path, match)
    return Handling(
        redirect=redirect,
        rewrite_path=path,
        rewrite_regex=regex,
        rewrite_authority=rewrite.hostname,
        timeout_seconds=_seconds(rule.timeouts.request),
        retries=_retries(rule),
        cors=cors,
        headers=_header_changes(rule.filters),
        unresolved_status=_UNRESOLVED,
    )


def _rewritten(said: api.PathModifier | None, match: RequestMatch) -> tuple[str, tuple[str, str] | None]:
    """A prefix that takes the place of the matched one, or a whole path as a regular expression and its substitute."""
    if said is None:
        return "", None
    if said.type == "ReplaceFullPath":
        return "", ("^/.*$", said.replace_full_path.replace("\\", r"\\") or "/")
    uri = match.uri or _ROOT
    if uri.comparison not in (Comparison.SEGMENTS, Comparison.PREFIX):
        raise Unsupported("ReplacePrefixMatch needs a match of PathPrefix")
    new = said.replace_prefix_match.rstrip("/")
    if uri == _ROOT:
        return f"{new}/", None
    if not new:
        return "", (f"^{re.escape(uri.value)}/*", "/")
    return new, None


def _redirect(said: api.RequestRedirect, match: RequestMatch, listener_port: int) -> Redirect:
    full = said.path.replace_full_path if said.path and said.path.type == "ReplaceFullPath" else ""
    prefix, regex = _rewritten(said.path, match) if said.path and not full else ("", None)
    return Redirect(
        path=full,
        prefix=prefix,
        regex=regex,
        authority=said.hostname,
        port=said.port or _redirect_port(said.scheme, listener_port),
        scheme=said.scheme,
        code=said.status_code,
    )


def _redirect_port(scheme: str, listener_port: int) -> int:
    """Without a scheme of its own a redirect stays on the listener's port. 0 is the scheme's well-known one, which is not written."""
    if scheme or listener_port in (0, *_WELL_KNOWN.values()):
        return 0
    return listener_port


def _retries(rule: api.HttpRouteRule) -> Retries | None:
    per_try = _seconds(rule.timeouts.backend_request) or None
    said = rule.retry
    if said is None:
        return Retries(attempts=_DEFAULT_ATTEMPTS, per_try_seconds=per_try) if per_try else None
    return Retries(
        attempts=_DEFAULT_ATTEMPTS if said.attempts is None else said.attempts,
        per_try_seconds=per_try,
        codes=tuple(said.codes),
        back_off_seconds=_seconds(said.backoff),
    )


def _seconds(text: str) -> float | None:
    try:
        return seconds_of(text) if text else None
    except ValueError as error:
        raise Unsupported(str(error)) from None


def _header_changes(filters: Sequence[api.RouteFilter]) -> HeaderChanges:
    """Values are what they say: a % begins no command of Envoy's, as one in a VirtualService does."""
    if not filters:
        return _UNCHANGED
    request = [each.request_header_modifier for each in filters if each.request_header_modifier]
    response = [each.response_header_modifier for each in filters if each.response_header_modifier]

    def pairs(headers: Sequence[api.Header]) -> tuple[tuple[str, str], ...]:
        return tuple((each.name, each.value.replace("%", "%%")) for each in headers)

    return HeaderChanges(
        request_set=pairs([header for each in request for header in each.set]),
        request_add=pairs([header for each in request for header in each.add]),
        request_remove=tuple(name for each in request for name in each.remove),
        response_set=pairs([header for each in response for header in each.set]),
        response_add=pairs([header for each in response for header in each.add]),
        response_remove=tuple(name for each in response for name in each.remove),
    )


def _cors(said: api.Cors) -> Cors:
    return Cors(
        origins=tuple(map(_origin, said.allow_origins)),
        methods=tuple(said.allow_methods),
        headers=tuple(said.allow_headers),
        exposed_headers=tuple(said.expose_headers),
        max_age_seconds=None if said.max_age is None else float(said.max_age),
        credentials=said.allow_credentials,
        forward_unmatched_preflights=False,
    )


def _origin(written: str) -> TextMatch:
    if written == "*":
        return TextMatch(Comparison.PRESENT)
    if "*" in written:
        return TextMatch(Comparison.REGEX, ".*".join(map(re.escape, written.split("*"))))
    return TextMatch(Comparison.EXACT, written)
