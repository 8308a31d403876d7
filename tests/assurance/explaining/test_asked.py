"""Who can be asked about."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from isthmus.assurance.explaining.asked import Asked, BadQuestion
from isthmus.assurance.explaining.questions import why
from isthmus.assurance.rendering import node_of, proxy_in
from isthmus.assurance.scenario import scenario_of
from isthmus.assurance.traffic.request import Request


def test_an_application_that_speaks_xds_itself_has_no_way_through_an_envoy():
    scenario = scenario_of(yaml.safe_load((Path(__file__).parent / "shop.yaml").read_text()))
    node = node_of(scenario, "sidecar/web-1.shop", "east")
    node["metadata"]["GENERATOR"] = "grpc"

    with pytest.raises(BadQuestion, match="routes its requests itself"):
        Asked.about(proxy_in(scenario, node), scenario.snapshot())


def test_a_proxy_proves_the_identity_of_its_workload():
    scenario = scenario_of(yaml.safe_load((Path(__file__).parent / "shop.yaml").read_text()))
    cart = Asked.about(proxy_in(scenario, node_of(scenario, "sidecar/cart-1.shop", "east")), scenario.snapshot())
    web = Asked.about(proxy_in(scenario, node_of(scenario, "sidecar/web-1.shop", "east")), scenario.snapshot())

    assert str(cart.identity) == "spiffe://cluster.local/ns/shop/sa/cart"
    assert str(web.identity) == "spiffe://cluster.local/ns/shop/sa/web", "also where it answers for no service"


def test_a_gateway_asks_nobody_by_itself():
    scenario = scenario_of(yaml.safe_load((Path(__file__).parent / "shop.yaml").read_text()))
    gateway = Asked.about(proxy_in(scenario, node_of(scenario, "router/web-1.shop", "east")), scenario.snapshot())

    with pytest.raises(BadQuestion, match="isthmus explain"):
        why(gateway, "reviews", 80, Request(port=80))
