"""The authorities of other trust domains, on their way to agents: a type of resource of our own, which Envoy never asks for.

The message is one string (field 1), a SPIFFE bundle map as Envoy's validator and gRPC read it. There is none while no other trust domain is
known; so the first answer on a stream, empty or not, is the whole truth.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from google.protobuf import wrappers_pb2

from isthmus.envoy.resources import BUNDLES, Resource
from isthmus.model.identity import TrustDomain

NAME = "peers"
Bundles = Mapping[TrustDomain, Sequence[bytes]]
"""Authorities as DER."""


def bundles(authorities: tuple[tuple[TrustDomain, tuple[bytes, ...]], ...]) -> Iterator[tuple[str, Resource]]:
    """The one resource of its type, if there is anything to say."""
    if authorities:
        yield BUNDLES, _encoded(authorities)


@lru_cache(maxsize=8)
def _encoded(authorities: tuple[tuple[TrustDomain, tuple[bytes, ...]], ...]) -> Resource:
    """Remembered, because every proxy is told the same, and each authority is read for it."""
    from isthmus.envoy.secrets import spiffe_bundle_map  # It takes long to import, and few meshes have peers.

    return Resource.of(NAME, wrappers_pb2.StringValue(value=spiffe_bundle_map(dict(authorities))))


def decode(body: bytes) -> Bundles:
    """Raises DecodeError and ValueError for what `bundles` did not make."""
    document = json.loads(wrappers_pb2.StringValue.FromString(body).value)
    try:
        return {
            TrustDomain.parse(name): [base64.b64decode(der) for key in bundle["keys"] for der in key["x5c"]]
            for name, bundle in document["trust_domains"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a map of trust bundles: {error!r}") from None
