"""SDS over a real unix socket, asked as Envoy asks: one stream for each secret, or one for all."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_spiffe_validator_config_pb2
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.agent.secrets_server import SecretsServer
from isthmus.envoy.resources import SECRET
from isthmus.envoy.tls import CONTROL_PLANE_ROOTS, TRUST_BUNDLE, WORKLOAD_CERTIFICATE
from isthmus.model.identity import TrustDomain
from isthmus.trust import x509

SECONDS = 60.0
_SERVICE = "/envoy.service.secret.v3.SecretDiscoveryService/"


class Stream:
    """A delta stream that acknowledges what it gets. Remembers the newest of each secret."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.has: dict[str, secret_pb2.Secret] = {}

    async def subscribe(self, *names: str) -> None:
        await self._call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=SECRET, resource_names_subscribe=names))

    async def unsubscribe(self, *names: str) -> None:
        await self._call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=SECRET, resource_names_unsubscribe=names))

    async def receive(self) -> set[str]:
        """The names in the next response that has any secret."""
        response = await self._call.read()
        assert response is not grpc.aio.EOF, "the stream is still open"
        await self._call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=SECRET, response_nonce=response.nonce))
        for resource in response.resources:
            if resource.HasField("resource"):
                secret = secret_pb2.Secret()
                assert resource.resource.Unpack(secret)
                self.has[resource.name] = secret
        return {resource.name for resource in response.resources if resource.HasField("resource")}

    async def refuse(self, why: str) -> None:
        """The next response."""
        response = await self._call.read()
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=SECRET, response_nonce=response.nonce)
        request.error_detail.message = why
        await self._call.write(request)

    def key(self) -> str:
        return self.has[WORKLOAD_CERTIFICATE].tls_certificate.private_key.inline_string

    def close(self) -> None:
        self._call.cancel()


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[grpc.aio.Channel]:
    async with asyncio.timeout(SECONDS), grpc.aio.insecure_channel(f"unix:{path}") as channel:
        yield channel


def opened(channel: grpc.aio.Channel) -> Stream:
    return Stream(
        channel.stream_stream(
            _SERVICE + "DeltaSecrets",
            request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
        )()
    )


@pytest.fixture
async def server(folder) -> AsyncIterator[SecretsServer]:
    running = SecretsServer(folder / "sds.sock")
    await running.start()
    yield running
    await running.stop()


async def test_only_the_owner_may_open_the_socket_and_it_goes_when_the_server_goes(folder):
    path = folder / "sds.sock"
    path.write_text("left from before")
    server = SecretsServer(path)

    await server.start()
    mode = path.stat().st_mode
    await server.stop()

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert not path.exists()


@pytest.mark.parametrize("path", ["missing/sds.sock", "x" * 120])
async def test_a_socket_that_cannot_be_made_is_an_error_of_the_system(folder, path):
    server = SecretsServer(folder / path)

    with pytest.raises(OSError, match="cannot listen on"):
        await server.start()
    await server.stop()


async def test_an_envoy_that_asks_early_gets_its_secrets_as_soon_as_there_are_some(server, folder, issue):
    certificate = issue()

    async with connected(folder / "sds.sock") as channel:
        stream = opened(channel)
        await stream.subscribe(WORKLOAD_CERTIFICATE, TRUST_BUNDLE)
        await channel.channel_ready()
        server.put(certificate)
        while set(stream.has) != {WORKLOAD_CERTIFICATE, TRUST_BUNDLE}:
            await stream.receive()

    shown = stream.has[WORKLOAD_CERTIFICATE].tls_certificate
    assert shown.certificate_chain.inline_string == certificate.chain_pem
    assert shown.private_key.inline_string == certificate.key_pem


async def test_a_connected_stream_gets_the_new_secret_and_not_the_bundle_that_is_the_same(server, folder, issue):
    first, second = issue(), issue()
    server.put(first)

    async with connected(folder / "sds.sock") as channel:
        stream, bundles = opened(channel), opened(channel)
        await stream.subscribe(WORKLOAD_CERTIFICATE)
        await bundles.subscribe(TRUST_BUNDLE)
        await stream.receive()
        await bundles.receive()
        before = stream.key()
        server.put(second)
        names = await stream.receive()
        # Asking anew is answered, which shows that nothing came before it.
        await bundles.subscribe(WORKLOAD_CERTIFICATE)
        next_of_bundles = await bundles.receive()

    assert names == {WORKLOAD_CERTIFICATE}
    assert (before, stream.key()) == (first.key_pem, second.key_pem)
    assert next_of_bundles == {WORKLOAD_CERTIFICATE}
    assert bundles.key() == second.key_pem


async def test_an_envoy_that_has_the_older_protocol_is_served_too(server, folder, issue):
    certificate = issue()
    server.put(certificate)

    async with connected(folder / "sds.sock") as channel:
        call = channel.stream_stream(
            _SERVICE + "StreamSecrets",
            request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
        )()
        await call.write(discovery_pb2.DiscoveryRequest(type_url=SECRET, resource_names=[WORKLOAD_CERTIFICATE]))
        response = await call.read()
        call.cancel()

    (resource,) = response.resources
    secret = secret_pb2.Secret()
    assert resource.Unpack(secret)
    assert secret.tls_certificate.private_key.inline_string == certificate.key_pem


