"""The secrets that an agent serves: the workload's certificate, and the bundles it trusts.

A bundle of several trust domains goes through Envoy's SPIFFE validator, which picks the authorities by the trust domain in the peer's own
first URI name: no authority can vouch for another trust domain there. One concatenated pool would accept that (measured). What a second name
may do is `tls.client_socket`'s concern towards servers, and `guards.of_peers`' towards callers. Where one trust domain alone is expected,
Envoy's own validator does, which looks at what a certificate is for, too.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_spiffe_validator_config_pb2

from isthmus.envoy.common import packed
from isthmus.envoy.resources import Resource
from isthmus.envoy.tls import TRUST_BUNDLE, WORKLOAD_CERTIFICATE
from isthmus.model.identity import TrustDomain


def workload_secret(chain_pem: str, key_pem: str) -> Resource:
    """The leaf certificate with its intermediates, and its private key."""
    secret = secret_pb2.Secret(
        name=WORKLOAD_CERTIFICATE,
        tls_certificate=common_pb2.TlsCertificate(
            certificate_chain=base_pb2.DataSource(inline_string=chain_pem),
            private_key=base_pb2.DataSource(inline_string=key_pem),
        ),
    )
    return Resource.of(WORKLOAD_CERTIFICATE, secret)


def certificate_secret(name: str, chain_pem: bytes, key_pem: bytes) -> Resource:
    """What a gateway shows its callers."""
    secret = secret_pb2.Secret(
        name=name,
        tls_certificate=common_pb2.TlsCertificate(
            certificate_chain=base_pb2.DataSource(inline_bytes=chain_pem),
            private_key=base_pb2.DataSource(inline_bytes=key_pem),
        ),
    )
    return Resource.of(name, secret)


def authorities_secret(name: str, authorities_pem: bytes, revocations_pem: bytes = b"") -> Resource:
    """Whose word counts for the other end, and which of their certificates are revoked."""
    secret = secret_pb2.Secret(
        name=name,
        validation_context=common_pb2.CertificateValidationContext(
            trusted_ca=base_pb2.DataSource(inline_bytes=authorities_pem),
            crl=base_pb2.DataSource(inline_bytes=revocations_pem) if revocations_pem else None,
        ),
    )
    return Resource.of(name, secret)


def bundle_secret(
    bundles: Mapping[TrustDomain, Sequence[bytes]],
    name: str = TRUST_BUNDLE,
    revoked: Mapping[TrustDomain, str] = MappingProxyType({}),
) -> Resource:
    """Each trust domain's authorities (DER), valid for that trust domain only; and its revocation lists (PEM), where there are any.

    Envoy's validator reads lists in its other form only, where authorities are PEM. It refuses whatever it has no list about.
    """
    if any(revoked.get(domain) for domain in bundles):
        validator = tls_spiffe_validator_config_pb2.SPIFFECertValidatorConfig(
            trust_domains=[
                tls_spiffe_validator_config_pb2.SPIFFECertValidatorConfig.TrustDomain(
                    name=str(domain),
                    trust_bundle=base_pb2.DataSource(inline_string=_pem(authorities) + revoked.get(domain, "")),
                )
                for domain, authorities in _with_authorities(bundles)
            ]
        )
    else:
        validator = tls_spiffe_validator_config_pb2.SPIFFECertValidatorConfig(
            trust_bundles=base_pb2.DataSource(inline_string=spiffe_bundle_map(bundles))
        )
    secret = secret_pb2.Secret(
        name=name,
        validation_context=common_pb2.CertificateValidationContext(
            custom_validator_config=extension_pb2.TypedExtensionConfig(
                name="envoy.tls.cert_validator.spiffe", typed_config=packed(validator)
            )
        ),
    )
    return Resource.of(name, secret)


def domain_secret(name: str, authorities: Sequence[bytes], revoked: str = "") -> Resource:
    """The authorities (DER) of one trust domain, where names of that one alone are accepted: Envoy's own validator does, and looks at what
    certificates are for, too."""
    return authorities_secret(name, _pem(authorities).encode(), revoked.encode())


def spiffe_bundle_map(bundles: Mapping[TrustDomain, Sequence[bytes]]) -> str:
    """SPIFFE bundle map JSON. A trust domain without authorities is left out, which says the same: nobody can vouch for it.

    Raises ValueError when nothing is left (Envoy refuses such a bundle), and for an authority that is no certificate.
    """
    trust_domains = {
        str(domain): {"keys": [_key(domain, der) for der in sorted(authorities)]}
        for domain, authorities in _with_authorities(bundles)
    }
    return json.dumps({"trust_domains": trust_domains}, sort_keys=True)


def _with_authorities(bundles: Mapping[TrustDomain, Sequence[bytes]]) -> list[tuple[TrustDomain, Sequence[bytes]]]:
    """Raises ValueError if there is none."""
    found = [(domain, authorities) for domain, authorities in sorted(bundles.items()) if authorities]
    if not found:
        raise ValueError("a trust bundle needs at least one authority of one trust domain")
    return found


def _pem(authorities: Sequence[bytes]) -> str:
    certificates = (x509.load_der_x509_certificate(der) for der in sorted(authorities))
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in certificates)


def _key(domain: TrustDomain, der: bytes) -> dict[str, object]:
    """A JWK as SPIFFE's bundles have it. Envoy wants the key's type beside the certificate, and reads neither more of it nor checks it."""
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except ValueError as error:
        raise ValueError(f"an authority of trust domain {domain} is not an X.509 certificate: {error}") from None
    kind = "RSA" if isinstance(key, rsa.RSAPublicKey) else "EC"
    return {"kty": kind, "use": "x509-svid", "x5c": [base64.b64encode(der).decode()]}
