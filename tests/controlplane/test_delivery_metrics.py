"""What delivery counts of itself, as Prometheus reads it."""

from __future__ import annotations

from envoy.service.discovery.v3 import discovery_pb2
from prometheus_client import CollectorRegistry, generate_latest

from isthmus.controlplane.delivery_metrics import Convergence, add_delivery_metrics
from isthmus.envoy.resources import CLUSTER, EXTENSION, Resource, ResourceSet
from isthmus.xds.directory import Streams
from isthmus.xds.session import Session


def test_pushes_refusals_and_convergence_have_istios_names():
    streams, convergence = Streams(), Convergence()
    session = Session(delta=True, encoded=streams.encoded)
    one = {"a": Resource.of_bytes("a", b"a")}
    session.publish(ResourceSet({CLUSTER: one, EXTENSION: one}))
    session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER))
    session.receive(
        discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce="1", error_detail={"message": "no"})
    )
    session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=EXTENSION, resource_names_subscribe=["a"]))
    convergence.took(0.02)
    convergence.took(100.0)
    registry = CollectorRegistry()
    add_delivery_metrics(registry, streams, convergence, scopes=3, stocks=2)

    shown = generate_latest(registry).decode()

    for line in (
        "pilot_xds 0.0",
        'pilot_xds_pushes{type="cds"} 1.0',
        'pilot_xds_pushes{type="ecds"} 1.0',
        'pilot_total_xds_rejects{type="cds"} 1.0',
        'pilot_proxy_convergence_time_bucket{le="0.05"} 1.0',
        'pilot_proxy_convergence_time_bucket{le="30.0"} 1.0',
        'pilot_proxy_convergence_time_bucket{le="+Inf"} 2.0',
        "pilot_proxy_convergence_time_count 2.0",
        "isthmus_scopes 3.0",
        "isthmus_stocks 2.0",
        "isthmus_xds_bodies_encoded_total 2.0",
    ):
        assert line in shown
