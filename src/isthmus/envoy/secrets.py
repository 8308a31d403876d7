"""The two secrets that an agent serves: the workload's certificate, and the bundles it trusts.

The bundle goes through Envoy's SPIFFE validator, which picks the authorities by the trust domain in the peer's own URI SAN: no authority
can vouch for another trust domain. One concatenated pool would accept that (measured).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

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


def bundle_secret(bundles: Mapping[TrustDomain, Sequence[bytes]]) -> Resource:
    """Each trust domain's authorities (DER), valid for that trust domain only."""
    validator = tls_spiffe_validator_config_pb2.SPIFFECertValidatorConfig(
        trust_bundles=base_pb2.DataSource(inline_string=spiffe_bundle_map(bundles))
    )
    secret = secret_pb2.Secret(
        name=TRUST_BUNDLE,
        validation_context=common_pb2.CertificateValidationContext(
            custom_validator_config=extension_pb2.TypedExtensionConfig(
                name="envoy.tls.cert_validator.spiffe", typed_config=packed(validator)
            )
        ),
    )
    return Resource.of(TRUST_BUNDLE, secret)


def spiffe_bundle_map(bundles: Mapping[TrustDomain, Sequence[bytes]]) -> str:
    """SPIFFE bundle map JSON. Envoy wants each key's type next to its certificate."""
    trust_domains = {
        str(domain): {
            "keys": [
                {"kty": "EC", "use": "x509-svid", "x5c": [base64.b64encode(der).decode()]}
                for der in sorted(authorities)
            ]
        }
        for domain, authorities in sorted(bundles.items())
    }
    return json.dumps({"trust_domains": trust_domains}, sort_keys=True)
