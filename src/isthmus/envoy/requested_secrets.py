"""Secrets that a proxy's configuration asks for, as empty stand-ins.

The pipeline knows no key. It says which secrets a proxy's own listeners name, and whoever holds them puts them in the stand-ins' place just
before they are sent: a proxy can be given no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from isthmus.envoy.resources import Resource
from isthmus.envoy.tls import AUTHORITIES, CREDENTIAL, GATEWAY_CREDENTIAL, authorities_name, secret_name, secrets_of
from isthmus.model.gateways import ServerTls
from isthmus.model.traffic import TrafficPolicy


@dataclass(frozen=True, slots=True)
class RequestedSecret:
    """A Secret by the name that a proxy asks for. An empty namespace is the proxy's own; `authorities`: not the key, who vouches."""

    namespace: str
    name: str
    authorities: bool

    @staticmethod
    def parse(text: str) -> RequestedSecret:
        """What a stand-in's name means. Raises ValueError."""
        for prefix in (GATEWAY_CREDENTIAL, CREDENTIAL):
            if text.startswith(prefix):
                namespace, _, name = text.removeprefix(prefix).rpartition("/")
                return RequestedSecret(namespace, name.removesuffix(AUTHORITIES), name.endswith(AUTHORITIES))
        raise ValueError(f"{text!r} is not the name of a Secret")


def of(asked: Iterable[ServerTls]) -> Iterator[Resource]:
    """One for each name."""
    names: dict[str, None] = {}
    for said in asked:
        names |= dict.fromkeys(map(secret_name, said.credentials))
        if said.asks_for_certificates and said.credentials and not said.authorities_pem:
            names[authorities_name(said)] = None
    return map(_stand_in, names)


def of_policy(policy: TrafficPolicy) -> Iterator[Resource]:
    """Those with which callers start TLS beyond the mesh."""
    return map(_stand_in, secrets_of(policy.origination) if policy.origination else ())


@cache
def _stand_in(name: str) -> Resource:
    return Resource.of(name, secret_pb2.Secret(name=name))
