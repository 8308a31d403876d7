"""The certificate service: a thin shell around the registration authority.

Every issuance and every refusal is logged, with the identity and the reason; keys, tokens and requests never are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog
from google.protobuf.message import DecodeError

from isthmus.trust import x509
from isthmus.trust.messages import ROOT, IstioCertificateRequest, IstioCertificateResponse
from isthmus.trust.registration import Asked, Issued, Refused, RegistrationAuthority

Line = Mapping[str, object]
_IMPERSONATED, _SIGNER = "ImpersonatedIdentity", "CertSigner"

log = structlog.get_logger()


class CertificateService:
    """Istio's `CreateCertificate`. `written` is given each issuance and each refusal."""

    def __init__(self, registration: RegistrationAuthority, written: Callable[[Line], None] = lambda _: None) -> None:
        self._registration = registration
        self._written = written
        self.issued = 0

    async def create(self, request: bytes, metadata: Mapping[str, str], certificate: str, peer: str) -> bytes:
        """One call of the method, whatever brought it: `certificate` is the caller's verified one (PEM) or empty. Raises Refused."""
        try:
            issued = await self._issued(request, metadata, certificate)
        except Refused as refused:
            self._note("refused", {"code": refused.code, "about": refused.why, "told": refused.told, "peer": peer})
            raise
        self._log(issued, peer)
        return bytes(IstioCertificateResponse(cert_chain=issued.chain).SerializeToString())

    async def _issued(self, request: bytes, metadata: Mapping[str, str], certificate: str) -> Issued:
        try:
            asked = IstioCertificateRequest.FromString(request)
        except DecodeError:
            raise Refused(
                "INVALID_ARGUMENT", "the request is not an IstioCertificateRequest", "not decodable"
            ) from None
        said = asked.metadata.fields
        words = (said[name].string_value if name in said else "" for name in (_IMPERSONATED, ROOT, _SIGNER))
        return await self._registration.issue(metadata, certificate, Asked(asked.csr, asked.validity_duration, *words))

    def _log(self, issued: Issued, peer: str) -> None:
        self.issued += 1
        facts = x509.facts_of(issued.chain[0])
        line = {
            "identity": str(issued.identity),
            "serial": facts.serial,
            "begins": facts.not_before.isoformat(),
            "expires": facts.not_after.isoformat(),
            "cluster": issued.caller.cluster,
            "how": issued.caller.how,
            "asked_by": str(issued.caller.identity),
            "peer": peer,
        }
        self._note("issued", line)

    def _note(self, what: str, line: Line) -> None:
        say = log.info if what == "issued" else log.warning
        say(f"certificate {what}", **line)
        self._written({"what": what, **line})
