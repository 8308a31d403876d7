"""What a Gateway that is run for its writer is given."""

from __future__ import annotations

from isthmus.api import gateway_api as api
from isthmus.api.meta import ObjectMeta
from isthmus.controlplane.gateway_deployments import wanted_for
from isthmus.kubernetes.resources import SERVICES


def test_its_service_has_a_port_of_its_own_name_for_each_port_of_a_listener():
    gateway = api.KubernetesGateway(
        metadata=ObjectMeta(name="front", namespace="edge"), spec=api.KubernetesGatewaySpec(gateway_class_name="istio")
    )
    ports = (("web", 80), ("a-listener-of-books", 8443), ("a-listener-of-games", 9443), ("of.dots", 7000))

    wanted = dict(wanted_for(gateway, ports))

    assert [(each["name"], each["port"]) for each in wanted[SERVICES]["spec"]["ports"]] == [
        ("status-port", 15021),
        ("web", 80),
        ("a-listener-of-b", 8443),
        ("a-listener-of-g", 9443),
        ("of-dots", 7000),
    ]


def test_names_that_are_one_when_they_are_cut_are_told_apart_by_their_port():
    gateway = api.KubernetesGateway(
        metadata=ObjectMeta(name="front", namespace="edge"), spec=api.KubernetesGatewaySpec(gateway_class_name="istio")
    )
    ports = (("listener-number-one", 8001), ("listener-number-two", 8002))

    wanted = dict(wanted_for(gateway, ports))

    assert [each["name"] for each in wanted[SERVICES]["spec"]["ports"][1:]] == ["listener-number", "listener-8002"]