async def test_a_stream_that_breaks_disturbs_no_other(server, folder, issue):
    server.put(issue())

    async with connected(folder / "sds.sock") as channel:
        staying = opened(channel)
        await staying.subscribe(WORKLOAD_CERTIFICATE)
        await staying.receive()
        for _ in range(5):
            leaving = opened(channel)
            await leaving.subscribe(WORKLOAD_CERTIFICATE)
            leaving.close()
        last = issue()
        server.put(last)
        await staying.receive()

    assert staying.key() == last.key_pem


async def test_what_is_asked_for_while_certificates_change_is_answered_with_the_newest(server, folder, issue):
    """Requests and news are answered by two tasks: they share one stream."""
    certificates = [issue() for _ in range(20)]

    async with connected(folder / "sds.sock") as channel:
        stream = opened(channel)
        for certificate in certificates:
            server.put(certificate)
            for _ in range(10):
                await stream.subscribe(WORKLOAD_CERTIFICATE, TRUST_BUNDLE)
        while WORKLOAD_CERTIFICATE not in stream.has or stream.key() != certificates[-1].key_pem:
            await stream.receive()


async def test_a_connected_envoy_learns_of_a_peer_and_that_it_is_trusted_no_longer(server, folder, issue):
    partner = TrustDomain.parse("partner.example")
    certificate = issue()
    server.put(certificate)

    async with connected(folder / "sds.sock") as channel:
        stream = opened(channel)
        await stream.subscribe(TRUST_BUNDLE)
        await stream.receive()
        server.trust({partner: x509.to_der(certificate.roots_pem)})
        await stream.receive()
        with_peer = str(stream.has[TRUST_BUNDLE])
        server.trust({})
        await stream.receive()

    assert str(partner) in with_peer
    assert str(partner) not in str(stream.has[TRUST_BUNDLE])


async def test_an_envoy_asks_for_the_bundle_of_one_trust_domain_and_gets_no_other_s(server, folder, issue):
    partner, unknown = TrustDomain.parse("partner.example"), TrustDomain.parse("unknown.example")
    certificate = issue()
    theirs = x509.certificate_pem(x509.new_root(partner, datetime.now(UTC), timedelta(days=1)).certificate)
    server.put(certificate)

    async with connected(folder / "sds.sock") as channel:
        stream = opened(channel)
        names = [f"spiffe://{domain}" for domain in (certificate.identity.trust_domain, partner, unknown)]
        await stream.subscribe(*names)
        while set(stream.has) != set(names):
            await stream.receive()
        alone = {name: trusted_in(stream.has[name]) for name in names}
        server.trust({partner: x509.to_der(theirs)})
        await stream.receive()

    nobody = ["nobody.invalid"]
    assert alone == {names[0]: certificate.roots_pem, names[1]: nobody, names[2]: nobody}, "a bundle cannot be empty"
    assert {name: trusted_in(stream.has[name]) for name in names} == alone | {names[1]: theirs}


def trusted_in(secret: secret_pb2.Secret) -> list[str] | str:
    """The authorities of whom Envoy's own validator judges by, or the trust domains that its SPIFFE validator knows."""
    if secret.validation_context.HasField("trusted_ca"):
        return secret.validation_context.trusted_ca.inline_bytes.decode()
    validator = tls_spiffe_validator_config_pb2.SPIFFECertValidatorConfig()
    assert secret.validation_context.custom_validator_config.typed_config.Unpack(validator)
    return list(json.loads(validator.trust_bundles.inline_string)["trust_domains"])


async def test_bundles_that_nobody_wants_any_longer_are_not_made_any_longer(server, folder, issue):
    """An Envoy's upstreams come and go for as long as it runs."""
    first, second = "spiffe://a.example", "spiffe://b.example"
    server.put(issue())

    async with connected(folder / "sds.sock") as channel:
        stream, other = opened(channel), opened(channel)
        await stream.subscribe(first)
        await stream.receive()
        await other.subscribe(second)
        await other.receive()
        assert set(server._made) == {first, second}
        await stream.unsubscribe(first)
        await until(lambda: set(server._made) == {second})
        other.close()
        await until(lambda: len(server._streams) == 1)
        await stream.subscribe(first)
        await until(lambda: set(server._made) == {first})


async def test_what_envoy_has_acknowledged_is_known(server, folder, issue):
    server.put(issue())
    assert server.not_accepted() == "Envoy has not asked for its secrets"

    async with connected(folder / "sds.sock") as channel:
        first, second = opened(channel), opened(channel)
        await first.subscribe(WORKLOAD_CERTIFICATE)
        await second.subscribe(TRUST_BUNDLE, CONTROL_PLANE_ROOTS)
        await first.receive()
        assert server.not_accepted() != ""
        await second.receive()
        await until(lambda: server.not_accepted() == "")

        new = issue()
        server.check_control_planes(new.roots_pem)
        assert server.not_accepted() == "Envoy has not acknowledged its secrets"
        await second.receive()
        await until(lambda: server.not_accepted() == "")
        assert second.has[CONTROL_PLANE_ROOTS].validation_context.trusted_ca.inline_bytes == new.roots_pem.encode()

        server.put(new)
        await first.refuse("no such curve")
        await until(lambda: server.not_accepted() == "Envoy refused: no such curve")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110 - acknowledgements come over the socket, and nobody is called for them
            await asyncio.sleep(0.005)
