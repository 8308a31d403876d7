"""Asks a certificate service for a certificate."""

from __future__ import annotations

from collections.abc import Sequence

import grpc.aio

from isthmus.trust.messages import METHOD, ROOT, SERVICE, IstioCertificateRequest, IstioCertificateResponse

_SECONDS_MAX = 10.0


async def request_certificate(
    channel: grpc.aio.Channel, csr_pem: str, *, seconds: int, metadata: Sequence[tuple[str, str]], root: str = ""
) -> list[str]:
    """The chain: leaf first, roots last. `metadata` says for whom; `root` is the fingerprint of the one that it shall lead to, if that matters.

    Raises grpc.aio.AioRpcError, and ValueError for an answer without a root.
    """
    call = channel.unary_unary(
        f"/{SERVICE}/{METHOD}",
        request_serializer=IstioCertificateRequest.SerializeToString,
        response_deserializer=IstioCertificateResponse.FromString,
    )
    request = IstioCertificateRequest(csr=csr_pem, validity_duration=seconds)
    if root:
        request.metadata[ROOT] = root
    response = await call(request, metadata=tuple(metadata), timeout=_SECONDS_MAX)
    chain = list(response.cert_chain)
    if len(chain) < 2:
        raise ValueError(
            f"the certificate service answered with {len(chain)} certificates; a leaf and a root are the least"
        )
    return chain
