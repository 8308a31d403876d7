"""Fetches bundles from other trust domains' endpoints over HTTPS: both profiles of SPIFFE-Federation, section 5.2.

Each endpoint is asked by itself and answers for its own trust domain alone; one that fails leaves the others' answers untouched. Which
bundle is kept when a fetch fails is `federation`'s question.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import aiohttp

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust.federation import NotFetched, Refusal
from isthmus.trust.spiffe_bundle import DOCUMENT_BYTES_MAX, BadBundle, SpiffeBundle, parse_json_bundle
from isthmus.trust.svid import proven
from isthmus.trust.x509 import BadCertificate

_REDIRECTS_MAX = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_AGENT = "isthmus"
_PIECE_BYTES = 64 * 1024


class _Refused(Exception):
    """An answer that is not even looked at."""

    def __init__(self, what: str, refusal: Refusal) -> None:
        super().__init__(what)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Fetched:
    """Per trust domain either its bundle or the reason why there is none."""

    bundles: Mapping[TrustDomain, SpiffeBundle]
    failures: Mapping[TrustDomain, NotFetched]


async def fetch_bundles(endpoints: Mapping[TrustDomain, str], *, trusted_pem: Sequence[str], seconds: float) -> Fetched:
    """Asks all endpoints at once. Raises ValueError for an authority in `trusted_pem` that is no certificate."""
    trusted = tls_context(trusted_pem)
    bundles: dict[TrustDomain, SpiffeBundle] = {}
    failures: dict[TrustDomain, NotFetched] = {}

    async def fetch(trust_domain: TrustDomain, url: str) -> None:
        try:
            bundles[trust_domain] = await fetch_bundle(trust_domain, url, trusted, seconds=seconds)
        except NotFetched as error:
            failures[trust_domain] = error

    async with asyncio.TaskGroup() as tasks:
        for trust_domain, url in endpoints.items():
            tasks.create_task(fetch(trust_domain, url), name=f"bundle of {trust_domain}")
    return Fetched(bundles, failures)


async def fetch_bundle(
    trust_domain: TrustDomain,
    url: str,
    trusted: ssl.SSLContext,
    *,
    seconds: float,
    redirects_max: int = _REDIRECTS_MAX,
    asker: TrustDomain | None = None,
) -> SpiffeBundle:
    """One trust domain's bundle, within `seconds` and the size of a bundle. `asker` is the trust domain that we say we are of. Raises NotFetched."""
    doing = f"fetch the bundle of {trust_domain} from {url}"
    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trusted),
                timeout=aiohttp.ClientTimeout(total=seconds),
                headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": _agent(asker)},
                auto_decompress=False,
            ) as session,
        ):
            document = await _document(session, url, redirects_max)
        return parse_json_bundle(trust_domain, document)
    except TimeoutError:
        raise NotFetched(f"{doing}: no answer within {seconds:g} seconds", Refusal.TIMEOUT) from None
    except (aiohttp.ClientError, OSError, _Refused, BadBundle) as error:
        raise NotFetched(f"{doing}: {error}", _refusal(error)) from None


def _agent(asker: TrustDomain | None) -> str:
    return f"{_AGENT} ({asker})" if asker is not None else _AGENT


def asker_in(agent: str) -> TrustDomain | None:
    """The trust domain that a User-Agent of ours names."""
    name, _, said = agent.partition(" ")
    try:
        return TrustDomain.parse(said.strip("()")) if name == _AGENT else None
    except ValueError:
        return None


def _refusal(error: Exception) -> Refusal:
    match error:
        case _Refused():
            return error.refusal
        case BadBundle():
            return Refusal.BAD_BUNDLE
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return Refusal.NOT_AUTHENTICATED
    return Refusal.UNREACHABLE


def tls_context(trusted_pem: Sequence[str]) -> ssl.SSLContext:
    """Trusts the system's authorities and these. Raises ValueError for one that is no certificate."""
    context = ssl.create_default_context()
    # Each given certificate is an anchor by itself, root or not. Without this, of two with the same subject OpenSSL 3.0 tries only one.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for pem in trusted_pem:
        try:
            context.load_verify_locations(cadata=pem)
        except ssl.SSLError as error:
            raise ValueError(f"a trusted authority cannot be read: {error}") from None
    return context


def spiffe_context(authorities_pem: Sequence[str], expected: SpiffeId) -> ssl.SSLContext:
    """Trusts the server with this identity, if these authorities (of its own trust domain) vouch for it, and nobody else (section 5.2.2.4).

    Raises ValueError if there is no authority.
    """
    if not authorities_pem:
        raise ValueError(f"there is no authority of {expected.trust_domain} that could vouch for {expected}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for pem in authorities_pem:
        context.load_verify_locations(cadata=pem)

    class OfExpected(ssl.SSLObject):
        """A handshake that is good but with somebody else has failed."""

        def do_handshake(self) -> None:
            super().do_handshake()
            try:
                identity = proven(self)
            except BadCertificate as error:
                raise ssl.SSLCertVerificationError(f"the endpoint has no identity: {error}") from None
            if identity != expected:
                raise ssl.SSLCertVerificationError(f"the endpoint is {identity}, not {expected}")

    context.sslobject_class = OfExpected
    return context


async def _document(session: aiohttp.ClientSession, url: str, redirects_max: int) -> bytes:
    """Follows redirects to where the bundle is served today; each has to be a proper endpoint, too (section 5.2.1.4)."""
    for _ in range(redirects_max + 1):
        _check_endpoint(url)
        async with session.get(url, allow_redirects=False) as response:
            if response.status not in _REDIRECTS:
                if response.status != 200:
                    raise _Refused(f"the endpoint answers with status {response.status}", Refusal.STATUS)
                return await _limited(response)
            url = urljoin(url, response.headers.get("Location", ""))
    if not redirects_max:
        raise _Refused(f"the endpoint redirects to {url}, and redirects are not followed here", Refusal.REDIRECT)
    raise _Refused(f"the endpoint redirects more than {redirects_max} times", Refusal.REDIRECT)


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    """Stops reading at the first byte too many, whatever the headers said."""
    document = bytearray()
    async for piece in response.content.iter_chunked(_PIECE_BYTES):
        document += piece
        if len(document) > DOCUMENT_BYTES_MAX:
            raise _Refused(f"the bundle is larger than {DOCUMENT_BYTES_MAX} bytes", Refusal.TOO_LARGE)
    return bytes(document)


def _check_endpoint(url: str) -> None:
    """Section 5.2.1.1."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise _Refused(f"{url!r} is not an endpoint: its scheme has to be https", Refusal.NOT_AN_ENDPOINT)
    if parts.username is not None or parts.password is not None:
        raise _Refused("the endpoint's URL contains a user name or a password", Refusal.NOT_AN_ENDPOINT)
