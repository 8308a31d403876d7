"""Authorities of other trust domains, as the ConfigMap `istio` gives them."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import yaml

from isthmus.api.core import ConfigMap
from isthmus.ingest.mesh_config import from_config_map
from isthmus.ingest.peer_bundles import with_fetched
from isthmus.model.identity import TrustDomain
from isthmus.model.names import MeshId
from isthmus.model.snapshot import MeshSettings
from isthmus.trust import x509

OWN, PARTNER, OTHER = map(TrustDomain.parse, ("cluster.local", "partner.example", "other.example"))
SETTINGS = MeshSettings(mesh=MeshId("mesh1"), trust_domain=OWN)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def root(domain: TrustDomain) -> tuple[str, bytes]:
    pem = x509.certificate_pem(x509.new_root(domain, NOW, timedelta(days=365)).certificate)
    return pem, x509.to_der(pem)[0]


def with_an_extension_twice() -> str:
    """A root whose key usage calls itself basic constraints; nobody looks at its signature."""
    basic_constraints, key_usage = bytes.fromhex("0603551d13"), bytes.fromhex("0603551d0f")
    _, der = root(OTHER)
    assert (der.count(basic_constraints), der.count(key_usage)) == (1, 1)
    return ssl.DER_cert_to_PEM_cert(der.replace(key_usage, basic_constraints))


@pytest.fixture
def read(words):
    def settings_and_issues(**data: str):
        found = msgspec.convert(words.obj("ConfigMap", "istio", "istio-system", data=data), type=ConfigMap)
        return from_config_map(SETTINGS, found, "east")

    return settings_and_issues


def imported(domain: TrustDomain, pem: str) -> dict[str, str]:
    return {f"trust-bundle.{domain}": pem}


def test_an_imported_bundle_vouches_for_its_trust_domain_and_for_no_other(read):
    pem, der = root(PARTNER)

    settings, issues = read(**imported(PARTNER, pem))

    assert settings.peer_authorities == ((PARTNER, (der,)),)
    assert settings.peer_trust_domains == (PARTNER,)
    assert issues == ()


def test_mesh_config_and_imports_add_up(read):
    (first, first_der), (second, second_der), (third, third_der) = root(PARTNER), root(PARTNER), root(OTHER)
    mesh = {"caCertificates": [{"pem": first, "trustDomains": [str(PARTNER)]}]}

    settings, _ = read(mesh=yaml.safe_dump(mesh), **imported(PARTNER, second), **imported(OTHER, third))

    assert settings.peer_authorities == ((OTHER, (third_der,)), (PARTNER, tuple(sorted((first_der, second_der)))))


def test_nobody_adds_an_authority_to_the_meshs_own_trust_domain(read):
    foreign = root(PARTNER)[0]
    mesh = {"caCertificates": [{"pem": foreign, "trustDomains": [str(OWN)]}]}

    settings, issues = read(mesh=yaml.safe_dump(mesh), **imported(OWN, foreign))

    assert settings.peer_authorities == ()
    assert [issue.field for issue in issues] == ["data.mesh.caCertificates", f"data.trust-bundle.{OWN}"]
    assert "own trust domain" in issues[0].what


def test_a_bundle_that_cannot_be_read_loses_that_one_alone(read):
    pem, der = root(PARTNER)

    settings, issues = read(**imported(PARTNER, pem), **imported(OTHER, "no certificate"))

    assert settings.peer_authorities == ((PARTNER, (der,)),)
    assert [(issue.code, issue.field) for issue in issues] == [("ISM0107", f"data.trust-bundle.{OTHER}")]


def test_a_certificate_that_may_not_sign_is_no_authority(read):
    issuer = x509.new_root(PARTNER, NOW, timedelta(days=365))
    leaf = x509.sign_server(issuer, x509.new_key().public_key(), ["partner.example"], NOW, timedelta(days=1))

    settings, issues = read(**imported(PARTNER, x509.certificate_pem(leaf)))

    assert settings.peer_authorities == ()
    assert "not the certificate of an authority" in issues[0].what


def test_a_certificate_whose_extensions_cannot_be_read_loses_that_bundle_alone(read):
    pem, der = root(PARTNER)

    settings, [issue] = read(**imported(PARTNER, pem), **imported(OTHER, with_an_extension_twice()))

    assert settings.peer_authorities == ((PARTNER, (der,)),)
    assert (issue.code, issue.field) == ("ISM0107", f"data.trust-bundle.{OTHER}")
    assert "the extensions of a certificate cannot be read" in issue.what


def test_a_mistake_in_mesh_config_does_not_take_imported_bundles_away(read):
    pem, der = root(PARTNER)

    settings, issues = read(mesh="trustDomainAliases: [NOT/ONE]", **imported(PARTNER, pem))

    believed = ((PARTNER, (der,)),)
    assert settings == replace(
        SETTINGS, peer_trust_domains=(PARTNER,), peer_authorities=believed, imported_authorities=believed
    )
    assert [issue.field for issue in issues] == ["data.mesh"]


def followed(domain: TrustDomain, **said: str) -> dict[str, str]:
    return {f"trust-endpoint.{domain}": yaml.safe_dump(said)}


def test_endpoints_are_named_by_the_config_map_and_by_mesh_config(read):
    mesh = {"caCertificates": [{"spiffeBundleUrl": "https://other.example/b", "trustDomains": [str(OTHER)]}]}
    identity = "spiffe://partner.example/bundles"

    settings, issues = read(
        mesh=yaml.safe_dump(mesh),
        **followed(PARTNER, url="https://a.example/", profile="https_spiffe", identity=identity),
    )

    found = [(each.trust_domain, each.url, str(each.identity)) for each in settings.bundle_endpoints]
    assert found == [(OTHER, "https://other.example/b", "None"), (PARTNER, "https://a.example/", identity)]
    assert issues == ()


@pytest.mark.parametrize(
    ("domain", "said", "why"),
    [
        (PARTNER, {"url": "http://a.example/"}, "scheme has to be https"),
        (PARTNER, {"url": "https://a.example/", "profile": "https_spiffe"}, "needs the identity"),
        (PARTNER, {"url": "https://a.example/", "port": "1"}, "an endpoint is url, profile and identity"),
        (OWN, {"url": "https://a.example/"}, "this mesh's own trust domain"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_an_issue_and_costs_no_other(read, domain, said, why):
    good = followed(OTHER, url="https://other.example/")

    settings, [issue] = read(**followed(domain, **said), **good)

    assert [each.trust_domain for each in settings.bundle_endpoints] == [OTHER]
    assert (issue.code, issue.field) == ("ISM0107", f"data.trust-endpoint.{domain}")
    assert why in issue.what


def test_what_was_fetched_takes_the_place_of_what_was_handed_over(read):
    (pem, der), (_, newer) = root(PARTNER), root(PARTNER)
    settings, _ = read(**imported(PARTNER, pem), **followed(PARTNER, url="https://a.example/"))

    assert with_fetched(settings, {}).peer_authorities == ((PARTNER, (der,)),)
    assert with_fetched(settings, {PARTNER: (newer,)}).peer_authorities == ((PARTNER, (newer,)),)
    assert with_fetched(settings, {PARTNER: ()}).peer_authorities == (), "nobody vouches any longer"
    assert with_fetched(settings, {OTHER: (newer,)}) == settings, "nobody asked for it"
    assert with_fetched(settings, {PARTNER: (newer,)}).imported_authorities == ((PARTNER, (der,)),)
