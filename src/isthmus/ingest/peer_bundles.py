"""The authorities of other trust domains: from MeshConfig's `caCertificates`, from bundles that were imported into the ConfigMap `istio`, and
from endpoints that either names.

Each counts for the trust domains that it is given for, and for no other. One that cannot be read loses that one alone. What was fetched from
a trust domain's endpoint takes the place of what was handed over for it: the newest alone says who vouches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from isthmus.model.bundles import BundleEndpoint
from isthmus.model.identity import TrustDomain
from isthmus.model.snapshot import MeshSettings

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

PREFIX = "trust-bundle."
"""Before the trust domain's name, in the keys of the ConfigMap. The value is PEM."""

ENDPOINT = "trust-endpoint."
"""The same for where its bundle is published: YAML with `url`, `profile` and, for https_spiffe, `identity`."""

Authorities = tuple[tuple[TrustDomain, tuple[bytes, ...]], ...]
Problem = tuple[str, str]
"""The key under which it is, and what is wrong."""


def peer_authorities(
    config: Mapping[str, Any], data: Mapping[str, str], own: TrustDomain
) -> tuple[Authorities, list[Problem]]:
    """DER by trust domain, sorted; and what cannot be used, with the key of the ConfigMap that says it."""
    found: dict[TrustDomain, set[bytes]] = {}
    problems: list[Problem] = []
    for key, names, pem in (*_of_mesh_config(config), *_imported(data)):
        try:
            domains = [TrustDomain.parse(name) for name in names]
            authorities = _authorities(pem)
        except ValueError as error:
            problems.append((key, str(error)))
            continue
        for domain in domains:
            if domain == own:
                problems.append((key, f"{own} is this mesh's own trust domain: its authority is the control plane's"))
            else:
                found.setdefault(domain, set()).update(authorities)
    return tuple((domain, tuple(sorted(ders))) for domain, ders in sorted(found.items())), problems


def bundle_endpoints(
    config: Mapping[str, Any], data: Mapping[str, str], own: TrustDomain
) -> tuple[tuple[BundleEndpoint, ...], list[Problem]]:
    """Where bundles are fetched from, one for each trust domain, sorted; and what cannot be used. The ConfigMap's own keys come first."""
    found: dict[TrustDomain, BundleEndpoint] = {}
    problems: list[Problem] = []
    for key, name, said in (*_followed(data), *_of_urls(config)):
        try:
            domain = TrustDomain.parse(name)
            endpoint = BundleEndpoint.parse(domain, **_parameters(said))
        except ValueError as error:
            problems.append((key, str(error)))
            continue
        if domain == own:
            problems.append((key, f"{own} is this mesh's own trust domain: its authority is the control plane's"))
        elif found.setdefault(domain, endpoint) != endpoint:
            problems.append((key, f"{domain} has another endpoint already: {found[domain].url}"))
    return tuple(sorted(found.values(), key=lambda each: each.trust_domain)), problems


def with_fetched(settings: MeshSettings, fetched: Mapping[TrustDomain, tuple[bytes, ...]]) -> MeshSettings:
    """`settings`, with what endpoints have given in place of what was handed over. An endpoint that gives none has nobody trusted."""
    followed = {endpoint.trust_domain for endpoint in settings.bundle_endpoints}
    newer = {domain: each for domain, each in fetched.items() if domain in followed}
    if not newer:
        return settings
    held = dict(settings.peer_authorities) | newer
    return replace(
        settings,
        peer_authorities=tuple(sorted((domain, each) for domain, each in held.items() if each)),
        peer_trust_domains=tuple(sorted({*settings.peer_trust_domains, *newer})),
    )


def _followed(data: Mapping[str, str]) -> Iterator[tuple[str, str, object]]:
    import yaml  # Not before there is something to read: offline commands would wait for it.

    for key, text in sorted(data.items()):
        if key.startswith(ENDPOINT):
            try:
                yield key, key.removeprefix(ENDPOINT), yaml.safe_load(text)
            except yaml.YAMLError as error:
                yield key, key.removeprefix(ENDPOINT), error


def _of_urls(config: Mapping[str, Any]) -> Iterator[tuple[str, str, object]]:
    """Istio's form, which has the profile https_web alone."""
    for entry in config.get("caCertificates") or ():
        if url := entry.get("spiffeBundleUrl"):
            for name in entry.get("trustDomains") or ():
                yield "mesh.caCertificates", str(name), {"url": str(url)}


def _parameters(said: object) -> dict[str, str]:
    """Raises ValueError."""
    if not isinstance(said, dict) or not set(said) <= {"url", "profile", "identity"}:
        raise ValueError(f"an endpoint is url, profile and identity, not {said!s:.100}")
    return {name: str(said.get(name) or "") for name in ("url", "profile", "identity")}


def _of_mesh_config(config: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str], str]]:
    for entry in config.get("caCertificates") or ():
        pem, names = entry.get("pem"), entry.get("trustDomains")
        if pem and names:
            yield "mesh.caCertificates", [str(name) for name in names], str(pem)


def _imported(data: Mapping[str, str]) -> Iterator[tuple[str, Sequence[str], str]]:
    for key, pem in sorted(data.items()):
        if key.startswith(PREFIX):
            yield key, [key.removeprefix(PREFIX)], pem


def _authorities(pem: str) -> list[bytes]:
    """Raises ValueError, also for a certificate that may not sign: as an authority it would vouch for nobody, and nobody would see why."""
    from cryptography import x509  # Not before there is something to read: offline commands would wait for it.
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise ValueError(f"no certificate can be read: {error}") from None
    for certificate in certificates:
        if not _may_sign(certificate):
            raise ValueError(f"{certificate.subject.rfc4514_string()} is not the certificate of an authority")
    return [certificate.public_bytes(Encoding.DER) for certificate in certificates]


def _may_sign(certificate: Certificate) -> bool:
    """Raises ValueError for extensions that cannot be read."""
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(f"the extensions of a certificate cannot be read: {error}") from None
