"""Secrets: the bundle binds each authority to its trust domain, and Envoy reads it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from google.protobuf import json_format

from isthmus.envoy.secrets import bundle_secret, spiffe_bundle_map, workload_secret
from isthmus.model.identity import TrustDomain

EAST = TrustDomain.parse("east.example")
WEST = TrustDomain.parse("west.example")


def authority(key) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "authority")])
    start = datetime(2030, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.fixture(scope="module")
def elliptic() -> bytes:
    return authority(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def modular() -> bytes:
    return authority(rsa.generate_private_key(65537, 2048))


def test_each_authority_stands_under_its_own_trust_domain(elliptic, modular):
    written = json.loads(spiffe_bundle_map({WEST: (modular,), EAST: (elliptic,)}))["trust_domains"]

    kinds = {domain: [(key["kty"], key["use"]) for key in bundle["keys"]] for domain, bundle in written.items()}
    assert kinds == {"east.example": [("EC", "x509-svid")], "west.example": [("RSA", "x509-svid")]}


def test_order_does_not_matter(elliptic, modular):
    one = bundle_secret({EAST: (elliptic, modular), WEST: (elliptic,)})

    assert one == bundle_secret({WEST: (elliptic,), EAST: (modular, elliptic)})


def test_a_trust_domain_without_authorities_is_left_out(elliptic):
    assert list(json.loads(spiffe_bundle_map({EAST: (elliptic,), WEST: ()}))["trust_domains"]) == ["east.example"]


@pytest.mark.parametrize("nothing", [{}, {EAST: ()}])
def test_an_empty_bundle_is_refused(nothing):
    with pytest.raises(ValueError, match="at least one authority"):
        bundle_secret(nothing)


def test_an_authority_that_is_no_certificate_is_named():
    with pytest.raises(ValueError, match=r"trust domain west\.example is not an X\.509 certificate"):
        bundle_secret({WEST: (b"no certificate",)})


def test_envoy_reads_the_bundle(mesh, tmp_path, elliptic, modular):
    secret = secret_pb2.Secret.FromString(bundle_secret({EAST: (elliptic, modular), WEST: (elliptic,)}).body)
    context = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "commonTlsContext": {"validationContext": json_format.MessageToDict(secret)["validationContext"]},
    }
    cluster = {"name": "x", "transportSocket": {"name": "envoy.transport_sockets.tls", "typedConfig": context}}

    bootstrap = json.dumps({"staticResources": {"clusters": [cluster]}}).encode()

    assert mesh.complaint(bootstrap) == ""


def test_the_workloads_certificate_is_called_default():
    resource = workload_secret("CHAIN", "KEY")

    certificate = secret_pb2.Secret.FromString(resource.body).tls_certificate
    assert resource.name == "default"
    assert (certificate.certificate_chain.inline_string, certificate.private_key.inline_string) == ("CHAIN", "KEY")
