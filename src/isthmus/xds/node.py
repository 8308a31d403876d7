"""What a client says about itself in its first request. Claims, until credentials confirm them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeClaims:
    """`metadata` is plain JSON; `locality` is (region, zone, subzone); `user_agent` is empty for one that does not say which program it is."""

    id: str
    metadata: dict[str, Any]
    locality: tuple[str, str, str]
    user_agent: str


def claims_of(node: Any) -> NodeClaims:
    """From an xDS Node message."""
    return NodeClaims(
        id=node.id,
        metadata=json_format.MessageToDict(node.metadata),
        locality=(node.locality.region, node.locality.zone, node.locality.sub_zone),
        user_agent=_user_agent(node) if node.user_agent_name else "",
    )


def _user_agent(node: Any) -> str:
    """Envoy says its version in three numbers, gRPC's clients as text."""
    build = node.user_agent_build_version.version
    numbers = f"{build.major_number}.{build.minor_number}.{build.patch}"
    version = numbers if node.HasField("user_agent_build_version") else node.user_agent_version
    return f"{node.user_agent_name} {version}".strip()
