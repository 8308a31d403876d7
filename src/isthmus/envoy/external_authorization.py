"""CUSTOM policies: somebody else decides on the requests, or connections, that they match.

Two filters for each provider: one notes which rule matches (RBAC's shadow rules decide nothing themselves), the other asks the provider
where one did. A provider that MeshConfig does not have, or a second one for the same workload (Istio has one), refuses what its policies match.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envoy.config.core.v3 import base_pb2, grpc_service_pb2, http_uri_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as network_ext_authz_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.type.matcher.v3 import metadata_pb2, string_pb2, value_pb2

from isthmus.envoy.authorization import CUSTOM_PREFIX, custom_rules
from isthmus.envoy.common import packed, seconds
from isthmus.model.security import Action, Authorization, AuthorizationProvider

_SHADOW = "istio_ext_authz_"
_HTTP_RBAC, _NETWORK_RBAC = "envoy.filters.http.rbac", "envoy.filters.network.rbac"


def http_filters(authorization: Authorization) -> list[Any]:
    """For requests, in the order in which they are asked."""
    found = []
    for provider, rules in _asked(authorization, tcp=False):
        if provider is None:
            found.append(_http(_HTTP_RBAC, http_rbac_pb2.RBAC(rules=rules)))
        else:
            shadow = http_rbac_pb2.RBAC(shadow_rules=rules, shadow_rules_stat_prefix=_SHADOW)
            found += [_http(_HTTP_RBAC, shadow), _http("envoy.filters.http.ext_authz", _asking(provider))]
    return found


def network_filters(authorization: Authorization) -> list[Any]:
    """For bytes. A provider that is asked by HTTP decides on requests alone, so connections are not asked about (as in Istio)."""
    found = []
    for provider, rules in _asked(authorization, tcp=True):
        if provider is None:
            found.append(_network(_NETWORK_RBAC, network_rbac_pb2.RBAC(stat_prefix="tcp.", rules=rules)))
        elif provider.grpc:
            shadow = network_rbac_pb2.RBAC(stat_prefix="tcp.", shadow_rules=rules, shadow_rules_stat_prefix=_SHADOW)
            asking = network_ext_authz_pb2.ExtAuthz(
                stat_prefix="tcp.",
                grpc_service=_grpc(provider),
                failure_mode_allow=provider.fail_open,
                transport_api_version="V3",
                filter_enabled_metadata=_matched(_NETWORK_RBAC),
            )
            found += [_network(_NETWORK_RBAC, shadow), _network("envoy.filters.network.ext_authz", asking)]
    return found


def _asked(authorization: Authorization, *, tcp: bool) -> Iterator[tuple[AuthorizationProvider | None, Any]]:
    """Providers, sorted, with what they are asked about; None for those that cannot be asked."""
    custom = [policy for policy in authorization.policies if policy.action is Action.CUSTOM]
    named = sorted({policy.provider for policy in custom})
    known = {provider.name: provider for provider in authorization.providers}
    for name in named:
        rules = custom_rules(authorization, name, tcp=tcp)
        if rules is not None:
            yield known.get(name) if len(named) == 1 else None, rules


def _asking(provider: AuthorizationProvider) -> Any:
    asking = ext_authz_pb2.ExtAuthz(
        transport_api_version="V3",
        failure_mode_allow=provider.fail_open,
        filter_enabled_metadata=_matched(_HTTP_RBAC),
    )
    asking.status_on_error.code = provider.status_on_error
    if provider.body_bytes:
        asking.with_request_body.max_request_bytes = provider.body_bytes
        asking.with_request_body.allow_partial_message = provider.allow_partial_body
        asking.with_request_body.pack_as_bytes = provider.pack_as_bytes
    if provider.grpc:
        asking.grpc_service.CopyFrom(_grpc(provider))
        return asking
    asking.http_service.server_uri.CopyFrom(
        http_uri_pb2.HttpUri(
            uri=f"http://{provider.host}:{provider.port}",
            cluster=_cluster(provider),
            timeout=seconds(provider.timeout_seconds),
        )
    )
    asking.http_service.path_prefix = provider.path_prefix
    if provider.request_headers:
        asking.allowed_headers.CopyFrom(_names(provider.request_headers))
    asking.http_service.authorization_request.headers_to_add.extend(
        base_pb2.HeaderValue(key=name, value=value) for name, value in provider.added_headers
    )
    response = asking.http_service.authorization_response
    for field, names in (
        (response.allowed_upstream_headers, provider.to_upstream_on_allow),
        (response.allowed_client_headers, provider.to_caller_on_deny),
        (response.allowed_client_headers_on_success, provider.to_caller_on_allow),
    ):
        if names:
            field.CopyFrom(_names(names))
    return asking


def _grpc(provider: AuthorizationProvider) -> Any:
    service = grpc_service_pb2.GrpcService(timeout=seconds(provider.timeout_seconds))
    service.envoy_grpc.cluster_name = _cluster(provider)
    service.envoy_grpc.authority = f"{_cluster(provider)}".replace("|", "_.")
    return service


def _cluster(provider: AuthorizationProvider) -> str:
    return f"outbound|{provider.port}||{provider.host}"


def _matched(rbac: str) -> Any:
    """What the shadow rules noted: the name of a rule of ours."""
    return metadata_pb2.MetadataMatcher(
        filter=rbac,
        path=[metadata_pb2.MetadataMatcher.PathSegment(key=f"{_SHADOW}shadow_effective_policy_id")],
        value=value_pb2.ValueMatcher(string_match=string_pb2.StringMatcher(prefix=CUSTOM_PREFIX)),
    )


def _names(names: tuple[str, ...]) -> Any:
    found = string_pb2.ListStringMatcher()
    for name in names:
        matcher = found.patterns.add(ignore_case=name != "*")
        if name == "*":
            matcher.safe_regex.regex = ".*"
        elif name.endswith("*"):
            matcher.prefix = name[:-1]
        elif name.startswith("*"):
            matcher.suffix = name[1:]
        else:
            matcher.exact = name
    return found


def _http(name: str, message: Any) -> Any:
    return http_connection_manager_pb2.HttpFilter(name=name, typed_config=packed(message))


def _network(name: str, message: Any) -> Any:
    return listener_components_pb2.Filter(name=name, typed_config=packed(message))
