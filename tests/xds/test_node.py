"""Which program a client says it is."""

from __future__ import annotations

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.type.v3 import semantic_version_pb2

from isthmus.xds.node import claims_of

ENVOY = base_pb2.BuildVersion(version=semantic_version_pb2.SemanticVersion(major_number=1, minor_number=40, patch=0))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"user_agent_name": "envoy", "user_agent_build_version": ENVOY}, "envoy 1.40.0"),
        (
            {"user_agent_name": "gRPC C-core Linux", "user_agent_version": "C-core 53.1.0"},
            "gRPC C-core Linux C-core 53.1.0",
        ),
        ({}, ""),
    ],
)
def test_a_program_is_shown_as_it_calls_itself_and_one_that_does_not_is_not_made_up(said, shown):
    assert claims_of(base_pb2.Node(id="sidecar~1", **said)).user_agent == shown
