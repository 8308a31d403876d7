"""A trust domain's bundle as SPIFFE exchanges it: a JWK Set (SPIFFE Trust Domain and Bundle, section 4), or plain PEM.

A document and the name of its trust domain come in, because bundles do not say whose they are (section 3); the authorities come out, or
BadBundle with the entry that is wrong. One broken entry refuses the document: X509-SVID section 6.2 would skip an entry without a
certificate and read the first of several, but section 6.1 forbids publishing either, and an authority that vanishes in silence is found
when connections fail. Entries of unknown use or key type are left out, as sections 4.2.1 and 4.2.2 demand, and `ignored` says so.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.model.identity import TrustDomain
from isthmus.trust.x509 import UNREADABLE, certificate_pem, may_sign, parse_certificates

DOCUMENT_BYTES_MAX = 1024 * 1024
_RSA_BITS_MIN = 2048
_CURVES: dict[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
_X509, _JWT = "x509-svid", "jwt-svid"

_Shape = TypeVar("_Shape", bound=msgspec.Struct)
JwtKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class BadBundle(ValueError):
    """A document that is no bundle, and why."""


@dataclass(frozen=True, slots=True)
class JwtAuthority:
    """A key that signs JWT-SVIDs, under the name by which tokens refer to it."""

    key_id: str
    key: JwtKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiffeBundle:
    """Who may vouch for one trust domain. Without any authority it says that nobody may any longer: all were revoked."""

    trust_domain: TrustDomain
    x509_authorities: tuple[x509.Certificate, ...]
    jwt_authorities: tuple[JwtAuthority, ...] = ()
    sequence: int | None = None
    refresh_hint_seconds: int | None = None
    ignored: tuple[str, ...] = ()

    @property
    def x509_authorities_pem(self) -> list[str]:
        return [certificate_pem(authority) for authority in self.x509_authorities]


def parse_bundle(trust_domain: TrustDomain, document: bytes) -> SpiffeBundle:
    """From JSON or PEM, whichever it is. Raises BadBundle."""
    if b"-----BEGIN CERTIFICATE-----" in document and not document.lstrip().startswith(b"{"):
        return parse_pem_bundle(trust_domain, document)
    return parse_json_bundle(trust_domain, document)


def parse_pem_bundle(trust_domain: TrustDomain, document: bytes) -> SpiffeBundle:
    """From certificates one after the other; it has no sequence, no refresh hint and no keys for JWTs. Raises BadBundle."""
    try:
        certificates = parse_certificates(_text(document))
    except ValueError as error:
        raise BadBundle(f"cannot decode the bundle: {error}") from None
    for place, certificate in enumerate(certificates):
        _check_authority(certificate, f"certificate {place}")
    return SpiffeBundle(trust_domain=trust_domain, x509_authorities=_distinct(certificates))


def parse_json_bundle(trust_domain: TrustDomain, document: bytes) -> SpiffeBundle:
    """From the form in which trust domains publish themselves. Raises BadBundle."""
    try:
        key_set = msgspec.json.decode(_text(document), type=_KeySet)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadBundle(f"cannot decode the bundle: {error}") from None
    if key_set.keys is None:
        raise BadBundle("the bundle has no 'keys': no authorities found")
    certificates: list[x509.Certificate] = []
    jwt_authorities: dict[str, JwtAuthority] = {}
    ignored: list[str] = []
    for place, raw in enumerate(key_set.keys):
        kind = _decoded(raw, _KeyKind, place)
        if kind.use not in (_X509, _JWT) or kind.kty not in ("EC", "RSA"):
            ignored.append(f"entry {place}: key type {kind.kty!r} for use {kind.use!r} is not known here")
            continue
        key = _decoded(raw, _Key, place)
        if key.use == _X509:
            certificates.append(_certificate(key, place))
            continue
        authority = _jwt_authority(key, place)
        if authority.key_id in jwt_authorities:
            raise BadBundle(f"{_JWT} entry {place}: keyID {authority.key_id!r} stands for another key already")
        jwt_authorities[authority.key_id] = authority
    return SpiffeBundle(
        trust_domain=trust_domain,
        x509_authorities=_distinct(certificates),
        jwt_authorities=tuple(jwt_authorities.values()),
        sequence=key_set.spiffe_sequence,
        refresh_hint_seconds=key_set.spiffe_refresh_hint,
        ignored=tuple(ignored),
    )


def render_json_bundle(
    authorities: Sequence[x509.Certificate], *, sequence: int | None = None, refresh_hint_seconds: int | None = None
) -> str:
    """The form in which trust domains publish themselves. Without a sequence, who reads it takes the newest that he is handed."""
    said = {"spiffe_sequence": sequence, "spiffe_refresh_hint": refresh_hint_seconds}
    document: dict[str, object] = {name: value for name, value in said.items() if value is not None}
    document["keys"] = [_published(certificate) for certificate in _distinct(authorities)]
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _published(certificate: x509.Certificate) -> dict[str, object]:
    """RFC 7517 wants the key itself beside its certificate. Raises BadBundle for a key that JWKs of bundles cannot have."""
    key = certificate.public_key()
    der = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"kty": "RSA", "use": _X509, "n": _text_of(numbers.n), "e": _text_of(numbers.e), "x5c": [der]}
    curve = next((name for name, kind in _CURVES.items() if isinstance(getattr(key, "curve", None), kind)), "")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not curve:
        raise BadBundle(f"{certificate.subject.rfc4514_string()}: its key is neither RSA nor on {', '.join(_CURVES)}")
    point, size = key.public_numbers(), (key.key_size + 7) // 8
    return {
        "kty": "EC",
        "use": _X509,
        "crv": curve,
        "x": _text_of(point.x, size),
        "y": _text_of(point.y, size),
        "x5c": [der],
    }


def _text_of(number: int, size: int = 0) -> str:
    """Base64url without padding; coordinates have the length of their curve (RFC 7518 section 6.2.1.2)."""
    octets = number.to_bytes(size or (number.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


class _KeySet(msgspec.Struct):
    """Sections 4.1.1 to 4.1.3."""

    keys: list[msgspec.Raw] | None = None
    spiffe_sequence: Annotated[int, msgspec.Meta(ge=0)] | None = None
    spiffe_refresh_hint: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _KeyKind(msgspec.Struct):
    """As much of an entry as may be read before it is known what the rest means."""

    kty: str = ""
    use: str = ""


class _Key(_KeyKind):
    """RFC 7517 section 4 and RFC 7518 sections 6.2 and 6.3, as far as they are for public keys of the two types."""

    kid: str = ""
    x5c: list[str] = []
    crv: str = ""
    x: str = ""
    y: str = ""
    n: str = ""
    e: str = ""


def _decoded(raw: msgspec.Raw, shape: type[_Shape], place: int) -> _Shape:
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.DecodeError as error:
        raise BadBundle(f"cannot decode entry {place}: {error}") from None


def _certificate(key: _Key, place: int) -> x509.Certificate:
    """X509-SVID section 6.1: one certificate of an authority. A key beside it has to be the same (RFC 7517 section 4.7)."""
    where = f"{_X509} entry {place}"
    if len(key.x5c) != 1:
        raise BadBundle(f"expected 1 certificate in {where}; got {len(key.x5c)}")
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(key.x5c[0], validate=True))
        differs = bool(key.x or key.n) and certificate.public_key() != _public_key(key)
    except UNREADABLE as error:
        raise BadBundle(f"{where} cannot be read: {error}") from None
    if differs:
        raise BadBundle(f"{where}: the certificate is not for the key beside it")
    _check_authority(certificate, where)
    return certificate


def _jwt_authority(key: _Key, place: int) -> JwtAuthority:
    """JWT-SVID section 6.1: the key itself, and its name."""
    where = f"{_JWT} entry {place}"
    if not key.kid:
        raise BadBundle(f"{where}: keyID cannot be empty: tokens name their key by 'kid'")
    try:
        return JwtAuthority(key.kid, _public_key(key))
    except UNREADABLE as error:
        raise BadBundle(f"{where} cannot be read: {error}") from None


def _public_key(key: _Key) -> JwtKey:
    """Raises ValueError, also for a point that is not on its curve, and an RSA key shorter than RFC 7518 section 3.3 allows."""
    if key.kty == "RSA":
        found = rsa.RSAPublicNumbers(e=_number(key.e), n=_number(key.n)).public_key()
        if found.key_size < _RSA_BITS_MIN:
            raise ValueError(f"an RSA key of {found.key_size} bits is too weak: it has {_RSA_BITS_MIN} or more")
        return found
    if key.crv not in _CURVES:
        raise ValueError(f"curve {key.crv!r} is none of {', '.join(_CURVES)}")
    return ec.EllipticCurvePublicNumbers(_number(key.x), _number(key.y), _CURVES[key.crv]()).public_key()


def _number(text: str) -> int:
    """Base64url without padding, as RFC 7518 section 2 has it."""
    if not text:
        raise ValueError("a part of the key is missing")
    return int.from_bytes(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))


def _check_authority(certificate: x509.Certificate, where: str) -> None:
    if not may_sign(certificate):
        raise BadBundle(f"{where}: the certificate is not an authority's; its CA flag is not set")


def _distinct(certificates: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    return tuple(dict.fromkeys(certificates))


def _text(document: bytes) -> str:
    if len(document) > DOCUMENT_BYTES_MAX:
        raise BadBundle(f"the bundle is larger than {DOCUMENT_BYTES_MAX} bytes")
    return document.decode()
