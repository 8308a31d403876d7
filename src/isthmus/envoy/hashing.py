"""Consistent hashing: what of a request chooses the endpoint, and the table in which it is looked up."""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.type.v3 import hash_policy_pb2

from isthmus.envoy.common import seconds, uint64
from isthmus.model.traffic import ConsistentHash

_RING_SIZE = 1024
"""Istio's default of the least ring size."""

OF_SOURCE = hash_policy_pb2.HashPolicy(source_ip=hash_policy_pb2.HashPolicy.SourceIp())
"""For connections, of which nothing but their source is known."""


def policy_of(said: ConsistentHash) -> Any:
    """For requests. A cookie with a life is given to callers that have none."""
    policy = route_components_pb2.RouteAction.HashPolicy()
    if said.header:
        policy.header.header_name = said.header
    elif said.cookie:
        policy.cookie.name, policy.cookie.path = said.cookie, said.cookie_path
        if said.cookie_seconds is not None:
            policy.cookie.ttl.CopyFrom(seconds(said.cookie_seconds))
        for name, value in said.cookie_attributes:
            policy.cookie.attributes.add(name=name, value=value)
    elif said.query_parameter:
        policy.query_parameter.name = said.query_parameter
    else:
        policy.connection_properties.source_ip = True
    return policy


def balance(cluster: Any, said: ConsistentHash) -> None:
    """Has the cluster look endpoints up by hash."""
    if said.maglev:
        cluster.lb_policy = cluster_pb2.Cluster.MAGLEV
        if said.size is not None:
            cluster.maglev_lb_config.table_size.CopyFrom(uint64(said.size))
    else:
        cluster.lb_policy = cluster_pb2.Cluster.RING_HASH
        cluster.ring_hash_lb_config.minimum_ring_size.CopyFrom(uint64(_RING_SIZE if said.size is None else said.size))
