"""RequestAuthentication: tokens (JWT) are checked before policies look at what they say.

A request without a token goes on, and a policy may demand one; a token that is not valid ends the request with 401. What a valid one says is
kept as metadata, where policies read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, http_uri_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2
from google.protobuf import empty_pb2

from isthmus.envoy import tls
from isthmus.envoy.common import address, seconds
from isthmus.envoy.resources import Resource
from isthmus.model.security import TokenRule
from isthmus.model.values import dataclass

_KEYS_SECONDS = 20 * 60
"""How long fetched keys are believed, as in Istio."""

_CONNECT_SECONDS = 10


def configuration(rules: Sequence[TokenRule], *, chooses_routes: bool = False) -> Any:
    """Of the filter, for all issuers; where no tokens are asked for it looks at none. `chooses_routes`: one was chosen before there were any
    claims, and is chosen again."""
    config = config_pb2.JwtAuthentication()
    if not rules:
        return config
    for index, rule in enumerate(rules):
        provider = config.providers[f"origins-{index}"]
        provider.CopyFrom(_provider(rule))
        provider.clear_route_cache = chooses_routes
    requirements = [config_pb2.JwtRequirement(provider_name=f"origins-{index}") for index in range(len(rules))]
    requirements.append(config_pb2.JwtRequirement(allow_missing=empty_pb2.Empty()))
    required = config.rules.add()
    required.match.prefix = "/"
    required.requires.requires_any.requirements.extend(requirements)
    return config


def key_servers(rules: Sequence[TokenRule], declared: frozenset[str]) -> Iterator[Resource]:
    """Upstreams for the servers of keys that are no services of the mesh. `declared` are the names of those that are there already."""
    places = {_Place.of(rule.jwks_uri) for rule in rules if rule.jwks_uri}
    for place in sorted(places, key=lambda place: place.cluster):
        if place.cluster not in declared:
            cluster = cluster_pb2.Cluster(
                name=place.cluster,
                type=cluster_pb2.Cluster.STRICT_DNS,
                dns_lookup_family=cluster_pb2.Cluster.V4_PREFERRED,
                connect_timeout=seconds(_CONNECT_SECONDS),
            )
            cluster.load_assignment.cluster_name = place.cluster
            endpoint = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint
            endpoint.address.CopyFrom(address(place.host, place.port))
            if place.tls:
                cluster.transport_socket.CopyFrom(tls.web_socket(place.host))
            yield Resource.of(cluster.name, cluster)


@dataclass(frozen=True, slots=True)
class _Place:
    host: str
    port: int
    tls: bool

    @staticmethod
    def of(uri: str) -> _Place:
        parts = urlsplit(uri)
        is_tls = parts.scheme == "https"
        return _Place((parts.hostname or "").lower(), parts.port or (443 if is_tls else 80), is_tls)

    @property
    def cluster(self) -> str:
        return f"outbound|{self.port}||{self.host}"


_LISTED_CLAIMS = ("scope", "permission")
"""Policies that ask for one of a token's scopes mean an entry of the list (RFC 8693, section 4.2; as in Istio)."""


def _provider(rule: TokenRule) -> Any:
    provider = config_pb2.JwtProvider(
        issuer=rule.issuer,
        audiences=rule.audiences,
        forward=rule.forward,
        from_params=rule.parameters,
        from_cookies=rule.cookies,
        payload_in_metadata="payload",
        forward_payload_header=rule.payload_header,
    )
    listed = dict.fromkeys((*_LISTED_CLAIMS, *rule.listed_claims))
    provider.normalize_payload_in_metadata.space_delimited_claims.extend(listed)
    for name, prefix in rule.headers:
        provider.from_headers.add(name=name, value_prefix=prefix)
    for header, claim in rule.claim_headers:
        provider.claim_to_headers.add(header_name=header, claim_name=claim)
    if rule.jwks:
        provider.local_jwks.CopyFrom(base_pb2.DataSource(inline_string=rule.jwks))
        return provider
    provider.remote_jwks.http_uri.CopyFrom(
        http_uri_pb2.HttpUri(
            uri=rule.jwks_uri,
            cluster=_Place.of(rule.jwks_uri).cluster,
            timeout=seconds(rule.timeout_seconds),
        )
    )
    provider.remote_jwks.cache_duration.CopyFrom(seconds(_KEYS_SECONDS))
    # Fetched before the first token comes, and the listener does not wait for it: an issuer that is away stops nobody else.
    provider.remote_jwks.async_fetch.fast_listener = True
    return provider
