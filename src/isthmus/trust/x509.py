"""Keys, signing requests and certificates. They read no clock.

Certificates follow the X.509-SVID specification: a leaf has exactly one URI SAN, critical when the subject is empty, and cannot sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.model.identity import SpiffeId, TrustDomain

CLOCK_SKEW = timedelta(minutes=2)
_RSA_BITS_MIN = 2048
_EC_BITS_MIN = 256
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
UNREADABLE = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
)
"""What the cryptography package raises for bytes that are not what they should be."""
_CSR_BYTES_MAX = 16 * 1024

_CRL = re.compile(r"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
SHORT = 12
"""Digits of a fingerprint that people are shown."""

Certificate = x509.Certificate
SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class BadCertificate(ValueError):
    """A certificate, key or signing request that cannot be used, and why."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate that may sign, its key, and the certificates between it and the root (nearest first), root excluded.

    Two are equal if their certificates are: keys cannot be compared, and belong to them.
    """

    certificate: x509.Certificate
    key: SigningKey = field(compare=False)
    intermediates: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What people ask of a certificate."""

    serial: str
    not_before: datetime
    not_after: datetime


def new_key() -> ec.EllipticCurvePrivateKey:
    """P-256: a handshake costs a quarter of what RSA-2048 does (measured)."""
    return ec.generate_private_key(ec.SECP256R1())


def new_root(trust_domain: TrustDomain, now: datetime, lifetime: timedelta, label: str = "") -> Issuer:
    """A self-signed authority for a trust domain. `label` tells it from others of the trust domain, for people and in their certificates."""
    key = new_key()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, str(trust_domain)),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Root CA {label}".strip()),
        ]
    )
    builder = _authority(name, name, key.public_key(), now, now + lifetime, path_length=None)
    return Issuer(builder.sign(key, hashes.SHA256()), key)


def new_intermediate(root: Issuer, label: str, now: datetime, lifetime: timedelta, *, below: int = 0) -> Issuer:
    """An authority below another, with `below` more authorities under it: none, and it signs leaves only. It never outlives its issuer."""
    key = new_key()
    organization = root.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    attributes = [*organization, x509.NameAttribute(NameOID.COMMON_NAME, f"Intermediate CA {label}")]
    ends = min(now + lifetime, root.certificate.not_valid_after_utc)
    builder = _authority(
        x509.Name(attributes), root.certificate.subject, key.public_key(), now, ends, path_length=below
    )
    builder = builder.add_extension(_issued_by(root), critical=False)
    above = () if is_self_signed(root.certificate) else (root.certificate, *root.intermediates)
    return Issuer(builder.sign(root.key, hashes.SHA256()), key, above)


def new_request(key: SigningKey, names: Sequence[str] = ()) -> str:
    """A signing request that proves possession of the key. Our own authority gives names by the caller's credentials, and takes none from here;
    `names` (SPIFFE IDs, DNS names, addresses) are for signers that give what is asked for.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        san = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(san, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def requested_key(csr_pem: str) -> CertificatePublicKeyTypes:
    """The key that a request proves possession of. Raises BadCertificate, also for a key too weak to certify."""
    return load_request(csr_pem).public_key()


def load_request(csr_pem: str) -> x509.CertificateSigningRequest:
    """One that proves possession of its key. Raises BadCertificate, also for a key too weak to certify."""
    if len(csr_pem) > _CSR_BYTES_MAX:
        raise BadCertificate(f"the signing request is larger than {_CSR_BYTES_MAX} bytes")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        valid = request.is_signature_valid
        key = request.public_key()
    except UNREADABLE as error:
        raise BadCertificate(f"the signing request cannot be read: {error}") from None
    if not valid:
        raise BadCertificate("the signing request is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise BadCertificate("the key is neither EC nor RSA: use P-256")
    enough = _RSA_BITS_MIN if isinstance(key, rsa.RSAPublicKey) else _EC_BITS_MIN
    if key.key_size < enough:
        raise BadCertificate(f"a key of {key.key_size} bits is too weak: use P-256, or RSA of {_RSA_BITS_MIN} or more")
    if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(key.curve, _CURVES):
        raise BadCertificate(f"the curve {key.curve.name} is not one that proxies know: use P-256")
    return request


def sign_workload(
    issuer: Issuer, key: CertificatePublicKeyTypes, identity: SpiffeId, now: datetime, lifetime: timedelta
) -> x509.Certificate:
    """A leaf with the identity as its one URI SAN, good for both ends of a connection."""
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
    return _leaf(issuer, key, x509.Name([]), san, now, lifetime)


def sign_server(
    issuer: Issuer, key: CertificatePublicKeyTypes, names: Sequence[str], now: datetime, lifetime: timedelta
) -> x509.Certificate:
    """A leaf for DNS names and IP addresses: what the control plane serves with."""
    san = x509.SubjectAlternativeName([_general_name(name) for name in names])
    return _leaf(issuer, key, x509.Name([]), san, now, lifetime)


def identity_of(certificate_pem: str) -> SpiffeId:
    """The SPIFFE ID of the first certificate in the text. Raises BadCertificate unless it has exactly one URI SAN."""
    certificate = parse_certificates(certificate_pem)[0]
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        raise BadCertificate("the certificate has no subject alternative name") from None
    except UNREADABLE as error:
        raise BadCertificate(f"the certificate's extensions cannot be read: {error}") from None
    uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise BadCertificate(f"the certificate has {len(uris)} URI names; an identity has exactly one")
    try:
        return SpiffeId.parse(uris[0])
    except ValueError as error:
        raise BadCertificate(str(error)) from None


def called(certificate: x509.Certificate) -> str:
    """What people know a certificate by: its identity, else the names it is for, else its subject."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [str(name.value) for name in names]
    except (x509.ExtensionNotFound, *UNREADABLE):
        found = []
    return ", ".join(found) or certificate.subject.rfc4514_string()


