"""Our JSON of messages is json_format's."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import any_pb2, json_format, struct_pb2, wrappers_pb2

from isthmus.assurance.rendering import node_of, proxy_in
from isthmus.assurance.scenario import scenario_of
from isthmus.discovery.view import view_for
from isthmus.envoy.common import packed, seconds
from isthmus.envoy.compile import compile_outbound, compile_view
from isthmus.envoy.expand import decoded
from isthmus.envoy.proto_json import to_json

EVERY_RULE = Path(__file__).parents[1] / "assurance" / "every-rule.yaml"


def test_of_every_resource_that_every_rule_gives():
    scenario = scenario_of(yaml.safe_load(EVERY_RULE.read_text()))
    view = view_for(proxy_in(scenario, node_of(scenario, "sidecar/cart-1.shop", "east")), scenario.snapshot())
    compiled = compile_view(view, compile_outbound(view.outbound))
    messages = [decoded(kind, each.body) for kind, found in compiled.by_type.items() for each in found.values()]

    assert len(messages) > 20
    for message in messages:
        assert to_json(message) == json_format.MessageToDict(message)


@pytest.mark.parametrize(
    "message",
    [
        cluster_pb2.Cluster(
            name="x",
            type=99,
            max_requests_per_connection=wrappers_pb2.UInt32Value(value=7),
            connect_timeout=seconds(0.0025),
            metadata=base_pb2.Metadata(
                filter_metadata={"a": struct_pb2.Struct(fields={"n": struct_pb2.Value(null_value="NULL_VALUE")})},
                typed_filter_metadata={"d": packed(seconds(3)), "w": packed(wrappers_pb2.UInt64Value(value=2**60))},
            ),
            common_lb_config=cluster_pb2.Cluster.CommonLbConfig(
                healthy_panic_threshold=percent_pb2.Percent(value=12.5)
            ),
        ),
        route_components_pb2.HeaderMatcher(name="x", range_match={"start": -(2**40), "end": 5}),
        base_pb2.DataSource(inline_bytes=b"\x00\xff"),
        any_pb2.Any(),
    ],
    ids=lambda message: message.DESCRIPTOR.name,
)
def test_of_rare_kinds(message):

    assert to_json(message) == json_format.MessageToDict(message)
