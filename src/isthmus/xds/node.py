"""What a client says about itself in its first request. Claims, until credentials confirm them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeClaims:
    """`metadata` is plain JSON; `locality` is (region, zone, subzone)."""

    id: str
    metadata: dict[str, Any]
    locality: tuple[str, str, str]
    user_agent: str


def claims_of(node: Any) -> NodeClaims:
    """From an xDS Node message."""
    version = node.user_agent_build_version.version
    return NodeClaims(
        id=node.id,
        metadata=json_format.MessageToDict(node.metadata),
        locality=(node.locality.region, node.locality.zone, node.locality.sub_zone),
        user_agent=f"{node.user_agent_name} {version.major_number}.{version.minor_number}.{version.patch}".strip(),
    )
