"""Which private keys leave the control plane, for whom, and how soon a renewed one does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from isthmus.api.core import Secret
from isthmus.api.meta import ObjectMeta
from isthmus.controlplane.gateway_credentials import GatewayCredentials
from isthmus.envoy import requested_secrets
from isthmus.envoy.resources import SECRET, ResourceSet
from isthmus.model.gateways import ServerTls, TlsMode
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId
from isthmus.model.traffic import TlsOrigination, TrafficPolicy
from isthmus.trust import x509

MADE = x509.new_root(TrustDomain.parse("cluster.local"), datetime.now(UTC), timedelta(days=1))
OTHER = x509.new_root(TrustDomain.parse("cluster.local"), datetime.now(UTC), timedelta(days=1))
CERTIFICATE, KEY = x509.certificate_pem(MADE.certificate).encode(), x509.key_pem(MADE.key).encode()
OTHER_CERTIFICATE, OTHER_KEY = x509.certificate_pem(OTHER.certificate).encode(), x509.key_pem(OTHER.key).encode()
PAIR = {"tls.crt": CERTIFICATE, "tls.key": KEY}


def secret(namespace: str, name: str, **data: bytes) -> Secret:
    return Secret(
        metadata=ObjectMeta(name=name, namespace=namespace), data={k.replace("_", "."): v for k, v in data.items()}
    )


def given(secrets: list[Secret], namespace: str, *asked: ServerTls) -> dict[str, Any]:
    """What a proxy of the namespace gets that serves so, by name: a key, an authority."""
    known = {(each.metadata.namespace, each.metadata.name): each for each in secrets}
    resources = ResourceSet({SECRET: {each.name: each for each in requested_secrets.of(asked)}})
    filled = GatewayCredentials(lambda: known).filled(resources, namespace)
    found = {}
    for name, resource in filled.of_type(SECRET).items():
        message = secret_pb2.Secret.FromString(resource.body)
        found[name] = (
            message.tls_certificate.private_key.inline_bytes or message.validation_context.trusted_ca.inline_bytes
        )
    return found


def serving(mode: TlsMode, *names: str, authorities: str = "") -> ServerTls:
    return ServerTls(mode=mode, credentials=names, authorities=authorities)


@pytest.mark.parametrize("data", [PAIR, {"cert": CERTIFICATE, "key": KEY}])
def test_a_gateway_gets_the_secrets_that_its_own_listeners_name(data):
    secrets = [secret("edge", "web", **data), secret("edge", "not-named", **PAIR)]

    assert given(secrets, "edge", serving(TlsMode.SIMPLE, "web")) == {"kubernetes://web": KEY}


def starting(secrets: list[Secret], **said: Any) -> dict[str, secret_pb2.Secret]:
    """What a proxy of namespace `shop` gets that starts TLS so."""
    known = {(each.metadata.namespace, each.metadata.name): each for each in secrets}
    policy = TrafficPolicy(origination=TlsOrigination(**said))
    resources = ResourceSet({SECRET: {each.name: each for each in requested_secrets.of_policy(policy)}})
    filled = GatewayCredentials(lambda: known).filled(resources, "shop").of_type(SECRET)
    return {name: secret_pb2.Secret.FromString(found.body) for name, found in filled.items()}


def test_a_caller_gets_the_secret_with_which_it_starts_tls():
    secrets = [secret("shop", "partner", **PAIR, **{"ca.crt": OTHER_CERTIFICATE, "ca.crl": b"revoked"})]

    found = starting(secrets, mutual=True, credential="partner")

    assert found["kubernetes://partner"].tls_certificate.private_key.inline_bytes == KEY
    authorities = found["kubernetes://partner-cacert"].validation_context
    assert (authorities.trusted_ca.inline_bytes, authorities.crl.inline_bytes) == (OTHER_CERTIFICATE, b"revoked")


def test_a_caller_without_a_certificate_of_its_own_gets_no_key():
    secrets = [secret("shop", "partner", **PAIR, **{"ca.crt": OTHER_CERTIFICATE})]

    assert set(starting(secrets, mutual=False, credential="partner")) == {"kubernetes://partner-cacert"}


def test_a_caller_gets_no_secret_of_another_namespace():
    assert starting([secret("other", "partner", **PAIR)], mutual=True, credential="partner") == {}


def test_a_name_without_a_namespace_is_of_the_proxys_own():
    assert given([secret("other", "web", **PAIR)], "edge", serving(TlsMode.SIMPLE, "web")) == {}


def test_another_namespaces_secret_comes_where_a_gateway_may_refer_to_it():
    assert given([secret("vault", "web", **PAIR)], "edge", serving(TlsMode.SIMPLE, "vault/web")) == {
        "kubernetes-gateway://vault/web": KEY
    }


def test_authorities_are_in_the_same_secret_or_in_its_companion_which_comes_first():
    same = secret("edge", "web", **PAIR, **{"ca.crt": CERTIFICATE})
    companion = secret("edge", "web-cacert", cacert=OTHER_CERTIFICATE)
    asked = serving(TlsMode.MUTUAL, "web")

    assert given([same], "edge", asked) == {"kubernetes://web": KEY, "kubernetes://web-cacert": CERTIFICATE}
    assert given([same, companion], "edge", asked)["kubernetes://web-cacert"] == OTHER_CERTIFICATE


def test_authorities_may_be_named_for_themselves():
    secrets = [secret("edge", "web", **PAIR), secret("edge", "callers", **{"ca.crt": OTHER_CERTIFICATE})]

    found = given(secrets, "edge", serving(TlsMode.OPTIONAL_MUTUAL, "edge/web", authorities="edge/callers"))

    assert found["kubernetes-gateway://edge/callers-cacert"] == OTHER_CERTIFICATE


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"tls.crt": CERTIFICATE},
        {"tls.crt": b"nonsense", "tls.key": KEY},
        {"tls.crt": CERTIFICATE, "tls.key": b"nonsense"},
        {"tls.crt": CERTIFICATE, "tls.key": OTHER_KEY},
    ],
)
def test_what_envoy_would_refuse_is_not_sent(data):
    assert given([secret("edge", "web", **data)], "edge", serving(TlsMode.SIMPLE, "web")) == {}


def test_a_renewed_secret_is_another_resource_and_an_equal_one_is_the_same():
    now = {("edge", "web"): secret("edge", "web", **PAIR)}
    credentials = GatewayCredentials(lambda: now)
    asked = ResourceSet({SECRET: {each.name: each for each in requested_secrets.of([serving(TlsMode.SIMPLE, "web")])}})

    def version() -> str:
        return credentials.filled(asked, "edge").of_type(SECRET)["kubernetes://web"].version

    first = version()
    now["edge", "web"] = secret("edge", "web", **PAIR)
    assert version() == first
    now["edge", "web"] = secret("edge", "web", **{"tls.crt": OTHER_CERTIFICATE, "tls.key": OTHER_KEY})
    assert version() != first


def test_files_of_the_proxys_machine_are_named_in_a_secret_which_envoy_reads_again_when_they_change():
    said = ServerTls(
        mode=TlsMode.MUTUAL,
        certificate="/c.pem",
        private_key="/k.pem",
        ca_certificates="/ca.pem",
        revocations="/crl.pem",
    )
    resources = ResourceSet({SECRET: {each.name: each for each in requested_secrets.of([said])}})

    filled = GatewayCredentials(dict).filled(resources, "edge").of_type(SECRET)

    own, authorities = (secret_pb2.Secret.FromString(filled[name].body) for name in sorted(filled))
    assert (own.name, own.tls_certificate.private_key.filename) == ("file-cert:/c.pem~/k.pem", "/k.pem")
    assert own.tls_certificate.certificate_chain.filename == "/c.pem"
    assert authorities.name == "file-root:/ca.pem~/crl.pem"
    assert authorities.validation_context.trusted_ca.filename == "/ca.pem"
    assert authorities.validation_context.crl.filename == "/crl.pem"


def test_a_caller_names_the_files_with_which_it_starts_tls():
    files = {"certificate": "/c.pem", "private_key": "/k.pem", "ca_certificates": "/ca.pem"}

    assert sorted(starting([], mutual=True, **files)) == ["file-cert:/c.pem~/k.pem", "file-root:/ca.pem"]
    assert sorted(starting([], mutual=False, ca_certificates="/ca.pem")) == ["file-root:/ca.pem"]
    assert starting([], mutual=False) == {}


def test_keys_are_in_no_text_that_is_printed_of_them():
    known = secret("edge", "web", **PAIR)
    [stand_in] = requested_secrets.of([serving(TlsMode.SIMPLE, "web")])
    resources = ResourceSet({SECRET: {stand_in.name: stand_in}})
    filled = GatewayCredentials(lambda: {("edge", "web"): known}).filled(resources, "edge")

    printed = f"{known!r} {filled!r} {filled.of_type(SECRET)!r}"

    assert "PRIVATE" not in printed
    assert KEY.decode().splitlines()[1] not in printed


def test_what_cannot_be_shown_is_told_until_it_can_be():
    now: dict[tuple[str, str], Secret] = {}
    credentials = GatewayCredentials(lambda: now)
    asked = ResourceSet({SECRET: {each.name: each for each in requested_secrets.of([serving(TlsMode.SIMPLE, "web")])}})

    def told() -> list[str]:
        credentials.filled(asked, "edge")
        return [f"{each.code} {each.subject}: {each.what}" for each in credentials.take_problems(ClusterId("east"))]

    assert told() == ["ISM0408 Secret edge/web in east: a proxy is to use it, and cannot: there is no such Secret"]
    now["edge", "web"] = secret("edge", "web", **PAIR)
    assert told() == []