def parse_certificates(pem: str) -> list[x509.Certificate]:
    """Every certificate in the text, in order. Raises BadCertificate if there is none."""
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except UNREADABLE as error:
        raise BadCertificate(f"no certificate can be read: {error}") from None


def parse_key(pem: str) -> SigningKey:
    """Raises BadCertificate for anything but an unencrypted EC or RSA private key."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except UNREADABLE as error:
        raise BadCertificate(f"the private key cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise BadCertificate("the private key is neither EC nor RSA")
    return key


def matches(certificate: x509.Certificate, key: SigningKey) -> bool:
    """Whether the certificate is for this key."""
    return certificate.public_key() == key.public_key()


def may_sign(certificate: x509.Certificate) -> bool:
    """Whether it is an authority's."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether it names itself as its issuer, as roots do."""
    return certificate.subject == certificate.issuer


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's key has signed it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except UNREADABLE:
        return False
    return True


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the whole certificate, in hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def leads_to(chain_pem: str, roots: Sequence[x509.Certificate]) -> set[str]:
    """Fingerprints of the roots that the last certificate of a chain is of, or is itself."""
    top = parse_certificates(chain_pem)[-1]
    return {fingerprint(root) for root in roots if top == root or is_issued_by(top, root)}


def named(certificate: x509.Certificate) -> str:
    """For people: the subject, and as much of the fingerprint as tells two of one subject apart."""
    return f"{certificate.subject.rfc4514_string() or 'without a name'} ({fingerprint(certificate)[:SHORT]})"


def check_path(authorities: Sequence[x509.Certificate], now: datetime) -> None:
    """Of an authority up to its root: each may sign, is valid now, and allows as many authorities as are below it. Raises BadCertificate."""
    for below, authority in enumerate(dict.fromkeys(authorities)):
        if not may_sign(authority):
            raise BadCertificate(f"{named(authority)} is not the certificate of an authority")
        if not authority.not_valid_before_utc <= now < authority.not_valid_after_utc:
            span = f"from {authority.not_valid_before_utc.isoformat()} to {authority.not_valid_after_utc.isoformat()}"
            raise BadCertificate(f"{named(authority)} is valid {span}, which is not now")
        allowed = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if allowed is not None and allowed < below:
            raise BadCertificate(f"{named(authority)} allows {allowed} authorities below it, and there are {below}")


def check_revocations(crl_pem: str, authorities: Sequence[x509.Certificate], now: datetime) -> None:
    """Whether the lists can be used: each can be read and has not run out, and there is one of every authority in a path.

    Who checks revocations refuses what it has no list about: a missing one would be the end of everything. Raises BadCertificate.
    """
    lists = parse_revocations(crl_pem)
    for each in lists:
        if each.next_update_utc is not None and each.next_update_utc <= now:
            raise BadCertificate(
                f"the revocation list of {each.issuer.rfc4514_string()} has run out on {each.next_update_utc.isoformat()}"
            )
    for authority in authorities:
        if not any(_has_signed(authority, each) for each in lists):
            raise BadCertificate(
                f"there is no revocation list of {named(authority)}: everything below it would be refused"
            )


