"""Workload identity as SPIFFE defines it (SPIFFE-ID, sections 2.1 and 2.2).

Values are built by `parse` alone, so an invalid one cannot exist; trust domains are never compared with text.
"""

from __future__ import annotations

import re

from isthmus.model.names import Namespace
from isthmus.model.values import dataclass

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_PATH_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")
_SPIFFE_ID_BYTES_MAX = 2048


@dataclass(frozen=True, slots=True, order=True)
class TrustDomain:
    """The name under which one set of authorities may sign."""

    name: str

    @staticmethod
    def parse(text: str) -> TrustDomain:
        """Raises ValueError for a name outside SPIFFE-ID section 2.1: lower-case letters, digits, dot, dash, underscore."""
        if not text:
            raise ValueError("the trust domain is missing")
        if not _TRUST_DOMAIN.fullmatch(text):
            raise ValueError(
                f"{text!r} is not a trust domain: trust domain characters are lower-case letters, digits, '.', '-' and '_', at most 255"
            )
        return TrustDomain(text)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True, weakref_slot=True)
class SpiffeId:
    """Who a workload is: `spiffe://TRUST_DOMAIN/PATH`."""

    trust_domain: TrustDomain
    path: str

    @staticmethod
    def parse(text: str) -> SpiffeId:
        """Raises ValueError, saying which rule of SPIFFE-ID section 2 the text breaks."""
        if not text:
            raise ValueError("a SPIFFE ID cannot be empty")
        if len(text.encode()) > _SPIFFE_ID_BYTES_MAX:
            raise ValueError(f"a SPIFFE ID is at most {_SPIFFE_ID_BYTES_MAX} bytes")
        scheme, separator, rest = text.partition("://")
        if not separator or scheme != "spiffe":
            raise ValueError(f"{text!r} is not a SPIFFE ID: its scheme is not spiffe://")
        domain, slash, path = rest.partition("/")
        trust_domain = TrustDomain.parse(domain)
        if slash and (broken := _broken_rule(path.split("/"))):
            raise ValueError(f"{text!r} is not a SPIFFE ID: {broken}")
        return SpiffeId(trust_domain, slash + path)

    @staticmethod
    def of_service_account(trust_domain: TrustDomain, namespace: Namespace, service_account: str) -> SpiffeId:
        """The identity that a Kubernetes service account has in the mesh."""
        return SpiffeId(trust_domain, f"/ns/{namespace}/sa/{service_account}")

    @property
    def service_account(self) -> tuple[Namespace, str] | None:
        """Namespace and service account, where the path names them."""
        parts = self.path.split("/")
        if len(parts) == 5 and parts[1] == "ns" and parts[3] == "sa":
            return Namespace(parts[2]), parts[4]
        return None

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}{self.path}"


def trust_domain_of(text: str) -> TrustDomain:
    """From a trust domain's name, or from any SPIFFE ID in it, which people take for each other. Raises ValueError."""
    return SpiffeId.parse(text).trust_domain if ":/" in text else TrustDomain.parse(text)


def _broken_rule(segments: list[str]) -> str:
    """What is wrong with a path (SPIFFE-ID section 2.2); nothing if it is well-formed."""
    *leading, last = segments
    if not all(leading):
        return "a path cannot have empty segments"
    if not last:
        return "a path cannot have a trailing slash"
    for segment in segments:
        if segment in (".", ".."):
            return "a path cannot have dot segments"
        if not _PATH_SEGMENT.fullmatch(segment):
            return f"{segment!r} has other than path segment characters: letters, digits, '.', '-' and '_'"
    return ""
