"""Does what the control plane asks about the authorities of the proxy's own trust domain, and acknowledges it when the proxy has done it.

The proxy has done it when its certificate and its roots are as asked, the file that the control plane is checked against has these roots,
its Envoy has acknowledged both, and has let in somebody whose certificate leads to each root that is to be proved. Until then the
control plane is told what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio
import structlog

from isthmus.agent.certificates import Certificate, CertificateHolder
from isthmus.model.trust import OwnTrust
from isthmus.trust import x509

Answer = Callable[[str], Awaitable[None]]
Prove = Callable[[Certificate], Awaitable[str]]
"""Shows a certificate to the proxy; why it is not let in, or nothing."""

_PAUSE_FIRST = 0.05
_PAUSE_MAX = 5.0
_TOLD_AFTER_SECONDS = 1.0
_PROOF_SECONDS = 300

log = structlog.get_logger()


class OwnTrustKeeper:
    """For one proxy; `run` until cancelled. `accepted` says what its Envoy has not acknowledged yet, or nothing; `refuse` takes revocation lists."""

    def __init__(
        self,
        certificate: CertificateHolder,
        root_cert_file: str,
        accepted: Callable[[], str],
        prove: Prove,
        refuse: Callable[[str], None],
    ) -> None:
        self._refuse = refuse
        self._certificate = certificate
        self._root_cert_file = Path(root_cert_file)
        self._accepted = accepted
        self._prove = prove
        self._asked: tuple[OwnTrust, Answer] | None = None
        self._proved: set[tuple[str, str]] = set()
        """The root, and the roots that the proxy had when a certificate of it was let in."""
        self._news = asyncio.Event()

    def ask(self, asked: OwnTrust, answer: Answer) -> None:
        """The newest that is asked; what was asked before does not count any longer."""
        self._asked = (asked, answer)
        self._news.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            working: asyncio.Task[None] | None = None
            while True:
                await self._news.wait()
                self._news.clear()
                if working is not None:
                    working.cancel()
                assert self._asked is not None, "set together with the event"
                working = tasks.create_task(self._do(*self._asked), name="own trust")

    async def _do(self, asked: OwnTrust, answer: Answer) -> None:
        began, told, pause = asyncio.get_running_loop().time(), "", _PAUSE_FIRST
        # Whoever has asked is away: it asks again when it is back.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            while missing := await self._missing(asked):
                if missing != told and asyncio.get_running_loop().time() - began > _TOLD_AFTER_SECONDS:
                    log.info("own trust not as asked yet", missing=missing)
                    await answer(missing)
                    told = missing
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, _PAUSE_MAX)
            await answer("")

    async def _missing(self, asked: OwnTrust) -> str:
        """What is left to be done, in words; the certificate is asked for anew where that helps."""
        held = self._certificate.current
        if held is None:
            return "it has no certificate yet"
        # Whom a list names is refused from now on, whatever else is still to be done.
        uncovered = _not_covered(held, asked.crl) if asked.crl else ""
        if not uncovered:
            self._refuse(asked.crl)
        if asked.roots and is_due(held, asked):
            self._certificate.renew()
            return f"its certificate is not renewed yet {self._certificate.last_error}".strip()
        if absent := sorted(set(asked.roots) - self._checked_against()):
            return f"{self._root_cert_file.name}, which control planes are checked against, lacks root {_short(absent)}"
        if uncovered:
            return uncovered
        if not_accepted := self._accepted():
            return not_accepted
        for root in asked.proved:
            if (root, held.roots_pem) not in self._proved:
                if why := await self._proof(root):
                    return f"no handshake under root {_short([root])}: {why}"
                self._proved.add((root, held.roots_pem))
        return ""

    def _checked_against(self) -> set[str]:
        try:
            return {x509.fingerprint(each) for each in x509.parse_certificates(self._root_cert_file.read_text())}
        except (OSError, ValueError):
            return set()

    async def _proof(self, root: str) -> str:
        try:
            shown = await self._certificate.request(seconds=_PROOF_SECONDS, root=root)
            return await self._prove(shown)
        except grpc.aio.AioRpcError as error:
            return f"no certificate to show: {error.details()}"
        except (OSError, ValueError) as error:
            return str(error)


def is_due(held: Certificate, asked: OwnTrust) -> bool:
    """Whether the certificate, with the roots that came with it, is another one than is asked for."""
    roots = x509.parse_certificates(held.roots_pem)
    if {x509.fingerprint(root) for root in roots} != set(asked.roots):
        return True
    return not x509.leads_to(held.chain_pem, roots) - set(asked.tainted)


def _not_covered(held: Certificate, crl_pem: str) -> str:
    """Why the proxy's own certificate would be refused for want of a revocation list; nothing if it would not."""
    roots = x509.parse_certificates(held.roots_pem)
    above = [each for each in x509.parse_certificates(held.chain_pem)[1:] if each not in roots]
    leads_to = x509.leads_to(held.chain_pem, roots)
    try:
        x509.check_revocations(
            crl_pem, [*above, *(root for root in roots if x509.fingerprint(root) in leads_to)], datetime.now(UTC)
        )
    except x509.BadCertificate as error:
        return str(error)
    return ""


def _short(fingerprints: list[str]) -> str:
    return ", ".join(each[: x509.SHORT] for each in fingerprints)
