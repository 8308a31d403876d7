"""Whom a real Envoy believes, given the bundles that an agent serves: each authority for its own trust domain alone."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf import json_format

from isthmus.agent.certificates import Certificate
from isthmus.agent.envoy_binary import envoy_path
from isthmus.envoy.bundles import Bundles, bundles, decode
from isthmus.envoy.expand import decoded
from isthmus.envoy.resources import SECRET
from isthmus.envoy.secrets import bundle_secret, workload_secret
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509

OWN, PARTNER = TrustDomain.parse("cluster.local"), TrustDomain.parse("partner.example")
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
ROOTS = {domain: x509.new_root(domain, NOW, DAY) for domain in (OWN, PARTNER)}
SECONDS = 20.0


def identity(domain: TrustDomain) -> SpiffeId:
    return SpiffeId(domain, "/ns/sample/sa/client")


def certificate(issuer: x509.Issuer, claimed: SpiffeId) -> Certificate:
    """Whoever has an authority's key can write any name into a certificate."""
    key = x509.new_key()
    leaf = x509.sign_workload(issuer, key.public_key(), claimed, NOW, DAY)
    root = ROOTS[claimed.trust_domain].certificate
    return Certificate(x509.certificate_pem(leaf), x509.key_pem(key), x509.certificate_pem(root))


def peers() -> Bundles:
    """As they arrive: through the control plane's resource."""
    der = x509.to_der(x509.certificate_pem(ROOTS[PARTNER].certificate))
    [(_, resource)] = bundles([(PARTNER, tuple(der))])
    return decode(resource.body)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[Bundles], int]]:
    """Starts an Envoy of the local trust domain that demands certificates; its port."""
    running: list[subprocess.Popen[bytes]] = []

    def start(trusted: Bundles) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        own = certificate(ROOTS[OWN], identity(OWN))
        file = tmp_path / "envoy.json"
        file.write_text(json.dumps(configuration(port, own, own.trusted_with(trusted))))
        command = [envoy_path(), "-c", str(file), "--use-dynamic-base-id", "--concurrency", "1", "-l", "off"]
        running.append(subprocess.Popen(command))
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            assert running[-1].poll() is None, "Envoy refused the configuration"
        raise AssertionError("Envoy does not listen")

    yield start
    for process in running:
        process.kill()
        process.wait(SECONDS)


def configuration(port: int, own: Certificate, trusted: Bundles) -> dict[str, object]:
    secrets = [workload_secret(own.chain_pem, own.key_pem), bundle_secret(trusted)]
    written = [json_format.MessageToDict(decoded(SECRET, each.body)) for each in secrets]
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [{"name": secrets[0].name}],
            "validation_context_sds_secret_config": {"name": secrets[1].name},
        },
    }
    said = {"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"}
    chain = {
        "filters": [{"name": "envoy.filters.network.echo", "typed_config": said}],
        "transport_socket": {"name": "tls", "typed_config": tls},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"static_resources": {"secrets": written, "listeners": [{"address": address, "filter_chains": [chain]}]}}


def greeted(port: int, shown: Certificate, folder: Path) -> bool:
    """Whether the server echoes what the holder of the certificate says."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_text(shown.chain_pem)
    key.write_text(shown.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(chain, key)
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as raw, context.wrap_socket(raw) as connection:
            connection.sendall(b"hello")
            return connection.recv(100) == b"hello"
    except OSError:
        return False


def test_a_peer_counts_for_its_own_trust_domain_and_cannot_mint_a_local_identity(
    server: Callable[[Bundles], int], tmp_path: Path
) -> None:
    port = server(peers())

    assert greeted(port, certificate(ROOTS[OWN], identity(OWN)), tmp_path)
    assert greeted(port, certificate(ROOTS[PARTNER], identity(PARTNER)), tmp_path)
    assert not greeted(port, certificate(ROOTS[PARTNER], identity(OWN)), tmp_path), "forged: a local name"
    assert not greeted(port, certificate(ROOTS[OWN], identity(PARTNER)), tmp_path), "nor the other way round"


def test_without_a_bundle_nobody_of_the_other_trust_domain_is_believed(
    server: Callable[[Bundles], int], tmp_path: Path
) -> None:
    port = server({})

    assert greeted(port, certificate(ROOTS[OWN], identity(OWN)), tmp_path)
    assert not greeted(port, certificate(ROOTS[PARTNER], identity(PARTNER)), tmp_path)


def test_a_bundle_for_the_own_trust_domain_from_elsewhere_adds_nothing() -> None:
    own = certificate(ROOTS[OWN], identity(OWN))
    foreign = x509.to_der(x509.certificate_pem(ROOTS[PARTNER].certificate))

    assert own.trusted_with({OWN: foreign}) == {OWN: x509.to_der(own.roots_pem)}
