"""What proxies are asked to do about their own trust domain's authorities, on its way to agents: a type of resource of our own.

The message is one string (field 1) with JSON in it. An agent acknowledges it when its proxy has done all of it, and not before: so what a stream
has acknowledged says what the proxy holds.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from google.protobuf import wrappers_pb2

from isthmus.envoy.resources import OWN_TRUST, Resource
from isthmus.model.trust import NOTHING_ASKED, OwnTrust

NAME = "own"


def own_trust(asked: OwnTrust) -> Iterator[tuple[str, Resource]]:
    """The one resource of its type, if anything is asked."""
    if asked != NOTHING_ASKED:
        text = msgspec.json.encode(asked).decode()
        yield OWN_TRUST, Resource.of(NAME, wrappers_pb2.StringValue(value=text))


def decode(body: bytes) -> OwnTrust:
    """Raises DecodeError, and ValueError for what `own_trust` did not make."""
    return msgspec.json.decode(wrappers_pb2.StringValue.FromString(body).value, type=OwnTrust)
