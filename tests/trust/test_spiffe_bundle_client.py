"""Bundles over HTTPS, from real servers on loopback: good ones, slow ones, huge ones, and ones that nobody trusts."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import web

from isthmus.model.identity import TrustDomain
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority
from isthmus.trust.bundle_client import fetch_bundles, tls_context
from isthmus.trust.spiffe_bundle import DOCUMENT_BYTES_MAX

EAST = TrustDomain.parse("east.example")
WEST = TrustDomain.parse("west.example")
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="module")
def web_pki() -> CertificateAuthority:
    return CertificateAuthority.self_signed(TrustDomain.parse("web.example"), datetime.now(UTC))


@pytest.fixture(scope="module")
def document(root) -> str:
    """The bundle of a trust domain with one authority."""
    der = x509.to_der(x509.certificate_pem(root.certificate))[0]
    return json.dumps({"keys": [{"kty": "EC", "use": "x509-svid", "x5c": [base64.b64encode(der).decode()]}]})


@asynccontextmanager
async def endpoint(authority: CertificateAuthority, tmp_path, answer: Answer) -> AsyncIterator[str]:
    """An HTTPS server with a certificate for 127.0.0.1; its URL."""
    serving = authority.serving_certificate(["127.0.0.1"], datetime.now(UTC))
    file = tmp_path / "serving.pem"
    file.write_text(serving.key_pem + serving.chain_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    application = web.Application()
    application.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/bundle"
    finally:
        await runner.cleanup()


async def reason(url: str, web_pki: CertificateAuthority, *, seconds: float = 5.0) -> str:
    """Why nothing was fetched."""
    fetched = await fetch_bundles({EAST: url}, trusted_pem=[web_pki.root_pem], seconds=seconds)
    assert not fetched.bundles
    return str(fetched.failures[EAST])


async def test_a_bundle_is_fetched_and_belongs_to_the_domain_that_was_asked_for(web_pki, tmp_path, document, root):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=document)

    async with endpoint(web_pki, tmp_path, answer) as url:
        fetched = await fetch_bundles({EAST: url}, trusted_pem=[web_pki.root_pem], seconds=5)

    assert not fetched.failures
    assert (fetched.bundles[EAST].trust_domain, fetched.bundles[EAST].x509_authorities) == (EAST, (root.certificate,))


async def test_one_endpoints_failure_leaves_the_others_bundle(web_pki, tmp_path, document):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=document)

    async with endpoint(web_pki, tmp_path, answer) as url:
        endpoints = {EAST: url, WEST: "https://127.0.0.1:1/bundle"}
        fetched = await fetch_bundles(endpoints, trusted_pem=[web_pki.root_pem], seconds=5)

    assert set(fetched.bundles) == {EAST}
    assert str(fetched.failures[WEST]).startswith("fetch the bundle of west.example from https://127.0.0.1:1/bundle: ")


async def test_two_authorities_of_the_same_name_are_both_trusted(web_pki, tmp_path, document):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=document)

    other = CertificateAuthority.self_signed(TrustDomain.parse("web.example"), datetime.now(UTC))
    async with endpoint(web_pki, tmp_path, answer) as one, endpoint(other, tmp_path, answer) as two:
        trusted = [web_pki.root_pem, other.root_pem]
        fetched = await fetch_bundles({EAST: one, WEST: two}, trusted_pem=trusted, seconds=5)

    assert set(fetched.bundles) == {EAST, WEST}


async def test_a_server_that_nobody_trusts_is_not_heard(web_pki, tmp_path, document):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=document)

    stranger = CertificateAuthority.self_signed(TrustDomain.parse("stranger.example"), datetime.now(UTC))
    async with endpoint(stranger, tmp_path, answer) as url:
        assert "certificate verify failed" in await reason(url, web_pki)


async def test_a_certificate_for_another_name_is_not_heard(web_pki, tmp_path, document):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=document)

    async with endpoint(web_pki, tmp_path, answer) as url:
        assert "certificate" in await reason(url.replace("127.0.0.1", "localhost"), web_pki)


async def test_redirects_are_followed_to_https_only_and_not_for_ever(web_pki, tmp_path, document):
    async def answer(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/bundle":
                raise web.HTTPTemporaryRedirect("/today")
            case "/plain":
                raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/bundle")
            case "/round":
                raise web.HTTPTemporaryRedirect("/round")
        return web.Response(text=document)

    async with endpoint(web_pki, tmp_path, answer) as url:
        fetched = await fetch_bundles({EAST: url}, trusted_pem=[web_pki.root_pem], seconds=5)
        plain = await reason(url.replace("/bundle", "/plain"), web_pki)
        round_ = await reason(url.replace("/bundle", "/round"), web_pki)

    assert set(fetched.bundles) == {EAST}
    assert "scheme has to be https" in plain
    assert "redirects more than 3 times" in round_


async def test_what_is_answered_instead_of_a_bundle_is_said(web_pki, tmp_path):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503) if request.path == "/down" else web.Response(text="hello")

    async with endpoint(web_pki, tmp_path, answer) as url:
        assert "status 503" in await reason(url.replace("/bundle", "/down"), web_pki)
        assert "cannot decode the bundle" in await reason(url, web_pki)


async def test_a_slow_endpoint_is_given_up(web_pki, tmp_path):
    released = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    async with endpoint(web_pki, tmp_path, answer) as url:
        said = await reason(url, web_pki, seconds=0.2)
        released.set()

    assert "no answer within 0.2 seconds" in said


async def test_an_endless_answer_is_cut_off_at_the_first_byte_too_many(web_pki, tmp_path):
    released = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b" " * (DOCUMENT_BYTES_MAX + 1))
        await released.wait()
        return response

    async with endpoint(web_pki, tmp_path, answer) as url:
        said = await reason(url, web_pki)
        released.set()

    assert "larger than" in said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/bundle", "scheme has to be https"),
        ("bundle", "scheme has to be https"),
        ("https://user:word@127.0.0.1:1/bundle", "user name or a password"),
    ],
)
async def test_only_https_without_credentials_is_an_endpoint(web_pki, url, said):
    assert said in await reason(url, web_pki)


def test_an_authority_that_is_none_is_refused():
    with pytest.raises(ValueError, match="a trusted authority cannot be read"):
        tls_context(["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
