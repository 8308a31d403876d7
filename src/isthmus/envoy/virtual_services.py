"""Routes of VirtualServices as Envoy has them."""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.common.fault.v3 import fault_pb2 as common_fault_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2, value_pb2
from envoy.type.v3 import percent_pb2

from isthmus.envoy import claims, hashing
from isthmus.envoy.common import boolean, istio_metadata, packed, seconds, uint32
from isthmus.model.routing import (
    Comparison,
    Cors,
    Fault,
    Handling,
    HeaderChanges,
    RequestMatch,
    Retries,
    Route,
    TextMatch,
    claim_named,
)

CORS = "envoy.filters.http.cors"
FAULT = "envoy.filters.http.fault"

_REDIRECTS = {
    301: route_components_pb2.RedirectAction.MOVED_PERMANENTLY,
    302: route_components_pb2.RedirectAction.FOUND,
    303: route_components_pb2.RedirectAction.SEE_OTHER,
    307: route_components_pb2.RedirectAction.TEMPORARY_REDIRECT,
    308: route_components_pb2.RedirectAction.PERMANENT_REDIRECT,
}


def encoded(route: Route, default_retries: Any, *, host_says_them: bool = False) -> Any:
    """`default_retries` holds where the rule says nothing about retries; `host_says_them`: it is the virtual host's, whose routes say only
    what differs.
    """
    found = route_components_pb2.Route(name=route.name, match=_match(route.match), stat_prefix=route.match.stat_prefix)
    handling = route.handling
    if route.origin:
        found.metadata.CopyFrom(istio_metadata({"config": route.origin.path}))
    _change_headers(found, handling.headers)
    if handling.fault:
        found.typed_per_filter_config[FAULT].CopyFrom(packed(_fault(handling.fault)))
    if handling.cors:
        found.typed_per_filter_config[CORS].CopyFrom(packed(_cors(handling.cors)))
    if handling.redirect:
        _redirect(found.redirect, handling)
    elif handling.response_status:
        found.direct_response.status = handling.response_status
        if isinstance(handling.response_body, bytes):
            found.direct_response.body.inline_bytes = handling.response_body
        elif handling.response_body:
            found.direct_response.body.inline_string = handling.response_body
    else:
        _forward(found.route, route)
        _repeat(found.route, handling.retries, default_retries, host_says_them=host_says_them)
    return found


def _forward(action: Any, route: Route) -> None:
    handling = route.handling
    match route.clusters:
        case [(cluster, _, changes)] if changes == HeaderChanges():
            action.cluster = cluster
        case _:
            for cluster, weight, changes in route.clusters:
                one = action.weighted_clusters.clusters.add(name=cluster, weight=uint32(weight))
                _change_headers(one, changes)
                if changes.authority:
                    one.host_rewrite_literal = changes.authority
    if handling.unresolved_status:
        action.cluster_not_found_response_code = route_components_pb2.RouteAction.INTERNAL_SERVER_ERROR
    action.timeout.CopyFrom(seconds(handling.timeout_seconds or 0))
    action.max_stream_duration.max_stream_duration.CopyFrom(seconds(0))
    action.max_stream_duration.grpc_timeout_header_max.CopyFrom(seconds(handling.timeout_seconds or 0))
    if handling.rewrite_path:
        action.prefix_rewrite = handling.rewrite_path
    if authority := handling.rewrite_authority or handling.headers.authority:
        action.host_rewrite_literal = authority
    if handling.rewrite_regex:
        pattern, substitution = handling.rewrite_regex
        action.regex_rewrite.pattern.regex = pattern
        action.regex_rewrite.substitution = substitution
    action.hash_policy.extend(map(hashing.policy_of, route.hashes))
    for cluster, percent in route.mirrors:
        policy = action.request_mirror_policies.add(cluster=cluster)
        policy.runtime_fraction.default_value.CopyFrom(_per_million(percent))


def _repeat(action: Any, said: Retries | None, default: Any, *, host_says_them: bool) -> None:
    """A policy that is there and empty is none, whatever the virtual host has."""
    if said is None and not host_says_them:
        action.retry_policy.CopyFrom(default)
    elif said is not None and said.attempts:
        action.retry_policy.CopyFrom(_retries(said, default))
    elif said is not None and host_says_them:
        action.retry_policy.SetInParent()


def _match(match: RequestMatch) -> Any:
    found = route_components_pb2.RouteMatch()
    if match.uri is None:
        found.prefix = "/"
    elif match.uri.comparison is Comparison.EXACT:
        found.path = match.uri.value
    elif match.uri.comparison is Comparison.PREFIX:
        found.prefix = match.uri.value
    elif match.uri.comparison is Comparison.SEGMENTS:
        found.path_separated_prefix = match.uri.value
    else:
        found.safe_regex.regex = match.uri.value
    if match.uri is not None and match.ignore_case:
        found.case_sensitive.CopyFrom(boolean(False))
    for name, text in ((":method", match.method), (":scheme", match.scheme), (":authority", match.authority)):
        if text is not None:
            found.headers.append(_header(name, text))
    for name, text in match.headers:
        if path := claim_named(name):
            found.dynamic_metadata.append(_claim(path, text))
        else:
            found.headers.append(_header(name, text))
    for name, text in match.without_headers:
        if path := claim_named(name):
            found.dynamic_metadata.append(_claim(path, text))
            found.dynamic_metadata[-1].invert = True
            continue
        header = _header(name, text)
        header.invert_match, header.treat_missing_header_as_empty = True, text.comparison is not Comparison.PRESENT
        found.headers.append(header)
    for name, text in match.query:
        parameter = found.query_parameters.add(name=name)
        if text.comparison is Comparison.PRESENT:
            parameter.present_match = True
        else:
            parameter.string_match.CopyFrom(_text(text))
    return found


