"""The authorities of other trust domains: from MeshConfig's `caCertificates`, and from bundles that were imported into the ConfigMap `istio`.

Each counts for the trust domains that it is given for, and for no other. One that cannot be read loses that one alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from isthmus.model.identity import TrustDomain

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

PREFIX = "trust-bundle."
"""Before the trust domain's name, in the keys of the ConfigMap. The value is PEM."""

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
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