def check_not_revoked(chain_pem: str, roots_pem: str, crl_pem: str, now: datetime) -> None:
    """For a chain that leads to one of the roots. What no list is about is refused, as TLS does it. Raises BadCertificate."""
    lists = [each for each in parse_revocations(crl_pem) if each.next_update_utc is None or each.next_update_utc > now]
    chain = parse_certificates(chain_pem)
    for certificate in chain:
        issuers = [each for each in (*chain, *parse_certificates(roots_pem)) if is_issued_by(certificate, each)]
        about = [each for each in lists if any(_has_signed(issuer, each) for issuer in issuers)]
        if not about:
            raise BadCertificate(f"there is no revocation list of {certificate.issuer.rfc4514_string()}")
        if any(each.get_revoked_certificate_by_serial_number(certificate.serial_number) for each in about):
            raise BadCertificate(f"{called(certificate)} is revoked")


def parse_revocations(crl_pem: str) -> list[x509.CertificateRevocationList]:
    """Every revocation list in the text. Raises BadCertificate."""
    try:
        return [x509.load_pem_x509_crl(part.encode()) for part in _CRL.findall(crl_pem)]
    except UNREADABLE as error:
        raise BadCertificate(f"a revocation list cannot be read: {error}") from None


def nothing_revoked(issuer: Issuer, now: datetime) -> str:
    """The list of an authority that has revoked nothing yet, good for as long as itself."""
    ends = issuer.certificate.not_valid_after_utc
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    builder = builder.last_update(now - CLOCK_SKEW).next_update(ends).add_extension(_issued_by(issuer), critical=False)
    signed = builder.sign(issuer.key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def split_revocations(crl_pem: str, authorities: Sequence[x509.Certificate]) -> tuple[str, str]:
    """The lists that these authorities have signed, and all others. Raises BadCertificate."""
    theirs: list[str] = []
    others: list[str] = []
    for each in parse_revocations(crl_pem):
        signed = any(_has_signed(authority, each) for authority in authorities)
        (theirs if signed else others).append(each.public_bytes(serialization.Encoding.PEM).decode())
    return "".join(theirs), "".join(others)


def _has_signed(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    key = authority.public_key()
    if crl.issuer != authority.subject or not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return False
    try:
        return crl.is_signature_valid(key)
    except UNREADABLE:
        return False


def path_to_root(
    own: x509.Certificate, chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """The certificates between an authority and a root, nearest first. Raises BadCertificate if the chain does not lead there."""
    path: list[x509.Certificate] = []
    last = own
    while last not in roots and not any(is_issued_by(last, root) for root in roots):
        candidates = (found for found in chain if found not in (own, *path) and is_issued_by(last, found))
        above = next(candidates, None)
        if above is None:
            raise BadCertificate("cert-chain.pem does not lead from ca-cert.pem to root-cert.pem")
        path.append(above)
        last = above
    return tuple(path)


def common_names(subject: str) -> list[str]:
    """Of a subject written as RFC 4514 has it. Raises BadCertificate for any other text."""
    try:
        attributes = x509.Name.from_rfc4514_string(subject).get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        raise BadCertificate(f"{subject!r} is not a subject as RFC 4514 writes one") from None
    return [str(attribute.value) for attribute in attributes]


def subject(certificate_pem: str) -> str:
    """Of the first certificate in the text, as RFC 4514 writes it."""
    return parse_certificates(certificate_pem)[0].subject.rfc4514_string()


def organization(certificate: x509.Certificate) -> str:
    """In its subject; empty if there is none."""
    found = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(found[0].value) if found else ""


def facts_of(certificate_pem: str) -> CertificateFacts:
    """Of the first certificate in the text."""
    certificate = parse_certificates(certificate_pem)[0]
    return CertificateFacts(
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def to_der(certificate_pem: str) -> list[bytes]:
    """Every certificate in the text as DER."""
    return [c.public_bytes(serialization.Encoding.DER) for c in parse_certificates(certificate_pem)]


def merged(pems: Iterable[str]) -> str:
    """Each certificate of several texts once, in order. Raises BadCertificate."""
    found = (certificate_pem(each) for pem in pems if pem for each in parse_certificates(pem))
    return "".join(dict.fromkeys(found))


def certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: SigningKey) -> str:
    """PKCS#8, unencrypted: for files of mode 0600, Secrets, and Envoy's memory."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _leaf(
    issuer: Issuer,
    key: CertificatePublicKeyTypes,
    subject: x509.Name,
    san: x509.SubjectAlternativeName,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    ends = min(now + lifetime, issuer.certificate.not_valid_after_utc)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(san, critical=True)
        .add_extension(_issued_by(issuer), critical=False)
    )
    return builder.sign(issuer.key, hashes.SHA256())


def _authority(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    ends: datetime,
    path_length: int | None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issued_by(issuer: Issuer) -> x509.AuthorityKeyIdentifier:
    """By the name that its own certificate gives to its key, however that was computed: OpenSSL takes no other for the issuer."""
    try:
        named = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named.value)


def _general_name(name: str) -> x509.GeneralName:
    if name.startswith("spiffe://"):
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
