"""Bundles of other trust domains: fetched from the endpoints that the mesh's configuration names, and kept.

One task for each endpoint, so that one that hangs holds up no other. What was fetched last counts until there is something newer or nobody
names the endpoint any more. It is kept in a ConfigMap, so a control plane that starts anew goes on with it, and whoever may read the
ConfigMap sees how each endpoint is doing.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import structlog

from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.trust_records import TrustRecords
from isthmus.controlplane.world import World
from isthmus.model.bundles import BundleEndpoint
from isthmus.model.identity import TrustDomain
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.snapshot import MeshSettings
from isthmus.trust.bundle_client import fetch_bundle, spiffe_context
from isthmus.trust.federation import (
    Followed,
    NotFetched,
    Refusal,
    answered,
    digest_of,
    failed,
    record_of,
    resumed,
    vouching,
    withdrawn,
)

_TRY_SECONDS = 10.0
_JITTER = 0.1
"""Part of a wait by which it is longer, so that control planes that started together do not ask together."""

RECORD = "bundle."
"""Before the trust domain's name, in the records' ConfigMap."""

log = structlog.get_logger()


class BundleFollower:
    """`web` are the authorities of https_web, `own_roots` (PEM) those of our own trust domain, `subject` what issues are about."""

    def __init__(
        self,
        world: World,
        delivery: Delivery,
        records: TrustRecords,
        *,
        home: TrustDomain,
        web: ssl.SSLContext,
        own_roots: Callable[[], str],
        subject: Subject,
    ) -> None:
        self._world, self._delivery, self._records = world, delivery, records
        self._home, self._web, self._own_roots, self._subject = home, web, own_roots, subject
        self._followed: dict[TrustDomain, Followed] = {}
        self._tasks: dict[TrustDomain, tuple[BundleEndpoint, str, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        kept = await self._records.load()
        async with asyncio.TaskGroup() as tasks:
            while True:
                settings = self._settings()
                if settings is not None:
                    await self._follow_all(settings, kept, tasks)
                await self._delivery.after_round()

    def _settings(self) -> MeshSettings | None:
        snapshot = self._delivery.snapshot
        return snapshot.settings if snapshot else None

    async def _follow_all(self, settings: MeshSettings, kept: dict[str, str], tasks: asyncio.TaskGroup) -> None:
        imported = {domain: digest_of(found) for domain, found in settings.imported_authorities}
        wanted = {each.trust_domain: (each, imported.get(each.trust_domain, "")) for each in settings.bundle_endpoints}
        for domain, (endpoint, digest, task) in list(self._tasks.items()):
            if wanted.get(domain) != (endpoint, digest):
                task.cancel()
                await asyncio.wait([task])
                del self._tasks[domain]
                kept[RECORD + str(domain)] = msgspec.json.encode(record_of(self._followed.pop(domain))).decode()
                if domain not in wanted:
                    await self._records.save(RECORD + str(domain), None)
        for domain, (endpoint, digest) in wanted.items():
            if domain not in self._tasks:
                now = datetime.now(UTC)
                self._followed[domain] = resumed(endpoint, digest, kept.pop(RECORD + str(domain), ""), now)
                task = tasks.create_task(self._follow(domain), name=f"bundle of {domain}")
                self._tasks[domain] = (endpoint, digest, task)
        for key in [key for key in kept if key.startswith(RECORD)]:
            del kept[key]
            await self._records.save(key, None)
        self._tell()

    async def _follow(self, domain: TrustDomain) -> None:
        while True:
            before = self._followed[domain]
            wait = (before.next_at - datetime.now(UTC)).total_seconds()
            await asyncio.sleep(max(wait, 0.0) * random.uniform(1.0, 1.0 + _JITTER))
            after = await self._asked(before)
            self._followed[domain] = after
            _log(before, after)
            self._tell()
            await self._records.save(RECORD + str(domain), msgspec.json.encode(record_of(after)).decode())

    async def _asked(self, before: Followed) -> Followed:
        endpoint = before.endpoint
        try:
            bundle = await fetch_bundle(
                endpoint.trust_domain,
                endpoint.url,
                self._trust(endpoint),
                seconds=_TRY_SECONDS,
                redirects_max=0,
                asker=self._home,
            )
        except NotFetched as error:
            return failed(before, error, datetime.now(UTC))
        return answered(before, bundle, datetime.now(UTC))

    def _trust(self, endpoint: BundleEndpoint) -> ssl.SSLContext:
        """Raises NotFetched where nobody can vouch for the endpoint."""
        if endpoint.identity is None:
            return self._web
        settings = self._settings()
        trusted = settings.peer_authorities if settings is not None else ()
        try:
            return spiffe_context(vouching(endpoint, trusted, [self._own_roots()], self._home), endpoint.identity)
        except ValueError as error:
            doing = f"fetch the bundle of {endpoint.trust_domain} from {endpoint.url}"
            raise NotFetched(f"{doing}: {error}; hand its first bundle over", Refusal.NOT_AUTHENTICATED) from None

    def _tell(self) -> None:
        self._world.set_bundles(
            {domain: each.authorities for domain, each in self._followed.items() if each.authorities is not None}
        )
        self._world.report("bundles", [_issue(self._subject, each) for each in self._followed.values() if each.problem])


def _issue(subject: Subject, followed: Followed) -> Issue:
    since = followed.fetched_at.isoformat(timespec="seconds") if followed.fetched_at else ""
    goes_on = f"that of {since} goes on counting" if since else "only what was handed over counts"
    return Issue(
        subject=subject,
        code="ISM0209",
        severity=Severity.WARNING,
        what=f"the bundle of {followed.endpoint.trust_domain} is not renewed ({followed.refusal}), {goes_on}: {followed.problem}",
        fix="mend what is named there, or hand the bundle over with `isthmus trust import`",
        field=f"data.trust-endpoint.{followed.endpoint.trust_domain}",
    )


def _log(before: Followed, after: Followed) -> None:
    domain = str(after.endpoint.trust_domain)
    if after.problem:
        if after.problem != before.problem:
            log.warning("bundle not fetched", trust_domain=domain, refusal=after.refusal, error=after.problem)
    elif after.authorities != before.authorities:
        log.info("another bundle", trust_domain=domain, sequence=after.sequence, withdrawn=withdrawn(before, after))
    elif before.problem:
        log.info("bundle fetched again", trust_domain=domain, sequence=after.sequence)
    for warning in set(after.warnings) - set(before.warnings):
        log.warning("about a bundle", trust_domain=domain, warning=warning)
