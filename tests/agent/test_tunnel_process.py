"""One end of a tunnel with the certificate that it keeps, against a control plane that signs on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography import x509 as certificates
from free_ports import free_port

from isthmus.agent import tunnel_process
from isthmus.agent.tunnel import Account, Ends
from isthmus.agent.tunnel_process import TunnelSettings, Work, keep
from isthmus.kubernetes.doors import Handshakes
from isthmus.model.identity import TrustDomain
from isthmus.model.names import Namespace
from isthmus.trust.authority import CertificateAuthority

SECONDS = 60.0


@asynccontextmanager
async def kept(token_port: str, credentials: tuple[Path, Path], work: Work) -> AsyncIterator[None]:
    token, roots = credentials
    settings = TunnelSettings(
        cluster="east",
        trust_domain=TrustDomain("cluster.local"),
        control_planes=[token_port],
        control_plane_name="istiod.istio-system.svc",
        token_file=str(token),
        roots_file=str(roots),
        peer=Account(Namespace("default"), "alice"),
    )
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keep(settings, work), name="tunnel")
        yield
        running.cancel()


async def shown_at(port: int) -> int:
    """The serial number of the certificate that a listener shows; it does not matter that nobody is shown to it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        encoded = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return certificates.load_der_x509_certificate(encoded).serial_number


async def test_the_outside_shows_a_new_certificate_as_soon_as_other_roots_are_trusted(
    token_port, credentials, authority
):
    port = free_port()
    async with kept(token_port, credentials, partial(tunnel_process._outside, port, [])):
        first = await shown_at(port)
        assert await shown_at(port) == first
        new = CertificateAuthority.self_signed(TrustDomain("cluster.local"), datetime.now(UTC))
        credentials[1].write_text(authority.root_pem + new.root_pem)

        while await shown_at(port) == first:  # noqa: ASYNC110 - nobody is called for it
            await asyncio.sleep(0.05)


async def test_a_certificate_that_the_other_end_refuses_is_replaced_but_not_for_each_connection(
    token_port, credentials
):
    given: asyncio.Queue[Ends] = asyncio.Queue()

    async def work(ends: Ends, renewed: asyncio.Event) -> None:
        while True:
            renewed.clear()
            given.put_nowait(ends)
            await renewed.wait()

    async with kept(token_port, credentials, work):
        ends = await given.get()
        first = ends.certificate()
        ends.refused()
        await given.get()
        second = ends.certificate()
        for _ in range(50):
            ends.refused()
            await asyncio.sleep(0.01)

        assert first != second
        assert given.empty(), "ten seconds have to pass first"


async def test_a_crowd_that_never_begins_tls_does_not_keep_the_inside_out(token_port, credentials):
    port = free_port()
    async with kept(token_port, credentials, partial(tunnel_process._outside, port, [])):
        first = await shown_at(port)
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(Handshakes().at_once + 1)]

        async with asyncio.timeout(Handshakes().seconds / 2):
            assert await crowd[0][0].read() == b"", "who came first makes room"
        assert await shown_at(port) == first
        for _, writer in crowd:
            writer.close()
