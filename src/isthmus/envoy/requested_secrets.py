"""Secrets that a proxy's configuration asks for, as empty stand-ins; those that are files beside the proxy say where.

The pipeline knows no key. It says which secrets a proxy's own listeners name, and whoever holds them puts them in the stand-ins' place just
before they are sent: a proxy can be given no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from isthmus.envoy.resources import Resource
from isthmus.envoy.tls import (
    AUTHORITIES,
    AUTHORITY_FILES,
    CERTIFICATE_FILES,
    CREDENTIAL,
    GATEWAY_CREDENTIAL,
    secrets_of,
    secrets_shown,
)
from isthmus.incremental.while_used import while_used
from isthmus.model.gateways import ServerTls
from isthmus.model.traffic import TrafficPolicy
from isthmus.model.values import dataclass


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


def is_of_files(name: str) -> bool:
    """Whether it is complete: what it says is in files that the proxy reads itself."""
    return name.startswith((CERTIFICATE_FILES, AUTHORITY_FILES))


def of(asked: Iterable[ServerTls]) -> Iterator[Resource]:
    """One for each name."""
    return map(_resource, dict.fromkeys(name for said in asked for name in secrets_shown(said)))


def of_policy(policy: TrafficPolicy) -> Iterator[Resource]:
    """Those with which callers start TLS beyond the mesh."""
    return map(_resource, secrets_of(policy.origination) if policy.origination else ())


@while_used
def _resource(name: str) -> Resource:
    secret = secret_pb2.Secret(name=name)
    first, _, second = name.removeprefix(CERTIFICATE_FILES).removeprefix(AUTHORITY_FILES).partition("~")
    if name.startswith(CERTIFICATE_FILES):
        secret.tls_certificate.certificate_chain.filename = first
        secret.tls_certificate.private_key.filename = second
    elif name.startswith(AUTHORITY_FILES):
        secret.validation_context.trusted_ca.filename = first
        if second:
            secret.validation_context.crl.filename = second
    return Resource.of(name, secret)
