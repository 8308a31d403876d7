"""The certificate service over gRPC and TLS on loopback: the real server, asked by the real client."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import grpc
import grpc.aio
import pytest

from isthmus.controlplane.issuance_log import IssuanceLog
from isthmus.controlplane.ports import methods_of
from isthmus.model.identity import SpiffeId
from isthmus.model.names import ClusterId, Namespace
from isthmus.trust import x509
from isthmus.trust.authentication import Authenticator, ServiceAccount
from isthmus.trust.authority import CertificateAuthority
from isthmus.trust.client import request_certificate
from isthmus.trust.messages import METHOD, SERVICE
from isthmus.trust.registration import RegistrationAuthority
from isthmus.trust.server import CertificateService
from isthmus.xds.server import add_unary

NAME = "istiod.istio-system.svc"
ALICE = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")
SECONDS = 60.0


async def review(token: str, cluster: ClusterId) -> ServiceAccount | None:
    return {"east": {"good": ServiceAccount(Namespace("default"), "alice")}}[cluster].get(token)


def said(token: str, cluster: str = "east") -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}"), ("clusterid", cluster)]


@pytest.fixture
def authority(domain):
    """TLS looks at the real clock."""
    return CertificateAuthority.self_signed(domain, datetime.now(UTC))


@pytest.fixture
async def service(domain, authority):
    authenticator = Authenticator(domain, ClusterId("east"), review, asyncio.get_running_loop().time)
    return CertificateService(
        RegistrationAuthority(domain, lambda: authority, authenticator, lambda: datetime.now(UTC))
    )


@asynccontextmanager
async def serving(
    service: CertificateService, authority: CertificateAuthority, *, client: tuple[str, str] | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """With a client's key and chain, the server asks for certificates."""
    shown = authority.serving_certificate([NAME], datetime.now(UTC))
    pairs = [(shown.key_pem.encode(), shown.chain_pem.encode())]
    roots = authority.root_pem.encode()
    server = grpc.aio.server()
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials(pairs, roots, require_client_auth=True)
        if client
        else grpc.ssl_server_credentials(pairs),
    )
    add_unary(server, methods_of(service))
    await server.start()
    key, chain = (client[0].encode(), client[1].encode()) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(roots, key, chain)
    try:
        async with (
            asyncio.timeout(SECONDS),
            grpc.aio.secure_channel(
                f"127.0.0.1:{port}", credentials, options=[("grpc.ssl_target_name_override", NAME)]
            ) as channel,
        ):
            yield channel
    finally:
        await server.stop(None)


async def test_a_token_is_exchanged_for_a_certificate_of_its_identity(service, authority):
    key = x509.new_key()

    async with serving(service, authority) as channel:
        chain = await request_certificate(channel, x509.new_request(key), seconds=3600, metadata=said("good"))

    leaf = x509.parse_certificates(chain[0])[0]
    assert x509.identity_of(chain[0]) == ALICE
    assert x509.matches(leaf, key)
    assert leaf.not_valid_after_utc - datetime.now(UTC) <= timedelta(hours=1)
    assert chain[-1] == authority.root_pem
    assert service.issued == 1


async def test_a_certificate_is_renewed_with_itself(service, authority):
    key = x509.new_key()
    chain = authority.sign(x509.new_request(key), ALICE, datetime.now(UTC), timedelta(hours=1))

    async with serving(service, authority, client=(x509.key_pem(key), chain[0])) as channel:
        renewed = await request_certificate(channel, x509.new_request(key), seconds=3600, metadata=())

    assert x509.identity_of(renewed[0]) == ALICE
    assert x509.facts_of(renewed[0]).serial != x509.facts_of(chain[0]).serial


@pytest.mark.parametrize(("token", "cluster"), [("bad", "east"), ("good", "south"), ("", "east")])
async def test_who_proves_nothing_gets_nothing_and_is_not_told_why(service, authority, token, cluster):
    request = x509.new_request(x509.new_key())

    async with serving(service, authority) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await request_certificate(channel, request, seconds=3600, metadata=said(token, cluster))

    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert refused.value.details() == "request authenticate failure"
    assert service.issued == 0


@pytest.mark.parametrize("kind", ["garbage", "stolen", "unknown version"])
async def test_a_request_that_proves_nothing_is_refused_with_the_reason(service, authority, forge, kind):
    request = {
        "garbage": "garbage",
        "stolen": forge.stolen_request(x509.new_key(), x509.new_key()),
        "unknown version": forge.of_unknown_version(x509.new_request(x509.new_key())),
    }[kind]

    async with serving(service, authority) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await request_certificate(channel, request, seconds=3600, metadata=said("good"))

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "the signing request" in refused.value.details()


async def test_too_long_a_time_is_refused(service, authority):
    request = x509.new_request(x509.new_key())

    async with serving(service, authority) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await request_certificate(channel, request, seconds=91 * 86400, metadata=said("good"))

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_an_identity_that_asks_too_often_has_to_wait(service, authority):
    request = x509.new_request(x509.new_key())
    codes = []

    async with serving(service, authority) as channel:
        for _ in range(121):
            try:
                await request_certificate(channel, request, seconds=3600, metadata=said("good"))
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())

    assert service.issued == 120
    assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED]


