"""Which requests are sent again, and when: what a virtual host says of all of its requests, and what those that may run twice get beside it.

Envoy's router takes the header `x-envoy-retry-on` out of a request, and adds what it says to whatever policy holds. So one filter in front of a
route table adds `reset` to requests that may run twice, and none of the table's virtual hosts needs a second route for them.
What says itself when it repeats is left alone by the filter (`leave_alone`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.common.matching.v3 import extension_matcher_pb2
from envoy.extensions.filters.common.matcher.action.v3 import skip_action_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
from envoy.type.matcher.v3 import http_inputs_pb2, regex_pb2, string_pb2
from xds.core.v3 import extension_pb2 as xds_extension_pb2
from xds.type.matcher.v3 import matcher_pb2
from xds.type.matcher.v3 import regex_pb2 as matched_regex_pb2
from xds.type.matcher.v3 import string_pb2 as matched_text_pb2

from isthmus.envoy.common import packed, seconds, uint32

REPEATED_ON = "x-envoy-retry-on"
SAFE = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
"""Istio's default: the request did not reach an application, or it was answered that it may be repeated."""

ON_RESET = "reset"
FILTER = "isthmus.on-reset"
"""The name of the filter, by which virtual hosts and routes say that it is to leave them alone."""

_IDEMPOTENT = "GET|HEAD|OPTIONS|PUT|DELETE|TRACE"
"""RFC 9110, section 9.2.2."""

_DRAWS_MAX = 40


@cache
def on_reset() -> Any:
    """The filter: requests that may run twice are also repeated when their connection breaks. An Envoy that is built without it does without."""
    mutations = header_mutation_pb2.Mutations(
        request_mutations=[mutation_rules_pb2.HeaderMutation(append=also_on_reset())]
    )
    adding = header_mutation_pb2.HeaderMutation(mutations=mutations)
    config = extension_matcher_pb2.ExtensionWithMatcher(
        xds_matcher=_unless_idempotent(_extension("skip", skip_action_pb2.SkipFilter())),
        extension_config=extension_pb2.TypedExtensionConfig(name=REPEATED_ON, typed_config=packed(adding)),
    )
    return http_connection_manager_pb2.HttpFilter(name=FILTER, typed_config=packed(config), is_optional=True)


def _unless_idempotent(action: Any) -> Any:
    found = matcher_pb2.Matcher.MatcherList
    method = found.Predicate.SinglePredicate(
        input=_extension("method", http_inputs_pb2.HttpRequestHeaderMatchInput(header_name=":method")),
        value_match=matched_text_pb2.StringMatcher(
            safe_regex=matched_regex_pb2.RegexMatcher(google_re2={}, regex=_IDEMPOTENT)
        ),
    )
    other = found.FieldMatcher(
        predicate=found.Predicate(not_matcher=found.Predicate(single_predicate=method)),
        on_match=matcher_pb2.Matcher.OnMatch(action=action),
    )
    return matcher_pb2.Matcher(matcher_list=found(matchers=[other]))


def _extension(name: str, message: Any) -> Any:
    return xds_extension_pb2.TypedExtensionConfig(name=name, typed_config=packed(message))


def leave_alone(described: Any) -> None:
    """A virtual host or a route whose requests are repeated on what it says, and on nothing else."""
    if FILTER not in described.typed_per_filter_config:
        described.typed_per_filter_config[FILTER].CopyFrom(_not_here())


@cache
def _not_here() -> Any:
    return packed(route_components_pb2.FilterConfig(disabled=True))


@cache
def is_idempotent() -> Any:
    """What a route for such requests alone matches."""
    matcher = string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=_IDEMPOTENT))
    return route_components_pb2.HeaderMatcher(name=":method", string_match=matcher)


@cache
def also_on_reset() -> Any:
    """To add to a request. A policy of the route's own would replace its host's."""
    return base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=REPEATED_ON, value=ON_RESET))


@cache
def policy(on: str) -> Any:
    """Elsewhere, and at once: Envoy's own 25 ms before the first retry is longer than most requests.

    The second retry leaves the places that were tried: while nobody has noticed yet that all near endpoints are gone, it goes far.
    """
    farther = previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=2)
    return route_components_pb2.RetryPolicy(
        retry_priority=route_components_pb2.RetryPolicy.RetryPriority(
            name="previous_priorities", typed_config=packed(farther)
        ),
        retry_on=on,
        retriable_status_codes=[503],
        num_retries=uint32(2),
        retry_back_off=route_components_pb2.RetryPolicy.RetryBackOff(
            base_interval=seconds(0.002), max_interval=seconds(0.02)
        ),
        # Of few destinations, one with most of the weight is drawn again and again: with Istio's 5 draws the last try went where the first did.
        host_selection_retry_max_attempts=_DRAWS_MAX,
        retry_host_predicate=[
            route_components_pb2.RetryPolicy.RetryHostPredicate(
                name="previous_hosts",
                typed_config=packed(previous_hosts_pb2.PreviousHostsPredicate()),
            )
        ],
    )
