"""What the control plane's own ports show, and whom they let in. It is replaced while they serve: connections that are open stay as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from isthmus.trust.authority import Authority, ServingCertificate
from isthmus.trust.x509 import parse_certificates

_LOOK_SECONDS_MAX = 3600.0
"""The clock on the wall may be set, and a machine may sleep: the end of a year is not slept for."""
_LOOK_SECONDS_MIN = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Credentials:
    """Our certificate, the roots that clients are checked against, and revocation lists, if there are any."""

    serving: ServingCertificate
    roots_pem: str
    crl_pem: str = ""


class Shown:
    """The newest. `changed` are called with each."""

    def __init__(self, names: Sequence[str], authority: Authority, clock: Callable[[], datetime]) -> None:
        self._names = tuple(names)
        self._clock = clock
        self.changed: list[Callable[[Credentials], None]] = []
        self.current = self._signed(authority)

    def renew(self, authority: Authority) -> None:
        """A new certificate of this authority's, for new connections."""
        self.current = self._signed(authority)
        for changed in self.changed:
            changed(self.current)

    async def keep(self, authority: Callable[[], Authority]) -> None:
        """A new certificate when two thirds of the time of the one before are over. Until cancelled."""
        while True:
            left = (self._due() - self._clock()).total_seconds()
            await asyncio.sleep(min(max(left, _LOOK_SECONDS_MIN), _LOOK_SECONDS_MAX))
            if self._clock() >= self._due():
                self.renew(authority())
                log.info("serving certificate renewed", due_again=self._due().isoformat(timespec="seconds"))

    def _due(self) -> datetime:
        certificate = parse_certificates(self.current.serving.chain_pem)[0]
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return begins + (ends - begins) * 2 / 3

    def _signed(self, authority: Authority) -> Credentials:
        return Credentials(
            authority.serving_certificate(self._names, self._clock()), authority.root_pem, authority.crl_pem
        )
