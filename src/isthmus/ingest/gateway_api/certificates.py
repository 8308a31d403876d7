"""Whether Secrets hold what a gateway can show its callers. Only ever a verdict comes out of here, no key.

`cryptography` is imported where it is needed: most meshes that are looked at offline have no certificate, and it takes a tenth of a second.
"""

from __future__ import annotations

from isthmus.api.core import Secret

CERTIFICATE_KEYS = ("tls.crt", "cert")
PRIVATE_KEY_KEYS = ("tls.key", "key")
AUTHORITY_KEYS = ("ca.crt", "cacert")
REVOCATION_KEYS = ("ca.crl",)
"""Where Secrets have them: of type kubernetes.io/tls, and Istio's generic ones."""


def part_of(secret: Secret, keys: tuple[str, ...]) -> bytes:
    """The first of the keys that the Secret has; empty if it has none."""
    return next((secret.data[key] for key in keys if secret.data.get(key)), b"")


def problem_with_pair(secret: Secret | None) -> str:
    """Why a Secret is no certificate with its private key; empty if it is one."""
    if secret is None:
        return "there is no such Secret"
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    certificate, key = part_of(secret, CERTIFICATE_KEYS), part_of(secret, PRIVATE_KEY_KEYS)
    if not certificate or not key:
        return "it has no tls.crt and tls.key"
    try:
        chain = x509.load_pem_x509_certificates(certificate)
    except ValueError:
        return "tls.crt is not a chain of PEM certificates"
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError):
        return "tls.key is not a private key in PEM without a password"
    shape = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*shape) != chain[0].public_key().public_bytes(*shape):
        return "tls.key is not the key of the first certificate in tls.crt"
    return ""


def problem_with_authorities(secret: Secret | None) -> str:
    """Why a Secret names no authorities; empty if it does."""
    if secret is None:
        return "there is no such Secret"
    return problem_with_pem(part_of(secret, AUTHORITY_KEYS))


def problem_with_pem(authorities: bytes) -> str:
    """The same of the text itself."""
    from cryptography import x509

    if not authorities:
        return "it has no ca.crt"
    try:
        x509.load_pem_x509_certificates(authorities)
    except ValueError:
        return "ca.crt has no PEM certificates"
    return ""
