"""The profile https_spiffe, from real servers on loopback: whom a bundle's client believes, and by what word it refuses the others."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from forged_certificates import CLIENT, HOUR, forged

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.bundle_client import asker_in, fetch_bundle, spiffe_context
from isthmus.trust.federation import NotFetched, Refusal
from isthmus.trust.spiffe_bundle import DOCUMENT_BYTES_MAX

PARTNER = TrustDomain.parse("partner.example")
IDENTITY = SpiffeId.parse("spiffe://partner.example/bundles")
ROOT, OTHER = (x509.new_root(PARTNER, datetime.now(UTC), timedelta(days=1)) for _ in range(2))
DER = x509.to_der(x509.certificate_pem(ROOT.certificate))[0]
KEY = {"kty": "EC", "use": "x509-svid", "x5c": [base64.b64encode(DER).decode()]}
DOCUMENT = json.dumps({"keys": [KEY], "spiffe_sequence": 4, "spiffe_refresh_hint": 60})
GOOD = forged(ROOT, str(IDENTITY))
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def with_bundle(request: web.Request) -> web.StreamResponse:
    return web.Response(text=DOCUMENT, headers={"Asked-By": str(asker_in(request.headers["User-Agent"]))})


@asynccontextmanager
async def endpoint(folder: Path, shown: tuple[str, str] = GOOD, answer: Answer = with_bundle) -> AsyncIterator[str]:
    file = folder / "shown.pem"
    file.write_text("".join(shown))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    application = web.Application()
    application.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def trust(issuer: x509.Issuer = ROOT, identity: SpiffeId = IDENTITY) -> ssl.SSLContext:
    return spiffe_context([x509.certificate_pem(issuer.certificate)], identity)


async def refusal(url: str, context: ssl.SSLContext | None = None) -> tuple[Refusal, str]:
    with pytest.raises(NotFetched) as caught:
        await fetch_bundle(PARTNER, url, context or trust(), seconds=5, redirects_max=0)
    return caught.value.refusal, str(caught.value)


async def test_an_endpoint_proves_its_identity_whatever_its_address_is(tmp_path: Path) -> None:
    async with endpoint(tmp_path) as url:
        bundle = await fetch_bundle(PARTNER, url.replace("127.0.0.1", "localhost"), trust(), seconds=5)

    assert (bundle.x509_authorities, bundle.sequence, bundle.refresh_hint_seconds) == ((ROOT.certificate,), 4, 60)


SHOWN = {
    "another identity of the same trust domain": forged(ROOT, "spiffe://partner.example/other"),
    "no identity": forged(ROOT),
    "two identities, the expected one first": forged(ROOT, str(IDENTITY), "spiffe://partner.example/other"),
    "signed by somebody else": forged(OTHER, str(IDENTITY)),
    "expired": forged(ROOT, str(IDENTITY), begins=-2 * HOUR, ends=-HOUR),
    "not valid yet": forged(ROOT, str(IDENTITY), begins=HOUR, ends=2 * HOUR),
    "for clients alone": forged(ROOT, str(IDENTITY), usages=(CLIENT,)),
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
async def test_nobody_else_is_heard_and_nothing_is_asked_of_him(shown: tuple[str, str], tmp_path: Path) -> None:
    asked = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return await with_bundle(request)

    async with endpoint(tmp_path, shown, answer) as url:
        found, _ = await refusal(url)

    assert (found, asked) == (Refusal.NOT_AUTHENTICATED, [])


async def test_who_it_is_instead_is_said(tmp_path: Path) -> None:
    async with endpoint(tmp_path, SHOWN["another identity of the same trust domain"]) as url:
        _, said = await refusal(url)

    assert "the endpoint is spiffe://partner.example/other, not spiffe://partner.example/bundles" in said


def test_without_an_authority_nobody_can_be_believed() -> None:
    with pytest.raises(ValueError, match=r"no authority of partner\.example"):
        spiffe_context([], IDENTITY)


async def redirects(request: web.Request) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect("https://127.0.0.1:1/elsewhere")


async def is_down(request: web.Request) -> web.StreamResponse:
    return web.Response(status=503)


async def is_huge(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b" " * (DOCUMENT_BYTES_MAX + 1))


def saying(document: object) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=document if isinstance(document, str) else json.dumps(document))

    return answer


LEAF = base64.b64encode(x509.to_der(GOOD[0])[0]).decode()
ANSWERS = {
    "a redirect": (redirects, Refusal.REDIRECT, "redirects to https://127.0.0.1:1/elsewhere"),
    "an error": (is_down, Refusal.STATUS, "status 503"),
    "too much": (is_huge, Refusal.TOO_LARGE, "larger than"),
    "no JSON": (saying("hello"), Refusal.BAD_BUNDLE, "cannot decode the bundle"),
    "no keys": (saying({"spiffe_sequence": 1}), Refusal.BAD_BUNDLE, "no 'keys'"),
    "an entry of two certificates": (saying({"keys": [KEY | {"x5c": KEY["x5c"] * 2}]}), Refusal.BAD_BUNDLE, "got 2"),
    "an entry without a certificate": (saying({"keys": [KEY | {"x5c": []}]}), Refusal.BAD_BUNDLE, "got 0"),
    "a workload's certificate": (saying({"keys": [KEY | {"x5c": [LEAF]}]}), Refusal.BAD_BUNDLE, "not an authority's"),
    "a negative sequence": (saying({"keys": [], "spiffe_sequence": -1}), Refusal.BAD_BUNDLE, "spiffe_sequence"),
}


@pytest.mark.parametrize(("answer", "word", "said"), ANSWERS.values(), ids=ANSWERS)
async def test_each_refusal_has_a_word_and_a_sentence(answer: Answer, word: Refusal, said: str, tmp_path: Path) -> None:
    async with endpoint(tmp_path, answer=answer) as url:
        found, sentence = await refusal(url)

    assert found is word
    assert sentence.startswith(f"fetch the bundle of partner.example from {url}: ")
    assert said in sentence


@pytest.mark.parametrize("where", ["http://127.0.0.1:1/", "https://me:secret@127.0.0.1:1/"])
async def test_a_redirect_that_is_followed_leads_to_proper_endpoints_alone(where: str, tmp_path: Path) -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect(where)

    async with endpoint(tmp_path, answer=elsewhere) as url:
        with pytest.raises(NotFetched) as caught:
            await fetch_bundle(PARTNER, url, trust(), seconds=5)

    assert caught.value.refusal is Refusal.NOT_AN_ENDPOINT


async def test_an_endpoint_that_is_not_there_is_unreachable() -> None:
    assert (await refusal("https://127.0.0.1:1/"))[0] is Refusal.UNREACHABLE


async def test_entries_of_unknown_use_and_type_are_left_out(tmp_path: Path) -> None:
    odd = [{"kty": "OKP", "use": "x509-svid"}, {"kty": "EC", "use": "wit-svid"}, KEY]
    async with endpoint(tmp_path, answer=saying({"keys": odd})) as url:
        bundle = await fetch_bundle(PARTNER, url, trust(), seconds=5)

    assert (bundle.x509_authorities, len(bundle.ignored)) == ((ROOT.certificate,), 2)


@pytest.mark.parametrize(
    ("agent", "said"),
    [("isthmus (a.example)", "a.example"), ("curl/8", None), ("isthmus", None), ("isthmus (A B)", None)],
)
def test_who_asks_may_be_said_in_the_user_agent(agent: str, said: str | None) -> None:
    assert asker_in(agent) == (TrustDomain.parse(said) if said else None)
