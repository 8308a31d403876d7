"""The certificate service over gRPC: a thin shell around the registration authority.

Every issuance and every refusal is logged, with the identity and the reason; keys, tokens and requests never are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from isthmus.trust import x509
from isthmus.trust.messages import METHOD, ROOT, SERVICE, IstioCertificateRequest, IstioCertificateResponse
from isthmus.trust.registration import Issued, Refused, RegistrationAuthority

_IMPERSONATED = "ImpersonatedIdentity"

log = structlog.get_logger()


class CertificateService:
    """Istio's `CreateCertificate`."""

    def __init__(self, registration: RegistrationAuthority) -> None:
        self._registration = registration
        self.issued = 0

    def add_to(self, server: grpc.aio.Server) -> None:
        method = grpc.unary_unary_rpc_method_handler(self._handle)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),))

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

    async def _handle(self, request: bytes, context: Any) -> bytes:
        metadata = {str(key): value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        certificates = context.auth_context().get("x509_pem_cert", ())
        certificate = bytes(certificates[0]).decode() if certificates else ""
        try:
            return await self.create(request, metadata, certificate, context.peer())
        except Refused as refused:
            await context.abort(grpc.StatusCode[refused.code], refused.told)
            raise

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
