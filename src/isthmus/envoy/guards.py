"""What is asked before requests, or bytes, reach a workload or pass a gateway, in this order (Istio's): external authorization, tokens,
policies.

What is asked of requests is fetched apart from the listener, under names that stay: a new policy holds for the next request of a connection
that is open already, and no connection is closed for it (measured: 16 ms; as part of the listener it waits until old connections are
drained). So these filters are always there, and ask nothing where there is nothing to ask. Until one has arrived, requests are refused. Bytes
are asked for when a connection begins, so their policies are the listener's own: those of open connections end when it is drained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envoy.config.core.v3 import config_source_pb2, extension_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.config.rbac.v3 import rbac_pb2 as access_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as jwt_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.matching.common_inputs.ssl.v3 import ssl_inputs_pb2
from xds.core.v3 import extension_pb2 as extension_config_pb2
from xds.type.matcher.v3 import matcher_pb2
from xds.type.matcher.v3 import regex_pb2 as matched_regex_pb2
from xds.type.matcher.v3 import string_pb2 as matched_text_pb2

from isthmus.envoy import authorization, external_authorization, tokens
from isthmus.envoy.common import from_ads, packed
from isthmus.envoy.resources import Resource
from isthmus.model.security import Action, Authorization

ALLOW = "envoy.filters.http.rbac.allow"
ONE_IDENTITY = "isthmus.one-identity"
_TOKENS, _DENY = "envoy.filters.http.jwt_authn", "envoy.filters.http.rbac"
"""Names by which configurations are fetched: the filters' usual ones, by which EnvoyFilters know them, as far as there is only one."""

_JWT_TYPE = "type.googleapis.com/" + jwt_pb2.JwtAuthentication.DESCRIPTOR.full_name
_RBAC_TYPE = "type.googleapis.com/" + rbac_pb2.RBAC.DESCRIPTOR.full_name


def of_requests(asked: Authorization) -> list[Any]:
    """HTTP filters."""
    return [
        *external_authorization.http_filters(asked),
        _fetched(_TOKENS, _JWT_TYPE),
        *authorization.http_filters(asked, Action.AUDIT),
        _fetched(_DENY, _RBAC_TYPE),
        _fetched(ALLOW, _RBAC_TYPE),
    ]


def extensions(asked: Authorization, *, chooses_routes: bool = False) -> Iterator[Resource]:
    """The configurations that they fetch. `chooses_routes`: some routes are for tokens of some kind alone."""
    yield _extension(_TOKENS, tokens.configuration(asked.tokens, chooses_routes=chooses_routes))
    for name, action in ((_DENY, Action.DENY), (ALLOW, Action.ALLOW)):
        yield _extension(name, authorization.of_requests(asked, action))


def of_connections(asked: Authorization) -> list[Any]:
    """Network filters."""
    return [*external_authorization.network_filters(asked), *authorization.network_filters(asked)]


def of_peers() -> list[Any]:
    """Network filters, the first on each connection with mutual TLS: whoever shows other than one SPIFFE ID is turned away.

    Envoy chooses the authorities by the first URI name, policies match any of them, and so another trust domain's authority could vouch for an
    identity of ours in the second. The input is all of them with commas between, and no SPIFFE ID has one.
    """
    one = matcher_pb2.Matcher.MatcherList.Predicate.SinglePredicate(
        input=_extension_config("envoy.matching.inputs.uri_san", ssl_inputs_pb2.UriSanInput()),
        value_match=matched_text_pb2.StringMatcher(
            safe_regex=matched_regex_pb2.RegexMatcher(google_re2={}, regex="spiffe://[^,]+")
        ),
    )
    matched = matcher_pb2.Matcher.MatcherList.FieldMatcher(
        predicate=matcher_pb2.Matcher.MatcherList.Predicate(single_predicate=one),
        on_match=_action(ONE_IDENTITY, access_pb2.RBAC.ALLOW),
    )
    config = network_rbac_pb2.RBAC(
        stat_prefix="peers.",
        matcher=matcher_pb2.Matcher(
            matcher_list=matcher_pb2.Matcher.MatcherList(matchers=[matched]),
            on_no_match=_action(ONE_IDENTITY, access_pb2.RBAC.DENY),
        ),
    )
    return [listener_components_pb2.Filter(name=ONE_IDENTITY, typed_config=packed(config))]


def _action(name: str, action: Any) -> Any:
    said = access_pb2.Action(name=name, action=action)
    return matcher_pb2.Matcher.OnMatch(action=_extension_config("envoy.filters.rbac.action", said))


def _extension_config(name: str, message: Any) -> Any:
    return extension_config_pb2.TypedExtensionConfig(name=name, typed_config=packed(message))


def _fetched(name: str, type_url: str) -> Any:
    source = config_source_pb2.ExtensionConfigSource(config_source=from_ads(), type_urls=[type_url])
    return http_connection_manager_pb2.HttpFilter(name=name, config_discovery=source)


def _extension(name: str, message: Any) -> Resource:
    return Resource.of(name, extension_pb2.TypedExtensionConfig(name=name, typed_config=packed(message)))
