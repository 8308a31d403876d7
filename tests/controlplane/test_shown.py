"""The control plane's ports show a new certificate, and trust other roots, without being closed."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from typing import Any

import pytest

from isthmus.controlplane.ports import proxy_ports
from isthmus.controlplane.settings import AdsTransport
from isthmus.controlplane.shown import Shown
from isthmus.controlplane.webhooks import Webhooks, serving_webhooks
from isthmus.injection.settings import InjectionSettings
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.proxy_config import ProxyConfigs
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority
from isthmus.xds.directory import Streams
from isthmus.xds.native_tls import ClientCertificate

NAME = "istiod.istio-system.svc"
ALICE = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")


def authority() -> CertificateAuthority:
    return CertificateAuthority.self_signed(TrustDomain.parse("cluster.local"), datetime.now(UTC))


class Nobody:
    """No client gets as far as a call here."""

    async def admit(self, claims: Any, call: Any) -> Any:
        raise AssertionError

    def gone(self, feed: Any) -> None:
        raise AssertionError


def client(trusts: CertificateAuthority, tmp_path, issued_by: CertificateAuthority | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=trusts.root_pem)
    context.set_alpn_protocols(["h2"])
    if issued_by is not None:
        key = x509.new_key()
        chain = issued_by.sign(x509.new_request(key), ALICE, datetime.now(UTC), x509.CLOCK_SKEW)
        file = tmp_path / "client.pem"
        file.write_text(x509.key_pem(key) + chain[0])
        context.load_cert_chain(file)
    return context


async def is_let_in(port: int, context: ssl.SSLContext) -> bool:
    """In TLS 1.3 a client learns only by reading whether its certificate was good enough. A server of HTTP/2 speaks first, with its settings."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=NAME)
    except ssl.SSLError:
        return False
    try:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        return bool(await reader.read(9))
    except (ssl.SSLError, ConnectionError):
        return False
    finally:
        writer.close()


@pytest.mark.parametrize("transport", list(AdsTransport))
async def test_proxies_ports_change_certificate_and_trust_and_keep_open_connections(transport, tmp_path):
    old, new = authority(), authority()
    shown = Shown([NAME], old)
    addresses = {
        ClientCertificate.WELCOME: ("127.0.0.1", 0),
        ClientCertificate.DEMANDED: ("127.0.0.1", 0),
    }
    async with proxy_ports(transport, addresses, shown, Nobody(), {}, Streams()) as ports:
        tokens, mutual = ports[ClientCertificate.WELCOME], ports[ClientCertificate.DEMANDED]
        assert await is_let_in(tokens, client(old, tmp_path))
        assert await is_let_in(mutual, client(old, tmp_path, issued_by=old))
        assert not await is_let_in(mutual, client(old, tmp_path, issued_by=new))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", tokens, ssl=client(old, tmp_path), server_hostname=NAME
        )

        shown.renew(new)

        assert not await is_let_in(tokens, client(old, tmp_path)), "the new certificate is shown"
        assert await is_let_in(tokens, client(new, tmp_path))
        assert await is_let_in(mutual, client(new, tmp_path, issued_by=new))
        assert not await is_let_in(mutual, client(new, tmp_path, issued_by=old)), "the old root is not trusted"
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        assert await reader.read(9), "what was open is served"
        writer.close()


async def test_the_webhooks_port_changes_its_certificate(tmp_path):
    old, new = authority(), authority()
    shown = Shown([NAME], old)
    settings = InjectionSettings(
        cluster="east", network="", mesh="m", trust_domain="cluster.local", system_namespace="istio-system",
        discovery_address="", image="", revision="default", native=True,
    )  # fmt: skip
    webhooks = Webhooks(settings, ProxyConfigs)
    async with serving_webhooks(webhooks, shown, "127.0.0.1", 0) as port:

        async def shows(trusted: CertificateAuthority) -> bool:
            try:
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=client(trusted, tmp_path), server_hostname=NAME
                )
            except ssl.SSLError:
                return False
            writer.close()
            return True

        assert (await shows(old), await shows(new)) == (True, False)
        shown.renew(new)
        assert (await shows(old), await shows(new)) == (False, True)
