"""What a control plane writes into each cluster that it serves: its roots, the authority of its webhooks, and entries of machines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable

from isthmus.controlplane.authority import AuthorityInUse
from isthmus.controlplane.roots import RootPublisher
from isthmus.controlplane.settings import ControlPlaneSettings
from isthmus.controlplane.webhook_authority import WebhookAuthority
from isthmus.kubernetes.client import ApiClient
from isthmus.model.issues import Issue
from isthmus.model.names import ClusterId
from isthmus.trust.authority import Authority

Report = Callable[[str, Iterable[Issue]], None]
Duty = Callable[[ClusterId, ApiClient], Coroutine[None, None, None]]


def duties(settings: ControlPlaneSettings, use: AuthorityInUse, report: Report, machines: Duty) -> Duty:
    """For any cluster, with a client for it; until cancelled. `report` takes issues under a name. `machines` is done where we may write."""

    async def run(cluster: ClusterId, client: ApiClient) -> None:
        publisher = RootPublisher(
            client,
            use.current.root_pem,
            cluster=cluster,
            home=settings.home,
            is_own=cluster == settings.cluster,
            system_namespace=settings.system_namespace,
            report=lambda issues: report(f"{cluster}/roots", issues),
        )
        webhooks = WebhookAuthority(
            client,
            use.current.root_pem,
            revision=settings.revision,
            namespace=settings.system_namespace,
            trusted=publisher.trusted,
        )

        def follow(authority: Authority) -> None:
            publisher.publish(authority.root_pem)
            webhooks.trust(authority.root_pem)

        use.changed.append(follow)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(publisher.run(), name=f"roots in {cluster}")
                tasks.create_task(webhooks.run(), name=f"authority of webhooks in {cluster}")
                await publisher.trusted.wait()
                tasks.create_task(machines(cluster, client), name=f"machines of {cluster}")
        finally:
            use.changed.remove(follow)

    return run