def _claim(path: tuple[str, ...], text: TextMatch) -> Any:
    if text.comparison is Comparison.PRESENT:
        return claims.claim(path, value_pb2.ValueMatcher(present_match=True))
    return claims.claim(path, value_pb2.ValueMatcher(string_match=_text(text)))


def _header(name: str, text: TextMatch) -> Any:
    if text.comparison is Comparison.PRESENT:
        return route_components_pb2.HeaderMatcher(name=name, present_match=True)
    return route_components_pb2.HeaderMatcher(name=name, string_match=_text(text))


def _text(text: TextMatch) -> Any:
    match text.comparison:
        case Comparison.EXACT:
            return string_pb2.StringMatcher(exact=text.value)
        case Comparison.PREFIX:
            return string_pb2.StringMatcher(prefix=text.value)
        case _:
            return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=text.value))


def _redirect(action: Any, handling: Handling) -> None:
    said = handling.redirect
    assert said is not None, "asked for"
    action.response_code = _REDIRECTS.get(said.code, route_components_pb2.RedirectAction.MOVED_PERMANENTLY)
    if said.path:
        action.path_redirect = said.path
    if said.prefix:
        action.prefix_rewrite = said.prefix
    if said.regex:
        action.regex_rewrite.pattern.regex, action.regex_rewrite.substitution = said.regex
    if said.authority:
        action.host_redirect = said.authority
    if said.port:
        action.port_redirect = said.port
    if said.scheme:
        action.scheme_redirect = said.scheme


def _retries(said: Retries, default: Any) -> Any:
    policy = route_components_pb2.RetryPolicy()
    policy.CopyFrom(default)
    policy.num_retries.value = said.attempts
    if said.on:
        _repeat_on(policy, said.on)
    if said.codes:
        del policy.retriable_status_codes[:]
        policy.retriable_status_codes.extend(said.codes)
    if said.per_try_seconds is not None:
        policy.per_try_timeout.CopyFrom(seconds(said.per_try_seconds))
    if said.back_off_seconds is not None:
        policy.retry_back_off.base_interval.CopyFrom(seconds(said.back_off_seconds))
        policy.retry_back_off.max_interval.CopyFrom(seconds(10 * said.back_off_seconds))
    if not said.elsewhere:
        policy.ClearField("retry_host_predicate")
        policy.ClearField("host_selection_retry_max_attempts")
    if said.farther:
        # From the first retry on; the default, where a rule does not ask for it, is the second.
        farther = previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=1)
        policy.retry_priority.name = "previous_priorities"
        policy.retry_priority.typed_config.CopyFrom(packed(farther))
    return policy


def _repeat_on(policy: Any, said: str) -> None:
    """Istio's list has status codes among the conditions; Envoy has them apart."""
    parts = [part.strip() for part in said.split(",") if part.strip()]
    codes = [int(part) for part in parts if part.isdecimal()]
    conditions = [part for part in parts if not part.isdecimal()]
    if codes:
        conditions = list(dict.fromkeys([*conditions, "retriable-status-codes"]))
        policy.ClearField("retriable_status_codes")
        policy.retriable_status_codes.extend(codes)
    policy.retry_on = ",".join(conditions)


def _fault(said: Fault) -> Any:
    found = fault_pb2.HTTPFault()
    if said.delay_percent and said.delay_seconds:
        delay = common_fault_pb2.FaultDelay(fixed_delay=seconds(said.delay_seconds))
        delay.percentage.CopyFrom(_per_million(said.delay_percent))
        found.delay.CopyFrom(delay)
    if said.abort_percent and (said.abort_status or said.abort_grpc_status is not None):
        if said.abort_grpc_status is not None:
            found.abort.grpc_status = said.abort_grpc_status
        else:
            found.abort.http_status = said.abort_status
        found.abort.percentage.CopyFrom(_per_million(said.abort_percent))
    return found


def _cors(said: Cors) -> Any:
    """An empty origin match is any origin."""
    found = cors_pb2.CorsPolicy(
        allow_origin_string_match=[
            string_pb2.StringMatcher(prefix="") if o.comparison is Comparison.PRESENT else _text(o)
            for o in said.origins
        ],
        allow_methods=",".join(said.methods),
        allow_headers=",".join(said.headers),
        expose_headers=",".join(said.exposed_headers),
        forward_not_matching_preflights=boolean(said.forward_unmatched_preflights),
    )
    found.filter_enabled.default_value.numerator = 100
    if said.max_age_seconds is not None:
        found.max_age = str(round(said.max_age_seconds))
    if said.credentials is not None:
        found.allow_credentials.CopyFrom(boolean(said.credentials))
    return found


def _per_million(percent: float) -> Any:
    return percent_pb2.FractionalPercent(
        numerator=round(percent * 10_000), denominator=percent_pb2.FractionalPercent.MILLION
    )


def _change_headers(of: Any, changes: HeaderChanges) -> None:
    """`of` is a route or one of its weighted clusters."""
    overwrite = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    append = base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
    for pairs, action in ((changes.request_set, overwrite), (changes.request_add, append)):
        of.request_headers_to_add.extend(_option(*pair, action) for pair in pairs)
    for pairs, action in ((changes.response_set, overwrite), (changes.response_add, append)):
        of.response_headers_to_add.extend(_option(*pair, action) for pair in pairs)
    of.request_headers_to_remove.extend(changes.request_remove)
    of.response_headers_to_remove.extend(changes.response_remove)


def _option(name: str, value: str, action: Any) -> Any:
    return base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=name, value=value), append_action=action)
