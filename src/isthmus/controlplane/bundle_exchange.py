"""What a control plane does about other trust domains: publishes its own bundle, and follows those of others."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from isthmus.controlplane.authority import AuthorityInUse
from isthmus.controlplane.bundle_endpoint import WEB_PORT, PublishedBundle
from isthmus.controlplane.bundle_following import BundleFollower
from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.trust_records import TrustRecords
from isthmus.controlplane.world import World
from isthmus.ingest.mesh_config import CONFIG_MAP
from isthmus.kubernetes.client import ApiClient
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.issues import Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.trust.bundle_client import tls_context
from isthmus.trust.federation import BUNDLE_PORT

REFRESH_HINT_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRules:
    """`publishes` our own bundle. `web_certificates` is a directory with the certificate for https_web; empty: that profile is not served.
    `web_roots` is a file of certificates that https_web endpoints of others are trusted by, beside the system's.
    """

    publishes: bool = True
    refresh_hint_seconds: float = REFRESH_HINT_SECONDS
    web_certificates: str = ""
    web_roots: str = ""

    def web(self) -> ssl.SSLContext:
        """Raises OSError and ValueError for a file of roots that cannot be used."""
        return tls_context([Path(self.web_roots).read_text()] if self.web_roots else [])


async def exchange_bundles(
    rules: BundleRules,
    home: ApiClient,
    use: AuthorityInUse,
    world: World,
    delivery: Delivery,
    *,
    identity: SpiffeId,
    cluster: ClusterId,
    namespace: Namespace,
    bind: str,
) -> None:
    """Until cancelled. `identity` is that of this control plane. Raises OSError for a port or a file that cannot be used."""
    records = TrustRecords(home, namespace)
    follower = BundleFollower(
        world,
        delivery,
        records,
        home=identity.trust_domain,
        web=rules.web(),
        own_roots=lambda: use.current.root_pem,
        subject=Subject(cluster, "ConfigMap", namespace, CONFIG_MAP),
    )
    hint = int(rules.refresh_hint_seconds)

    def knows(domain: TrustDomain) -> bool:
        snapshot = delivery.snapshot
        return snapshot is not None and domain in snapshot.settings.peer_trust_domains

    published = PublishedBundle(use, records, identity=identity, refresh_hint_seconds=hint, knows=knows)
    async with AsyncExitStack() as ports:
        if rules.publishes:
            await ports.enter_async_context(published.with_spiffe(bind, BUNDLE_PORT))
        if rules.publishes and rules.web_certificates:
            await ports.enter_async_context(published.with_web(bind, WEB_PORT, Path(rules.web_certificates)))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follower.run(), name="bundles of other trust domains")
            if rules.publishes:
                tasks.create_task(published.follow(), name="own bundle")
