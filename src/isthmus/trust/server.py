"""The certificate service over gRPC: a thin shell around authentication, issuance and the authority.

Every issuance and every refusal is logged, with the identity and the reason; keys, tokens and requests never are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import grpc
import grpc.aio
import structlog

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.authentication import Authenticator, Caller, NotAuthenticated
from isthmus.trust.authority import CertificateAuthority
from isthmus.trust.issuance import Refusal, decide
from isthmus.trust.messages import METHOD, SERVICE, IstioCertificateRequest, IstioCertificateResponse

_PER_MINUTE_MAX = 120
_OPAQUE = "request authenticate failure"

log = structlog.get_logger()


class CertificateService:
    """`authority` is asked for at each call, because authorities are replaced while the service runs. `now` is the clock."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        authority: Callable[[], CertificateAuthority],
        authenticator: Authenticator,
        now: Callable[[], datetime],
    ) -> None:
        self._trust_domain = trust_domain
        self._authority = authority
        self._authenticator = authenticator
        self._now = now
        self._recent: dict[SpiffeId, list[datetime]] = {}
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
        caller = await self._authenticated(metadata, context)
        authority = self._authority()
        decision = decide(
            caller.identity, self._trust_domain, request.validity_duration, authority.not_after, self._now()
        )
        if isinstance(decision, Refusal):
            await self._refuse(context, decision.code, decision.message, str(caller.identity))
        elif self._too_often(caller.identity):
            await self._refuse(
                context, "RESOURCE_EXHAUSTED", "too many certificates in a minute: try again", str(caller.identity)
            )
        else:
            try:
                chain = authority.sign(request.csr, decision.identity, self._now(), decision.lifetime)
            except x509.BadCertificate as error:
                await self._refuse(context, "INVALID_ARGUMENT", str(error), str(caller.identity))
            else:
                self._log_issued(caller, chain[0])
                return IstioCertificateResponse(cert_chain=chain)
        return None

    async def _authenticated(self, metadata: Mapping[str, str], context: Any) -> Caller:
        certificates = context.auth_context().get("x509_pem_cert", ())
        certificate = bytes(certificates[0]).decode() if certificates else ""
        try:
            return await self._authenticator.caller(metadata, certificate)
        except NotAuthenticated as error:
            await self._refuse(context, "UNAUTHENTICATED", _OPAQUE, str(error))
            raise

    async def _refuse(self, context: Any, code: str, message: str, about: str) -> None:
        log.warning("certificate refused", code=code, about=about, told=message, peer=context.peer())
        await context.abort(grpc.StatusCode[code], message)

    def _too_often(self, identity: SpiffeId) -> bool:
        """More than a replica set of hundreds would ask for when it starts at once."""
        now = self._now()
        recent = [then for then in self._recent.get(identity, []) if (now - then).total_seconds() < 60]
        self._recent[identity] = [*recent, now]
        return len(recent) >= _PER_MINUTE_MAX

    def _log_issued(self, caller: Caller, leaf: str) -> None:
        self.issued += 1
        facts = x509.facts_of(leaf)
        log.info(
            "certificate issued",
            identity=str(caller.identity),
            serial=facts.serial,
            expires=facts.not_after.isoformat(),
            cluster=caller.cluster,
            how=caller.how,
        )
