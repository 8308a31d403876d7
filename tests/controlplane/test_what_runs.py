"""One change runs exactly the derivations that read it: what-runs.txt says which, for each kind of event. ISTHMUS_REWRITE=1 writes it anew: read
every changed line.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from small_meshes import Mesh, obj, of_service

from isthmus.assurance.rendering import node_of, proxy_in
from isthmus.assurance.scenario import scenario_of

TRANSCRIPT = Path(__file__).parent / "what-runs.txt"


def unready(mesh: Mesh) -> None:
    mesh.find(0, "EndpointSlice", "s4-x")["endpoints"][0]["conditions"]["ready"] = False


def endpoint_appears(mesh: Mesh) -> None:
    endpoints = mesh.find(0, "EndpointSlice", "s4-x")["endpoints"]
    endpoints.append({**endpoints[0], "addresses": ["10.0.4.2"]})


def rule_changes(mesh: Mesh) -> None:
    mesh.find(0, "DestinationRule", "s1")["spec"]["trafficPolicy"]["connectionPool"]["tcp"]["maxConnections"] = 2


def route_changes(mesh: Mesh) -> None:
    mesh.find(0, "VirtualService", "s3")["spec"] = mesh.virtual_service(seconds=2)["spec"]


def service_appears(mesh: Mesh) -> None:
    mesh.put(0, *of_service(0, 99, "shop"))


def gateway_moves(mesh: Mesh) -> None:
    mesh.find(1, "Service", "gw")["status"]["loadBalancer"]["ingress"][0]["ip"] = "172.30.1.77"


def mode_changes(mesh: Mesh) -> None:
    mesh.put(0, obj("PeerAuthentication", "p", "till", "security.istio.io/v1", spec={"mtls": {"mode": "STRICT"}}))


def policy_appears(mesh: Mesh) -> None:
    mesh.put(0, obj("AuthorizationPolicy", "a", "till", "security.istio.io/v1", spec={"rules": [{}]}))


def nothing_happens(mesh: Mesh) -> None:
    mesh.find(0, "Pod", "s4-0")["metadata"]["annotations"] = {"seen": "again"}


def known_proxy_connects(mesh: Mesh) -> None:
    whole = scenario_of(mesh.document)
    mesh.kept.connect(proxy_in(whole, node_of(whole, "sidecar/s3-0.shop", "east")))


EVENTS: dict[str, Callable[[Mesh], None]] = {
    "an endpoint is not ready any longer": unready,
    "a service has one endpoint more": endpoint_appears,
    "something is written that says the same": nothing_happens,
    "a DestinationRule changes": rule_changes,
    "a VirtualService changes": route_changes,
    "a Service appears": service_appears,
    "a network gateway has another address": gateway_moves,
    "a namespace demands mutual TLS": mode_changes,
    "a namespace gets an AuthorizationPolicy": policy_appears,
    "a sidecar of a known scope connects": known_proxy_connects,
}


def ran_in(services: int, event: str) -> dict[str, int]:
    mesh = Mesh(services)
    EVENTS[event](mesh)
    return mesh.settle()


@pytest.mark.parametrize("event", EVENTS)
def test_what_runs(event):
    told = "\n".join([event, *(f"  {name:20}{count:4}" for name, count in ran_in(6, event).items())])
    text = TRANSCRIPT.read_text() if TRANSCRIPT.exists() else ""
    known = {block.splitlines()[0]: block for each in text.split("\n\n") if (block := each.strip("\n"))}

    if os.environ.get("ISTHMUS_REWRITE"):
        known[event] = told
        TRANSCRIPT.write_text("\n\n".join(known[each] for each in EVENTS if each in known) + "\n")
    assert known[event].splitlines() == told.splitlines()


@pytest.mark.parametrize(
    "event",
    [
        "an endpoint is not ready any longer",
        "a service has one endpoint more",
        "something is written that says the same",
        "a DestinationRule changes",
        "a VirtualService changes",
    ],
)
def test_it_is_the_same_in_a_mesh_of_ten_times_as_many_services(event):
    assert ran_in(60, event) == ran_in(6, event)
