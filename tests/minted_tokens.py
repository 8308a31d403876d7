"""Tokens of an issuer beyond the clusters, and its keys as it publishes them."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

NOW = 1_800_000_000.0
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
GOOD = {"iss": "https://issuer.example", "aud": ["mesh"], "sub": "system:serviceaccount:shop:cart", "exp": NOW + 60}


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8))


def public(key: Any, name: str) -> dict[str, Any]:
    found = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return {"kty": "RSA", "kid": name, "n": number(found.n), "e": number(found.e)}
    return {"kty": "EC", "kid": name, "crv": "P-256", "x": number(found.x), "y": number(found.y), "use": "sig"}


def token(key: Any = KEY, algorithm: str = "RS256", name: str = "k1", head: Any = (), **changed: Any) -> str:
    """A good one, but for what is changed; None leaves a claim out."""
    claims = {name: value for name, value in (GOOD | changed).items() if value is not None}
    first = {"alg": algorithm} | ({"kid": name} if name else {}) | dict(head)
    text = ".".join(encoded(json.dumps(part).encode()) for part in (first, claims))
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    else:
        r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32) + s.to_bytes(32)
    return f"{text}.{encoded(signature)}"
