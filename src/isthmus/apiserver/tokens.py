"""Service account tokens: JSON Web Tokens signed with ES256 (RFC 7515, RFC 7518 section 3.4), bound to an audience and a time."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from isthmus.apiserver.uids import new_uid

ISSUER = "https://kubernetes.default.svc.cluster.local"
SECONDS_MIN = 600
_SIGNED_MAX = 1024
_SECONDS_MAX = 2**32
_COORDINATE_BYTES = 32

Claims = dict[str, Any]


class Tokens:
    """Signs and checks with one key. Time is an argument, in seconds since 1970."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._key_id = _base64url(hashlib.sha256(der).digest())
        self._signed: dict[str, Claims] = {}
        """Tokens whose signature was checked: that does not change, the time does."""

    def issue(
        self,
        *,
        namespace: str,
        account: str,
        account_uid: str,
        audiences: Sequence[str],
        seconds: int,
        now: int,
        bound_to: dict[str, Any] | None = None,
    ) -> tuple[str, int]:
        """The token, and when it expires. `bound_to` adds a Pod or a Node to its claims."""
        expires = now + min(max(seconds, SECONDS_MIN), _SECONDS_MAX)
        claims = {
            "aud": list(audiences) or [ISSUER],
            "exp": expires,
            "iat": now,
            "nbf": now,
            "iss": ISSUER,
            "jti": new_uid(),
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": account_uid}}
            | (bound_to or {}),
        }
        head = _base64url(msgspec.json.encode({"alg": "ES256", "kid": self._key_id, "typ": "JWT"}))
        signed = f"{head}.{_base64url(msgspec.json.encode(claims))}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(_COORDINATE_BYTES) + s.to_bytes(_COORDINATE_BYTES)
        return f"{signed}.{_base64url(signature)}", expires

    def verified(self, token: str, now: int) -> Claims | None:
        """The claims of a token of ours that is valid now; None for any other text."""
        claims = self._signed.get(token)
        if claims is None:
            claims = self._claims(token)
            if claims is None:
                return None
            if len(self._signed) >= _SIGNED_MAX:
                self._signed.clear()
            self._signed[token] = claims
        valid = isinstance(claims.get("exp"), int) and claims["exp"] > now and claims.get("nbf", 0) <= now
        return claims if valid and claims.get("iss") == ISSUER else None

    def _claims(self, token: str) -> Claims | None:
        """What we have signed; None for any other text."""
        parts = token.split(".")
        if len(parts) != 3:
            return None
        try:
            head = msgspec.json.decode(_from_base64url(parts[0]))
            claims: Claims = msgspec.json.decode(_from_base64url(parts[1]), type=dict[str, Any])
            signature = _from_base64url(parts[2])
        except (msgspec.MsgspecError, binascii.Error, ValueError):
            return None
        if not isinstance(head, dict) or head.get("alg") != "ES256" or len(signature) != 2 * _COORDINATE_BYTES:
            return None
        r, s = signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:]
        encoded = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
        try:
            self._key.public_key().verify(encoded, f"{parts[0]}.{parts[1]}".encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return None
        return claims

    def key_set(self) -> dict[str, Any]:
        """JSON Web Key Set (RFC 7517), for `/openid/v1/jwks`."""
        numbers = self._key.public_key().public_numbers()
        key = {
            "use": "sig",
            "kty": "EC",
            "kid": self._key_id,
            "crv": "P-256",
            "alg": "ES256",
            "x": _base64url(numbers.x.to_bytes(_COORDINATE_BYTES)),
            "y": _base64url(numbers.y.to_bytes(_COORDINATE_BYTES)),
        }
        return {"keys": [key]}


def discovery_document() -> dict[str, Any]:
    """For `/.well-known/openid-configuration`."""
    return {
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
