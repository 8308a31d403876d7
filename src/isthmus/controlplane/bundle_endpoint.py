"""Our own bundle, for other trust domains: an endpoint with each of the two profiles of SPIFFE Federation, section 5.2.

It asks nobody who he is, as the specification wants: a bundle holds what every caller of a workload is shown anyway. Its sequence is a moment,
in seconds, or one more than before if that is later: it grows with each other bundle, also when what was remembered of it is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import structlog
from aiohttp import web

from isthmus.controlplane.authority import AuthorityInUse
from isthmus.controlplane.remote_files import follow
from isthmus.controlplane.trust_records import TrustRecords
from isthmus.controlplane.webhooks import load_certificate, tls_context
from isthmus.kubernetes.sites import serving
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.authority import Authority, ServingCertificate
from isthmus.trust.bundle_client import asker_in
from isthmus.trust.federation import digest_of
from isthmus.trust.spiffe_bundle import render_json_bundle

WEB_PORT = 8443
PUBLISHED = "published"
ASKED = "asked."
"""Before a trust domain that asks for ours, in the records' ConfigMap: when it did last, as far as its word goes."""

CERTIFICATE, KEY = "tls.crt", "tls.key"
_PATHS = ("/", "/bundle.json")
_NOTED_AT_MOST_EVERY = timedelta(minutes=1)
_LIFETIME = timedelta(days=1)
_RENEW_SECONDS = _LIFETIME.total_seconds() / 3

log = structlog.get_logger()


class Published(msgspec.Struct, frozen=True, rename="camel"):
    sequence: int
    digest: str
    trust_domain: str = ""


class PublishedBundle:
    """The document, as of the authorities that there are. `identity` is the endpoint's; `knows` tells which other trust domains are believed."""

    def __init__(
        self,
        use: AuthorityInUse,
        records: TrustRecords,
        *,
        identity: SpiffeId,
        refresh_hint_seconds: int,
        knows: Callable[[TrustDomain], bool],
    ) -> None:
        self._use, self._records = use, records
        self._identity, self._hint = identity, refresh_hint_seconds
        self._published: Published | None = None
        self.document = b""
        self._knows = knows
        self._asked: dict[TrustDomain, datetime] = {}
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        """Until cancelled: each other set of roots is published under a higher sequence."""
        kept = (await self._records.load()).get(PUBLISHED, "")
        with contextlib.suppress(msgspec.DecodeError):
            self._published = msgspec.json.decode(kept, type=Published)
        self._use.changed.append(self._look)
        try:
            while True:
                self._changed.clear()
                await self._publish(self._use.current, datetime.now(UTC))
                await self._changed.wait()
        finally:
            self._use.changed.remove(self._look)

    def _look(self, _: Authority) -> None:
        self._changed.set()

    async def _publish(self, authority: Authority, now: datetime) -> None:
        roots = x509.parse_certificates(authority.root_pem)
        digest = digest_of(x509.to_der(authority.root_pem))
        before = self._published
        if before is None or before.digest != digest:
            moment = int(now.timestamp())
            self._published = Published(
                max(moment, before.sequence + 1) if before else moment, digest, str(self._identity.trust_domain)
            )
            await self._records.save(PUBLISHED, msgspec.json.encode(self._published).decode())
            log.info("bundle published", sequence=self._published.sequence, authorities=len(roots))
        sequence = self._published.sequence if self._published else 0
        self.document = render_json_bundle(roots, sequence=sequence, refresh_hint_seconds=self._hint).encode()

    def application(self) -> web.Application:
        application = web.Application()
        for path in _PATHS:
            application.router.add_get(path, self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.Response:
        await self._note(asker_in(request.headers.get("User-Agent", "")), datetime.now(UTC))
        if not self.document:
            raise web.HTTPServiceUnavailable(text="the bundle is not published yet\n")
        return web.Response(body=self.document, content_type="application/json", charset="utf-8")

    async def _note(self, asker: TrustDomain | None, now: datetime) -> None:
        """That somebody of a trust domain asks who is believed here. Nobody proves it, so it is shown and means no more."""
        if asker is None or not self._knows(asker):
            return
        before = self._asked.get(asker)
        if before is None or now - before >= _NOTED_AT_MOST_EVERY:
            self._asked[asker] = now
            await self._records.save(ASKED + str(asker), now.isoformat(timespec="seconds"))

    @contextlib.asynccontextmanager
    async def with_spiffe(self, host: str, port: int) -> AsyncIterator[int]:
        """Serves with an X.509-SVID of our own authority: the port, until the end of the block."""
        context = tls_context(self._svid(self._use.current))

        def show(authority: Authority) -> None:
            load_certificate(context, self._svid(authority))

        async def renew() -> None:
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                show(self._use.current)

        self._use.changed.append(show)
        try:
            async with serving(self.application(), host, port, tls=context) as bound, asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(renew(), name="certificate of the bundle endpoint")
                yield bound
                renewing.cancel()
        finally:
            self._use.changed.remove(show)

    @contextlib.asynccontextmanager
    async def with_web(self, host: str, port: int, directory: Path) -> AsyncIterator[int]:
        """Serves with the certificate in the directory (`tls.crt`, `tls.key`), and with another one as soon as it lies there.

        Raises OSError if there is none that can be used.
        """
        files = {name: (directory / name).read_text() for name in (CERTIFICATE, KEY)}
        context = tls_context(ServingCertificate(files[KEY], files[CERTIFICATE]))

        def show(found: dict[str, bytes]) -> None:
            try:
                pems = {name: found[name].decode() for name in (CERTIFICATE, KEY)}
                load_certificate(context, ServingCertificate(pems[KEY], pems[CERTIFICATE]))
            except (KeyError, ValueError, OSError) as error:
                log.warning(
                    "certificate of the bundle endpoint not renewed", directory=str(directory), error=str(error)
                )

        async with serving(self.application(), host, port, tls=context) as bound, asyncio.TaskGroup() as tasks:
            following = tasks.create_task(follow(directory, show), name="files of the bundle endpoint")
            yield bound
            following.cancel()

    def _svid(self, authority: Authority) -> ServingCertificate:
        return authority.own_certificate(self._identity, datetime.now(UTC), _LIFETIME)
