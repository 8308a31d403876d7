"""Certificates from a signer of the Kubernetes API: what asking for them may take of the API server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from isthmus.controlplane.external_signer import ExternalSigner, SignerRules
from isthmus.kubernetes.errors import ApiUnavailable
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.registration import Refused

AT_ONCE = 24
SIGNER = "signers.example/mesh"
WEB = SpiffeId(TrustDomain("cluster.local"), "/ns/shop/sa/web")


class SlowApi:
    """Takes requests, and answers nobody before it is let go: then it is away."""

    def __init__(self) -> None:
        self.under_way = self.most = self.asked = 0
        self.let_go = asyncio.Event()

    async def create(self, *_: Any) -> Any:
        self.asked += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.let_go.wait()
        self.under_way -= 1
        raise ApiUnavailable("away")


async def test_however_many_want_certificates_an_api_server_has_24_requests_of_ours_at_once() -> None:
    api, root = SlowApi(), x509.new_root(WEB.trust_domain, datetime.now(UTC), timedelta(days=1))
    rules = SignerRules(workloads=SIGNER, own=SIGNER)
    signer = ExternalSigner(
        api,  # type: ignore[arg-type]
        rules,
        lambda: datetime.now(UTC),
        pod_name="east",
        longest=timedelta(days=1),
    )
    signer.roots = {SIGNER: x509.certificate_pem(root.certificate)}
    wanted = x509.new_request(x509.new_key(), [str(WEB)])
    refused: list[Refused] = []

    async def ask() -> None:
        try:
            await signer.signed(wanted, WEB, timedelta(hours=1), "")
        except Refused as error:
            refused.append(error)

    async with asyncio.TaskGroup() as tasks:
        for number in range(AT_ONCE + 10):
            tasks.create_task(ask(), name=f"workload {number}")
        while api.under_way < AT_ONCE:  # noqa: ASYNC110 - nobody is called for it
            await asyncio.sleep(0)
        api.let_go.set()

    assert api.most == AT_ONCE
    assert api.asked == AT_ONCE + 10, "those who waited had their turn"
    assert [each.code for each in refused] == ["UNAVAILABLE"] * (AT_ONCE + 10)
