"""Endpoints (ClusterLoadAssignment): the addresses behind an upstream, by locality and priority.

An upstream without a destination gets an empty assignment, which is an answer. A weight is never 0: Envoy refuses it.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from google.protobuf import struct_pb2

from isthmus.envoy.common import address, uint32
from isthmus.model.topology import Locality
from isthmus.model.views import Destination, LocalityGroup, Upstream
from isthmus.model.workloads import Health

_HEALTH = {
    Health.HEALTHY: health_check_pb2.HEALTHY,
    Health.UNHEALTHY: health_check_pb2.UNHEALTHY,
    Health.TERMINATING: health_check_pb2.DRAINING,
}


def assignment(upstream: Upstream, name: str) -> Any:
    """All destinations of the upstream, under the name that its Envoy cluster asks for."""
    return endpoint_pb2.ClusterLoadAssignment(
        cluster_name=name, endpoints=[_group(group) for group in upstream.groups if group.destinations]
    )


def _group(group: LocalityGroup) -> endpoint_components_pb2.LocalityLbEndpoints:
    return endpoint_components_pb2.LocalityLbEndpoints(
        locality=_locality(group.locality),
        lb_endpoints=[_endpoint(destination) for destination in group.destinations],
        load_balancing_weight=uint32(max(group.weight, 1)),
        priority=group.priority,
    )


def _locality(locality: Locality) -> base_pb2.Locality | None:
    if locality == Locality():
        return None
    return base_pb2.Locality(region=locality.region, zone=locality.zone, sub_zone=locality.subzone)


def _endpoint(destination: Destination) -> endpoint_components_pb2.LbEndpoint:
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=address(destination.address, destination.port)),
        health_status=_HEALTH[destination.health],
        load_balancing_weight=uint32(max(destination.weight, 1)),
        metadata=_metadata(destination),
    )


def _metadata(destination: Destination) -> base_pb2.Metadata:
    """`tlsMode` chooses the transport socket; `workload` is `name;namespace;service;revision;cluster`, as Istio has it."""
    workload = struct_pb2.Struct()
    workload.update({"workload": _workload(destination)})
    metadata = base_pb2.Metadata(filter_metadata={"istio": workload})
    if destination.mutual_tls:
        metadata.filter_metadata["envoy.transport_socket_match"].update({"tlsMode": "istio"})
    return metadata


def _workload(destination: Destination) -> str:
    if destination.through is not None:
        return f";;;;{destination.cluster}"
    workload = destination.stands_for[0].workload
    canonical = workload.label("service.istio.io/canonical-name") or workload.label("app")
    revision = workload.label("service.istio.io/canonical-revision") or workload.label("version")
    return f"{workload.name};{workload.namespace};{canonical};{revision};{workload.cluster}"
