"""The certificate service over gRPC: a thin shell around the registration authority.

Every issuance and every refusal is logged, with the identity and the reason; keys, tokens and requests never are.
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import structlog

from isthmus.trust import x509
from isthmus.trust.messages import METHOD, SERVICE, IstioCertificateRequest, IstioCertificateResponse
from isthmus.trust.registration import Issued, Refused, RegistrationAuthority

_IMPERSONATED = "ImpersonatedIdentity"

log = structlog.get_logger()


class CertificateService:
    """Istio's `CreateCertificate`."""

    def __init__(self, registration: RegistrationAuthority) -> None:
        self._registration = registration
        self.issued = 0

    def add_to(self, server: grpc.aio.Server) -> None:
        method = grpc.unary_unary_rpc_method_handler(
            self._create,
            request_deserializer=IstioCertificateRequest.FromString,
            response_serializer=IstioCertificateResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),))

    async def _create(self, request: Any, context: Any) -> Any:
        metadata = {str(key): value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        certificates = context.auth_context().get("x509_pem_cert", ())
        certificate = bytes(certificates[0]).decode() if certificates else ""
        said = request.metadata.fields
        wanted = said[_IMPERSONATED].string_value if _IMPERSONATED in said else ""
        try:
            issued = await self._registration.issue(
                metadata, certificate, request.csr, request.validity_duration, wanted
            )
        except Refused as refused:
            log.warning(
                "certificate refused", code=refused.code, about=refused.why, told=refused.told, peer=context.peer()
            )
            await context.abort(grpc.StatusCode[refused.code], refused.told)
            raise
        self._log(issued)
        return IstioCertificateResponse(cert_chain=issued.chain)

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
