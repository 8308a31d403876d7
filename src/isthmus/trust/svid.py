"""What makes a certificate an X.509-SVID: the rules of that specification which a certificate keeps or breaks by itself.

A chain of PEM certificates comes in, leaf first; the identity with its certificates comes out, or BadCertificate with the rule that is
broken and the certificate that breaks it. Whether anybody should believe the chain is `verification`'s question.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509

from isthmus.model.identity import SpiffeId
from isthmus.trust.x509 import UNREADABLE, BadCertificate, parse_certificates

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class X509Svid:
    """An identity and the certificates that claim it. Built by `parse_svid`."""

    identity: SpiffeId
    leaf: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]


def parse_svid(chain_pem: str) -> X509Svid:
    """Raises BadCertificate unless the first certificate is a leaf SVID and each further one may sign."""
    try:
        leaf, *intermediates = parse_certificates(chain_pem)
    except BadCertificate as error:
        raise BadCertificate(f"the chain is malformed: {error}") from None
    identity = leaf_identity(leaf)
    for place, intermediate in enumerate(intermediates, start=1):
        if broken := broken_authority_rule(intermediate):
            raise BadCertificate(f"intermediate {place} {broken}")
    return X509Svid(identity, leaf, tuple(intermediates))


def proven(connection: ssl.SSLObject) -> SpiffeId:
    """Whom the other side's certificate names, once TLS has found that the authorities vouch for it. Raises BadCertificate."""
    shown = connection.getpeercert(binary_form=True)
    if not shown:
        raise BadCertificate("no certificate is shown")
    return leaf_identity(x509.load_der_x509_certificate(shown))


def leaf_identity(leaf: x509.Certificate) -> SpiffeId:
    """Whom a leaf names (X509-SVID sections 2, 3.1, 4.1, 4.3 and 5.2). Raises BadCertificate for anything but a leaf SVID."""
    identity = _named(leaf)
    if not identity.path:
        raise BadCertificate(f"{identity} names a trust domain: the SPIFFE ID of a leaf has a path")
    if _is_authority(leaf):
        raise BadCertificate("the leaf has the CA flag set to true")
    usage = _key_usage(leaf)
    if usage is None or not usage.digital_signature:
        raise BadCertificate("the leaf does not have 'digitalSignature' set as key usage")
    if usage.key_cert_sign:
        raise BadCertificate("the leaf has 'keyCertSign' set as key usage")
    if usage.crl_sign:
        raise BadCertificate("the leaf has 'cRLSign' set as key usage")
    return identity


def broken_authority_rule(certificate: x509.Certificate) -> str:
    """Why a certificate cannot stand for an authority (X509-SVID sections 3.2, 4.1 and 4.3); nothing if it can."""
    try:
        usage = _key_usage(certificate)
        if not _is_authority(certificate):
            return "does not have the CA flag set to true"
    except BadCertificate as error:
        return str(error)
    if usage is None or not usage.key_cert_sign:
        return "does not have 'keyCertSign' set as key usage"
    return ""


def _named(leaf: x509.Certificate) -> SpiffeId:
    names = _extension(leaf, x509.SubjectAlternativeName)
    uris = [] if names is None else names.get_values_for_type(x509.UniformResourceIdentifier)
    if not uris:
        raise BadCertificate("the leaf has no URI SAN, so no SPIFFE ID")
    if len(uris) > 1:
        raise BadCertificate(f"the leaf has {len(uris)} URI SANs; an SVID has exactly one")
    try:
        return SpiffeId.parse(uris[0])
    except ValueError as error:
        raise BadCertificate(f"the leaf's URI SAN: {error}") from None


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    return _extension(certificate, x509.KeyUsage)


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except UNREADABLE as error:
        raise BadCertificate(f"extensions cannot be read: {error}") from None
