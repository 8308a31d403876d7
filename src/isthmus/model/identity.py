"""Workload identity as SPIFFE defines it (SPIFFE-ID, sections 2.1 and 2.2).

Values are built by `parse` alone, so an invalid one cannot exist; trust domains are never compared with text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from isthmus.model.names import Namespace

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
        if not _TRUST_DOMAIN.fullmatch(text):
            raise ValueError(f"{text!r} is not a trust domain: use lower-case letters, digits, '.', '-' and '_'")
        return TrustDomain(text)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """Who a workload is: `spiffe://TRUST_DOMAIN/PATH`."""

    trust_domain: TrustDomain
    path: str

    @staticmethod
    def parse(text: str) -> SpiffeId:
        """Raises ValueError, saying which rule of SPIFFE-ID section 2 the text breaks."""
        if len(text.encode()) > _SPIFFE_ID_BYTES_MAX:
            raise ValueError(f"a SPIFFE ID is at most {_SPIFFE_ID_BYTES_MAX} bytes")
        scheme, separator, rest = text.partition("://")
        if not separator or scheme != "spiffe":
            raise ValueError(f"{text!r} is not a SPIFFE ID: it does not start with spiffe://")
        domain, slash, path = rest.partition("/")
        if slash:
            for segment in path.split("/"):
                if segment in ("", ".", "..") or not _PATH_SEGMENT.fullmatch(segment):
                    raise ValueError(f"{text!r} is not a SPIFFE ID: bad path segment {segment!r}")
        return SpiffeId(TrustDomain.parse(domain), slash + path)

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
