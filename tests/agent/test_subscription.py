"""What an agent itself is told, and what it makes do with while nobody tells it anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

from isthmus.agent.certificates import ControlPlanes, Credentials
from isthmus.agent.subscription import Subscription
from isthmus.envoy.bundles import Bundles
from isthmus.model.identity import TrustDomain

SECONDS = 60.0
PEERS = {TrustDomain.parse("partner.example"): [b"authority"]}


async def test_an_agent_that_starts_without_control_planes_trusts_whom_it_trusted_before(
    credentials: tuple[Path, Path],
) -> None:
    token, roots = credentials
    told: asyncio.Queue[Bundles] = asyncio.Queue()
    subscription = Subscription(
        ControlPlanes(["127.0.0.1:1"], "nobody"),
        node={"id": "n"},
        cluster="east",
        credentials=lambda: Credentials(token.read_text().strip()),
        root_cert_file=str(roots),
        wants_names=False,
        named=lambda _: None,
        trusted=told.put_nowait,
        asked=lambda _, __: None,
        last_names=lambda: None,
        last_peers=lambda: PEERS,
    )

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(subscription.run(), name="subscription")
        first = await told.get()
        running.cancel()

    assert first == PEERS
    assert subscription.last_error.startswith("UNAVAILABLE"), "it goes on asking"


async def test_who_is_refused_trusts_nobody_that_it_trusted_before(
    credentials: tuple[Path, Path], token_port: str
) -> None:
    """This control plane answers, and lets no proxy in."""
    _, roots = credentials
    told: list[Bundles] = []
    subscription = Subscription(
        ControlPlanes([token_port], "istiod.istio-system.svc"),
        node={"id": "n"},
        cluster="east",
        credentials=lambda: Credentials("another's token"),
        root_cert_file=str(roots),
        wants_names=False,
        named=lambda _: None,
        trusted=told.append,
        asked=lambda _, __: None,
        last_names=lambda: None,
        last_peers=lambda: PEERS,
    )

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(subscription.run(), name="subscription")
        while not subscription.last_error:  # noqa: ASYNC110 - nobody is called for it
            await asyncio.sleep(0.01)
        running.cancel()

    assert not subscription.last_error.startswith("UNAVAILABLE")
    assert told == []
