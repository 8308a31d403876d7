"""The certificate service: a thin shell around the registration authority.

Every issuance and every refusal is logged, with the identity and the reason; keys, tokens and requests never are.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from google.protobuf.message import DecodeError

from isthmus.trust import x509
from isthmus.trust.messages import ROOT, IstioCertificateRequest, IstioCertificateResponse
from isthmus.trust.registration import Issued, Refused, RegistrationAuthority

_IMPERSONATED = "ImpersonatedIdentity"

log = structlog.get_logger()


class CertificateService:
    """Istio's `CreateCertificate`."""

    def __init__(self, registration: RegistrationAuthority) -> None:
        self._registration = registration
        self.issued = 0

    async def create(self, request: bytes, metadata: Mapping[str, str], certificate: str, peer: str) -> bytes:
        """One call of the method, whatever brought it: `certificate` is the caller's verified one (PEM) or empty. Raises Refused."""
        try:
            asked = IstioCertificateRequest.FromString(request)
        except DecodeError:
            raise Refused(
                "INVALID_ARGUMENT", "the request is not an IstioCertificateRequest", "not decodable"
            ) from None
        said = asked.metadata.fields
        wanted, root = (said[name].string_value if name in said else "" for name in (_IMPERSONATED, ROOT))
        try:
            issued = await self._registration.issue(
                metadata, certificate, asked.csr, asked.validity_duration, wanted, root
            )
        except Refused as refused:
            log.warning("certificate refused", code=refused.code, about=refused.why, told=refused.told, peer=peer)
            raise
        self._log(issued)
        return bytes(IstioCertificateResponse(cert_chain=issued.chain).SerializeToString())

    def _log(self, issued: Issued) -> None:
        self.issued += 1
        facts = x509.facts_of(issued.chain[0])
        log.info(
            "certificate issued",
            identity=str(issued.identity),
            serial=facts.serial,
            expires=facts.not_after.isoformat(),
            cluster=issued.caller.cluster,
            how=issued.caller.how,
            asked_by=str(issued.caller.identity),
        )
