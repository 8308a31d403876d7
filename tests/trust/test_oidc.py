"""Tokens of an issuer beyond the clusters: what one has to be to prove anything, and the forgeries that do not."""

from __future__ import annotations

import hmac
import json

import pytest
from cryptography.hazmat.primitives import serialization
from minted_tokens import EC_KEY, GOOD, KEY, NOW, OTHER_KEY, SHORT_KEY, encoded, public, token

from isthmus.model.identity import SpiffeId
from isthmus.model.names import ClusterId, Namespace
from isthmus.trust.authentication import Authenticator, Caller, NotAuthenticated, ServiceAccount
from isthmus.trust.oidc import OutsideIssuer, account_of_token

ISSUER = OutsideIssuer(issuer="https://issuer.example", audiences=("mesh", "other"))
CART = ServiceAccount(Namespace("shop"), "cart")
UNREADABLE = [{"kty": 1}, {"kty": "EC", "kid": "k1", "crv": "P-256", "x": "AA", "y": "AA"}, {"kty": "RSA", "kid": "k1"}]
JWKS = json.dumps({"keys": [*UNREADABLE, public(KEY, "k1"), public(EC_KEY, "k2"), public(SHORT_KEY, "k3")]})


def written(algorithm: str) -> str:
    """Head and claims, without a signature."""
    parts = ({"alg": algorithm, "kid": "k1"}, GOOD)
    return ".".join(encoded(json.dumps(part).encode()) for part in parts)


def signed_with_the_public_key() -> str:
    """HS256 with the public key as the secret: what a checker falls for that believes the token's own word on its algorithm."""
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    secret, text = KEY.public_key().public_bytes(*form), written("HS256")
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


@pytest.mark.parametrize(
    "good",
    [
        token(),
        token(EC_KEY, "ES256", "k2"),
        token(aud="other"),
        token(nbf=NOW - 1),
        token(nbf=NOW + 30),
        token(name=""),
    ],
)
def test_a_good_token_is_a_service_account(good):
    assert account_of_token(good, ISSUER, JWKS, NOW) == CART


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(token(iss="https://elsewhere.example"), id="another issuer"),
        pytest.param(token(aud=["somebody-else"]), id="another audience"),
        pytest.param(token(aud=None), id="no audience"),
        pytest.param(token(exp=NOW), id="expired"),
        pytest.param(token(exp=None), id="for ever"),
        pytest.param(token(nbf=NOW + 3600), id="not valid yet"),
        pytest.param(token(OTHER_KEY), id="signed with another key"),
        pytest.param(token(name="k2"), id="the name of another key"),
        pytest.param(token(name="k9"), id="a key that is not there"),
        pytest.param(token(SHORT_KEY, name="k3"), id="signed with a short key"),
        pytest.param(token(EC_KEY, "RS256", "k2"), id="signed otherwise than it says"),
        pytest.param(token(head={"crit": ["b64"]}), id="an extension that must be understood"),
        pytest.param(written("none") + ".", id="not signed"),
        pytest.param(signed_with_the_public_key(), id="signed with the public key"),
        pytest.param(token(sub="alice@example.com"), id="no service account"),
        pytest.param(token(sub="system:serviceaccount:shop"), id="half a service account"),
        pytest.param(token(sub="system:serviceaccount:shop:"), id="no name"),
        pytest.param(token(sub="system:serviceaccount:shop:cart:admin"), id="more than a service account"),
        pytest.param(token()[:-8] + "AAAAAAAA", id="another signature"),
        pytest.param("", id="nothing"),
        pytest.param("a.b.c", id="garbage"),
        pytest.param(f"{encoded(b'[' * 100_000)}.{encoded(b'{' * 100_000)}.", id="deep garbage"),
    ],
)
def test_any_other_is_nobodys(bad):
    assert account_of_token(bad, ISSUER, JWKS, NOW) is None


@pytest.mark.parametrize(
    "keys", ["", "{}", "[]", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AAAA", "kid": "k1"}]}']
)
def test_without_keys_nothing_is_proved(keys):
    assert account_of_token(token(), ISSUER, keys, NOW) is None


async def test_clusters_are_asked_about_tokens_of_others(domain):
    asked = []

    async def review(said: str, cluster: ClusterId) -> None:
        asked.append((said, cluster))

    authenticator = Authenticator(
        domain, ClusterId("east"), review, lambda: 0.0, None, lambda said: account_of_token(said, ISSUER, JWKS, NOW)
    )

    caller = await authenticator.caller({"authorization": f"Bearer {token()}", "clusterid": "west"}, "")
    with pytest.raises(NotAuthenticated):
        await authenticator.caller({"authorization": "Bearer another"}, "")

    assert caller == Caller(SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/cart"), None, "outside token")
    assert asked == [("another", "east")]