async def test_a_client_does_not_believe_a_server_that_another_authority_vouches_for(service, authority, domain):
    impostor = CertificateAuthority.self_signed(domain, datetime.now(UTC))
    request = x509.new_request(x509.new_key())
    shown = impostor.serving_certificate([NAME], datetime.now(UTC))
    server = grpc.aio.server()
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(shown.key_pem.encode(), shown.chain_pem.encode())])
    )
    add_unary(server, methods_of(service))
    await server.start()

    credentials = grpc.ssl_channel_credentials(authority.root_pem.encode())
    options = [("grpc.ssl_target_name_override", NAME)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await request_certificate(channel, request, seconds=3600, metadata=said("good"))
    await server.stop(None)

    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert service.issued == 0


async def test_a_certificate_of_the_prepared_authority_is_given_to_who_names_its_root(service, authority):
    following = CertificateAuthority.self_signed(ALICE.trust_domain, datetime.now(UTC))
    service._registration._prepared = lambda: following
    request = x509.new_request(x509.new_key())

    async with serving(service, authority) as channel:

        async def roots_of(named: str) -> str:
            chain = await request_certificate(channel, request, seconds=60, metadata=said("good"), root=named)
            return chain[-1]

        assert await roots_of("") == authority.root_pem
        assert await roots_of(x509.fingerprint(authority.root)) == authority.root_pem
        assert await roots_of(x509.fingerprint(following.root)) == following.root_pem
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await roots_of("0" * 64)

    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_every_issuance_and_every_refusal_is_written_down_without_anything_secret(service, authority, tmp_path):
    file = tmp_path / "issued.jsonl"
    service._written = IssuanceLog(str(file))
    key = x509.new_key()

    async with serving(service, authority) as channel:
        chain = await request_certificate(channel, x509.new_request(key), seconds=60, metadata=said("good"))
        for csr, token in ((x509.new_request(key), "stolen-token"), ("garbage", "good")):
            with pytest.raises(grpc.aio.AioRpcError):
                await request_certificate(channel, csr, seconds=60, metadata=said(token))
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(f"/{SERVICE}/{METHOD}")(b"\xff")
        file.rename(tmp_path / "issued.jsonl.1")
        await request_certificate(channel, x509.new_request(key), seconds=60, metadata=said("good"))

    text = (tmp_path / "issued.jsonl.1").read_text()
    issued, *refused = map(json.loads, text.splitlines())
    facts = x509.facts_of(chain[0])
    assert (issued["what"], issued["identity"], issued["asked_by"]) == ("issued", str(ALICE), str(ALICE))
    assert (issued["how"], issued["cluster"], issued["serial"]) == ("token", "east", facts.serial)
    assert (issued["begins"], issued["expires"]) == (facts.not_before.isoformat(), facts.not_after.isoformat())
    assert "127.0.0.1" in issued["peer"]
    assert [each["code"] for each in refused] == ["UNAUTHENTICATED", "INVALID_ARGUMENT", "INVALID_ARGUMENT"]
    assert all("127.0.0.1" in each["peer"] for each in refused)
    assert "stolen-token" not in text
    assert "PRIVATE" not in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text().splitlines()) == 1, "a file that is moved away is begun anew"


async def test_a_log_that_cannot_be_written_costs_no_certificate(service, authority, tmp_path):
    service._written = IssuanceLog(str(tmp_path / "missing" / "issued.jsonl"))

    async with serving(service, authority) as channel:
        request = x509.new_request(x509.new_key())
        assert await request_certificate(channel, request, seconds=60, metadata=said("good"))


async def test_the_answer_is_as_istios_agents_read_it(domain):
    """Asked with the bytes of the protocol themselves: csr is field 1, validity_duration 3; cert_chain is field 1, repeated, the roots last."""
    now = datetime.now(UTC)
    root = x509.new_root(domain, now, timedelta(days=1))
    above = x509.certificate_pem(root.certificate)
    authority = CertificateAuthority(x509.new_intermediate(root, "east", now, timedelta(days=1)), above + above)
    authenticator = Authenticator(domain, ClusterId("east"), review, asyncio.get_running_loop().time)
    service = CertificateService(RegistrationAuthority(domain, lambda: authority, authenticator, lambda: now))
    csr = x509.new_request(x509.new_key()).encode()
    assert len(csr) < 1 << 14
    request = b"\x0a" + bytes((len(csr) & 0x7F | 0x80, len(csr) >> 7)) + csr + b"\x18" + bytes((60,))

    answer = await service.create(request, {"authorization": "Bearer good", "clusterid": "east"}, "", "somebody")

    elements = []
    while answer:
        assert answer[:1] == b"\x0a"
        length, size = answer[1] & 0x7F, 1
        while answer[size] & 0x80:
            length |= (answer[size + 1] & 0x7F) << (7 * size)
            size += 1
        elements.append(answer[size + 1 : size + 1 + length].decode())
        answer = answer[size + 1 + length :]
    leaf, intermediate, roots = elements
    assert [text.count("BEGIN CERTIFICATE") for text in elements] == [1, 1, 2], "only the last may hold several"
    assert all(text.endswith("-----END CERTIFICATE-----\n") for text in elements)
    assert x509.identity_of(leaf) == ALICE
    assert x509.parse_certificates(intermediate)[0] == authority.issuer.certificate
    assert roots == authority.root_pem
