"""Tokens of an issuer beyond the clusters (OpenID Connect), which stand for service accounts. Keys and time are handed in.

Two algorithms count, RS256 and ES256 (RFC 7518), each with keys of its own type alone: a token's word on how it is signed chooses nothing
else, and whoever can check a token cannot make one.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from isthmus.model.names import Namespace
from isthmus.trust.authentication import ServiceAccount

_LEEWAY_SECONDS = 60
_RSA_BITS_MIN = 2048
_COORDINATE_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideIssuer:
    """Who signs, and for whom a token has to be: one of `audiences`. Its keys are `jwks`, or are fetched from `jwks_uri`."""

    issuer: str
    audiences: tuple[str, ...]
    jwks: str = ""
    jwks_uri: str = ""


class _Head(msgspec.Struct):
    alg: str
    kid: str = ""
    crit: list[str] = []


class _Claims(msgspec.Struct):
    iss: str
    aud: str | list[str]
    sub: str
    exp: float
    nbf: float = 0.0


class _Key(msgspec.Struct):
    kty: str
    kid: str = ""
    use: str = "sig"
    n: str = ""
    e: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""


class _Keys(msgspec.Struct):
    keys: list[dict[str, Any]]


def account_of_token(token: str, rule: OutsideIssuer, jwks: str, now: float) -> ServiceAccount | None:
    """None for a token that proves nothing: of another issuer or audience, out of its time, not signed by one of the keys, or not for a
    service account (`system:serviceaccount:NAMESPACE:NAME`).
    """
    try:
        head_text, claims_text, signature_text = token.split(".")
        head = msgspec.json.decode(_decoded(head_text), type=_Head)
        claims = msgspec.json.decode(_decoded(claims_text), type=_Claims)
        signed, signature = f"{head_text}.{claims_text}".encode(), _decoded(signature_text)
        keys = list(_keys(jwks, head.kid))
    except (ValueError, RecursionError):  # Whatever of it is no JSON, no base64, no text, or too deep.
        return None
    if head.crit or not any(_is_signed(head.alg, key, signed, signature) for key in keys):
        return None
    audiences = {claims.aud} if isinstance(claims.aud, str) else set(claims.aud)
    if claims.iss != rule.issuer or audiences.isdisjoint(rule.audiences):
        return None
    if not claims.nbf - _LEEWAY_SECONDS <= now < claims.exp:
        return None
    parts = claims.sub.split(":")
    if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"] or not all(parts):
        return None
    return ServiceAccount(Namespace(parts[2]), parts[3])


def _is_signed(algorithm: str, key: _Key, signed: bytes, signature: bytes) -> bool:
    try:
        match algorithm, key.kty:
            case "RS256", "RSA":
                rsa_key = rsa.RSAPublicNumbers(_number(key.e), _number(key.n)).public_key()
                rsa_key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
                return rsa_key.key_size >= _RSA_BITS_MIN
            case "ES256", "EC" if key.crv == "P-256" and len(signature) == 2 * _COORDINATE_BYTES:
                curve_key = ec.EllipticCurvePublicNumbers(_number(key.x), _number(key.y), ec.SECP256R1()).public_key()
                r, s = (int.from_bytes(half) for half in (signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:]))
                curve_key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
                return True
    except (InvalidSignature, ValueError):
        return False
    return False


def _keys(jwks: str, name: str) -> Iterator[_Key]:
    """Those that the token may mean: of its name, where it has one. A key that cannot be read is none. Raises ValueError."""
    for each in msgspec.json.decode(jwks, type=_Keys).keys:
        try:
            key = msgspec.convert(each, type=_Key)
        except msgspec.ValidationError:
            continue
        if key.use == "sig" and (not name or key.kid == name):
            yield key


def _number(text: str) -> int:
    return int.from_bytes(_decoded(text))


def _decoded(text: str) -> bytes:
    """base64url without padding. Raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
