"""What a validated token says, as the filter for tokens notes it for those that come after: policies, and the choice of a route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envoy.type.matcher.v3 import metadata_pb2, value_pb2

JWT = "envoy.filters.http.jwt_authn"


def claim(path: Sequence[str], wanted: Any) -> Any:
    """Whether a claim has a value. One that is a list has it if one of its entries does."""
    segments = [metadata_pb2.MetadataMatcher.PathSegment(key=key) for key in ("payload", *path)]
    in_list = value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=wanted))
    either = value_pb2.ValueMatcher(or_match=value_pb2.OrMatcher(value_matchers=[wanted, in_list]))
    return metadata_pb2.MetadataMatcher(filter=JWT, path=segments, value=either)
