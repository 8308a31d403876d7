"""What the control plane's own ports show, and whom they let in. It is replaced while they serve: connections that are open stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from isthmus.trust.authority import CertificateAuthority, ServingCertificate


@dataclass(frozen=True, slots=True)
class Credentials:
    """Our certificate, and the roots that clients are checked against."""

    serving: ServingCertificate
    roots_pem: str


class Shown:
    """The newest. `changed` are called with each."""

    def __init__(self, names: Sequence[str], authority: CertificateAuthority) -> None:
        self._names = tuple(names)
        self.changed: list[Callable[[Credentials], None]] = []
        self.current = self._signed(authority)

    def renew(self, authority: CertificateAuthority) -> None:
        """A new certificate of this authority's, for new connections."""
        self.current = self._signed(authority)
        for changed in self.changed:
            changed(self.current)

    def _signed(self, authority: CertificateAuthority) -> Credentials:
        return Credentials(authority.serving_certificate(self._names, datetime.now(UTC)), authority.root_pem)
