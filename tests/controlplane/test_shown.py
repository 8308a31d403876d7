"""The control plane's ports show a new certificate, and trust other roots, without being closed."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from revocation_lists import revoking

from isthmus.controlplane.ports import proxy_ports
from isthmus.controlplane.settings import AdsTransport
from isthmus.controlplane.shown import Credentials, Shown
from isthmus.controlplane.webhooks import Webhooks, serving_webhooks
from isthmus.injection.settings import InjectionSettings
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.proxy_config import ProxyConfigs
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority
from isthmus.xds.directory import DELTA, SERVICE, CallFacts, Streams
from isthmus.xds.native_tls import ClientCertificate

NAME = "istiod.istio-system.svc"
ALICE = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")


def authority() -> CertificateAuthority:
    return CertificateAuthority.self_signed(TrustDomain.parse("cluster.local"), datetime.now(UTC))


def now() -> datetime:
    return datetime.now(UTC)


class Nobody:
    """No client gets as far as a call here."""

    async def admit(self, claims: Any, call: Any) -> Any:
        raise AssertionError

    def gone(self, feed: Any) -> None:
        raise AssertionError

    def told(self, feed: Any, health: object) -> None:
        raise AssertionError("nobody here says how it is")

    def leaves(self, feed: Any) -> None:
        raise AssertionError("nobody here has a better one")


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
    shown = Shown([NAME], old, now)
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
    shown = Shown([NAME], old, now)
    settings = InjectionSettings(
        cluster="east", network="", mesh="m", trust_domain="cluster.local", system_namespace="istio-system",
        discovery_address="", image="", revision="default", native=True,
    )  # fmt: skip
    webhooks = Webhooks(settings, ProxyConfigs, lambda *_: "")
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


@pytest.mark.looptime(start=0)
async def test_a_certificate_is_renewed_by_who_signs_then_when_two_thirds_of_its_time_are_over(monkeypatch):
    monkeypatch.setattr("isthmus.trust.authority.SERVING_LIFETIME", timedelta(hours=30))
    first, second = authority(), authority()
    start, loop = datetime.now(UTC), asyncio.get_running_loop()
    began = loop.time()
    shown = Shown([NAME], first, lambda: start + timedelta(seconds=loop.time() - began))
    renewed: list[tuple[int, str]] = []
    twice = asyncio.Event()

    def note(credentials: Credentials) -> None:
        certificate = x509.parse_certificates(credentials.serving.chain_pem)[0]
        assert certificate.not_valid_after_utc > start + timedelta(seconds=loop.time() - began, hours=29)
        renewed.append((round((loop.time() - began) / 3600), credentials.roots_pem))
        if len(renewed) == 2:
            twice.set()

    shown.changed.append(note)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(shown.keep(lambda: second))
        await twice.wait()
        keeping.cancel()

    assert [hours for hours, _ in renewed] == [20, 40]
    assert {roots for _, roots in renewed} == {second.root_pem}


async def test_a_serving_certificate_that_nears_its_end_is_replaced_under_an_open_connection(tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.trust.authority.SERVING_LIFETIME", x509.CLOCK_SKEW / 2 + timedelta(seconds=1))
    signing, changed = authority(), asyncio.Event()
    shown = Shown([NAME], signing, now)
    shown.changed.append(lambda _: changed.set())
    addresses = {ClientCertificate.WELCOME: ("127.0.0.1", 0)}

    async def shown_serial(port: int) -> int:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client(signing, tmp_path), server_hostname=NAME
        )
        serial = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        return int(serial, 16)

    async with (
        proxy_ports(AdsTransport.NATIVE, addresses, shown, Nobody(), {}, Streams()) as ports,
        asyncio.TaskGroup() as tasks,
    ):
        port = ports[ClientCertificate.WELCOME]
        before = await shown_serial(port)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client(signing, tmp_path), server_hostname=NAME
        )
        keeping = tasks.create_task(shown.keep(lambda: signing))
        await changed.wait()

        assert await shown_serial(port) != before
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        assert await reader.read(9), "what was open is served"
        writer.close()
        keeping.cancel()


async def test_a_client_whose_certificate_is_on_a_revocation_list_is_not_let_in(tmp_path):
    signing, stolen = authority(), tmp_path / "client.pem"
    key = x509.new_key()
    chain = signing.sign(x509.new_request(key), ALICE, now(), x509.CLOCK_SKEW)
    stolen.write_text(x509.key_pem(key) + chain[0])
    shown = Shown([NAME], signing, now)
    addresses = {ClientCertificate.DEMANDED: ("127.0.0.1", 0)}
    async with proxy_ports(AdsTransport.NATIVE, addresses, shown, Nobody(), {}, Streams()) as ports:
        port = ports[ClientCertificate.DEMANDED]
        thief = client(signing, tmp_path)
        thief.load_cert_chain(stolen)
        assert await is_let_in(port, thief)

        shown.renew(replace(signing, crl_pem=revoking(signing.issuer, chain[0])))

        assert not await is_let_in(port, thief)
        assert await is_let_in(port, client(signing, tmp_path, issued_by=signing))


async def test_over_grpc_s_own_server_too_who_is_on_a_revocation_list_gets_nothing():
    root, other = x509.new_root(TrustDomain("cluster.local"), now(), timedelta(hours=1)), authority()
    signing = CertificateAuthority(
        x509.new_intermediate(root, "east", now(), timedelta(hours=1)), x509.certificate_pem(root.certificate)
    )
    shown = Shown([NAME], signing, now)
    addresses = {ClientCertificate.DEMANDED: ("127.0.0.1", 0)}

    async def answer(request: bytes, call: CallFacts) -> bytes:
        return str(x509.identity_of(call.peer_certificate)).encode()

    async with proxy_ports(AdsTransport.GRPC, addresses, shown, Nobody(), {"/s/m": answer}, Streams()) as ports:
        address = f"127.0.0.1:{ports[ClientCertificate.DEMANDED]}"

        async def said(shows: tuple[bytes, bytes], method: str = "/s/m") -> str:
            credentials = grpc.ssl_channel_credentials(signing.root_pem.encode(), *shows)
            options = [("grpc.ssl_target_name_override", NAME)]
            async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
                try:
                    if method == "/s/m":
                        return (await channel.unary_unary(method)(b"")).decode()
                    node = DeltaDiscoveryRequest(node={"id": "sidecar~10.0.0.1~a.b~b.svc"}).SerializeToString()
                    return str(await channel.stream_stream(method)(iter([node])).read())
                except grpc.aio.AioRpcError as error:
                    return error.code().name

        def issued() -> tuple[bytes, bytes]:
            key = x509.new_key()
            chain = signing.sign(x509.new_request(key), ALICE, now(), timedelta(minutes=10))
            return x509.key_pem(key).encode(), "".join(chain[:-1]).encode()

        thief, honest = issued(), issued()
        assert await said(thief) == str(ALICE)
        lists = revoking(signing.issuer, thief[1].decode()) + revoking(root)
        shown.renew(replace(signing, crl_pem=lists))
        assert (await said(thief), await said(honest)) == ("UNAUTHENTICATED", str(ALICE))
        assert await said(thief, f"/{SERVICE}/{DELTA}") == "UNAUTHENTICATED"
        shown.renew(replace(signing, crl_pem=revoking(signing.issuer) + revoking(other.issuer)))
        assert await said(honest) == "UNAUTHENTICATED", "there is no list about its authority"
