"""Sets of keys, and what is said of those that cannot be used."""

from __future__ import annotations

import json

import pytest

EC = {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}


def read(words, **rule):
    obj = words.obj(
        "RequestAuthentication",
        "r",
        "ns",
        spec={"jwtRules": [{"issuer": "i"} | rule, {"issuer": "j", "jwksUri": "https://j"}]},
    )
    snapshot = words.snapshot(words.cluster("east", obj))
    [found] = snapshot.request_authentications
    return [rule.issuer for rule in found.rules], [(issue.code, issue.field, issue.what) for issue in snapshot.issues]


def test_a_usable_key_beside_one_that_is_not(words):
    assert read(words, jwks=json.dumps({"keys": [{"kty": "new"}, EC]})) == (["i", "j"], [])


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ({}, "the issuer is no address"),
        ({"jwksUri": "file:///etc/passwd"}, "neither jwks nor a jwksUri"),
        ({"jwksUri": "https://:443/keys"}, "neither jwks nor a jwksUri"),
        ({"jwksUri": "https://i:99999/keys"}, "cannot be read"),
        ({"jwksUri": "https://[i/keys"}, "cannot be read"),
        ({"jwks": "{"}, "not a JSON document"),
        ({"jwks": "[" * 100_000}, "not a JSON document"),
        ({"jwks": "[]"}, "no list of keys"),
        ({"jwks": '{"keys": []}'}, "no list of keys"),
        (
            {"jwks": '{"keys": [1, {"kty": "EC", "x": "AAAA"}, {"kty": "RSA", "n": "*", "e": "AQAB"}]}'},
            "no key of type",
        ),
        ({"jwksUri": "https://i", "timeout": "soon"}, "soon"),
        ({"jwksUri": "https://i", "fromHeaders": [{"name": "a b"}]}, "name of a header"),
        ({"jwksUri": "https://i", "fromHeaders": [{"name": "a", "prefix": "b\n"}]}, "prefix"),
        ({"jwksUri": "https://i", "outputPayloadToHeader": "a\n"}, "name of a header"),
        ({"jwksUri": "https://i", "outputClaimToHeaders": [{"header": "", "claim": "a"}]}, "name of a header"),
        ({"jwksUri": "https://i", "outputClaimToHeaders": [{"header": "a", "claim": ""}]}, "claim without a name"),
    ],
)
def test_a_rule_without_usable_keys_is_left_out_and_told_and_the_others_count(words, rule, what):
    issuers, [(code, field, said)] = read(words, **rule)

    assert issuers == ["j"]
    assert (code, field) == ("ISM0304", "spec.jwtRules[0]")
    assert what in said
