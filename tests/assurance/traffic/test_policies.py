"""What access control makes of a request, and whose policy it was."""

from __future__ import annotations

import pytest

from isthmus.assurance.traffic.filters import Verdict
from isthmus.assurance.traffic.request import Request, Tls
from isthmus.assurance.traffic.walk import Outcome

ANYBODY = [{"any": True}]
SHOP = [{"authenticated": {"principalName": {"prefix": "spiffe://mesh/ns/shop/"}}}]
GET = [{"header": {"name": ":method", "stringMatch": {"exact": "GET"}}}]


def policy(permissions=ANYBODY, principals=ANYBODY):
    return {"permissions": permissions, "principals": principals}


def judged(words, request, *filters):
    manager = words.http(words.host("all", "*"), filters=filters)
    return words.walked(request, words.chain("http", manager))


def caller(name: str, **more: object) -> Request:
    return Request(port=80, tls=Tls.MUTUAL, caller=f"spiffe://mesh/ns/{name}/sa/x", **more)


def test_an_allow_policy_lets_in_what_it_matches_and_nothing_else(words):
    allow = words.rbac("ALLOW", readers=policy(GET, SHOP))

    assert judged(words, caller("shop"), allow).judged[0].policy == "AuthorizationPolicy shop/readers"
    for refused in (caller("shop", method="POST"), caller("bank"), Request(port=80)):
        found = judged(words, refused, allow)
        assert (found.outcome, found.status, found.judged[0].policy) == (
            Outcome.DENIED,
            403,
            "AuthorizationPolicy shop/readers",
        )


def test_rules_without_policies_allow_nobody(words):
    nobody = {"name": "envoy.filters.http.rbac", "typedConfig": {"rules": {}}}

    assert judged(words, caller("shop"), nobody).outcome is Outcome.DENIED


def test_the_filter_that_denies_is_the_last_that_is_asked(words):
    found = judged(words, caller("shop"), words.rbac("DENY", no=policy()), words.rbac("ALLOW", all=policy()))

    assert [(each.verdict, each.policy) for each in found.judged] == [
        (Verdict.DENIED, "AuthorizationPolicy shop/no"),
    ]


@pytest.mark.parametrize(
    ("permission", "allowed"),
    [
        ({"urlPath": {"path": {"prefix": "/a"}}}, True),
        ({"urlPath": {"path": {"exact": "/a"}}}, False),
        ({"notRule": {"urlPath": {"path": {"exact": "/a"}}}}, True),
        ({"andRules": {"rules": [{"any": True}, {"destinationPort": 81}]}}, False),
        ({"orRules": {"rules": [{"destinationPort": 80}, {"destinationPort": 81}]}}, True),
        ({"destinationIp": {"addressPrefix": "10.0.0.0", "prefixLen": 8}}, True),
        ({"uriTemplate": {"typedConfig": {"pathTemplate": "/a/**"}}}, True),
        ({"requestedServerName": {"exact": "x"}}, False),
    ],
)
def test_permissions(words, permission, allowed):
    request = Request(port=80, address="10.0.0.1", path="/a/b?c")

    found = judged(words, request, words.rbac("ALLOW", p=policy([permission])))

    assert (found.outcome is not Outcome.DENIED) == allowed


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [
        ({"authenticated": {}}, True),
        ({"notId": {"authenticated": {}}}, False),
        ({"directRemoteIp": {"addressPrefix": "10.9.0.0", "prefixLen": 16}}, True),
        ({"orIds": {"ids": [{"remoteIp": {"addressPrefix": "192.0.2.0", "prefixLen": 24}}, {"any": True}]}}, True),
        (
            {
                "metadata": {
                    "filter": "envoy.filters.http.jwt_authn",
                    "path": [{"key": "payload"}, {"key": "groups"}],
                    "value": {"listMatch": {"oneOf": {"stringMatch": {"exact": "admin"}}}},
                }
            },
            True,
        ),
    ],
)
def test_principals(words, principal, allowed):
    request = caller("shop", source="10.9.1.1", claims={"groups": ["staff", "admin"]})

    found = judged(words, request, words.rbac("ALLOW", p=policy(principals=[principal])))

    assert (found.outcome is not Outcome.DENIED) == allowed


def test_what_only_a_running_envoy_can_decide_is_said(words):
    odd = words.rbac("ALLOW", p={"permissions": ANYBODY, "principals": ANYBODY, "condition": {}})

    [found] = judged(words, caller("shop"), odd).judged

    assert (found.verdict, found.says) == (Verdict.UNDECIDED, "a running Envoy has to decide: a CEL condition")


def test_a_demanded_token_is_missed(words):
    demand = {
        "name": "envoy.filters.http.jwt_authn",
        "typedConfig": {"rules": [{"match": {"prefix": "/"}, "requires": {"providerName": "x"}}]},
    }

    assert judged(words, Request(port=80), demand).outcome is Outcome.DENIED
    assert judged(words, Request(port=80, claims={"sub": "me"}), demand).outcome is not Outcome.DENIED


def test_an_external_server_is_asked_where_the_shadow_rule_matches(words):
    rules = {"policies": {"istio-ext-authz-ns[shop]-policy[custom]-rule[0]": policy(GET)}}
    shadow = {"name": "envoy.filters.http.rbac", "typedConfig": {"shadowRules": rules}}
    asking = {
        "name": "envoy.filters.http.ext_authz",
        "typedConfig": {"filterEnabledMetadata": {}, "httpService": {"serverUri": {"cluster": "judge"}}},
    }

    asked = judged(words, Request(port=80), shadow, asking).judged
    spared = judged(words, Request(port=80, method="POST"), shadow, asking).judged

    assert [(each.verdict, each.policy) for each in asked] == [(Verdict.ASKED, "AuthorizationPolicy shop/custom")]
    assert spared == ()
