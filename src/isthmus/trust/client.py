"""Asks a certificate service for a certificate."""

from __future__ import annotations

import grpc.aio

from isthmus.trust.messages import METHOD, ROOT, SERVICE, IstioCertificateRequest, IstioCertificateResponse

_SECONDS_MAX = 10.0


async def request_certificate(
    channel: grpc.aio.Channel, csr_pem: str, *, seconds: int, token: str, cluster: str, root: str = ""
) -> list[str]:
    """The chain: leaf first, roots last. `root` is the fingerprint of the one that it shall lead to, if that matters.

    Raises grpc.aio.AioRpcError, and ValueError for an answer without a root.
    """
    call = channel.unary_unary(
        f"/{SERVICE}/{METHOD}",
        request_serializer=IstioCertificateRequest.SerializeToString,
        response_deserializer=IstioCertificateResponse.FromString,
    )
    metadata = (("authorization", f"Bearer {token}"), ("clusterid", cluster))
    request = IstioCertificateRequest(csr=csr_pem, validity_duration=seconds)
    if root:
        request.metadata[ROOT] = root
    response = await call(request, metadata=metadata, timeout=_SECONDS_MAX)
    chain = list(response.cert_chain)
    if len(chain) < 2:
        raise ValueError(
            f"the certificate service answered with {len(chain)} certificates; a leaf and a root are the least"
        )
    return chain
