"""AuthorizationPolicies as Envoy asks them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from google.protobuf import json_format

from isthmus.envoy.authorization import http_filters, network_filters
from isthmus.model.identity import TrustDomain
from isthmus.model.names import Namespace
from isthmus.model.security import Action, Attribute, Authorization, AuthorizationPolicy, Rule

DOMAINS = (TrustDomain("td1"), TrustDomain("td2"))


def policy(action=Action.ALLOW, *rules, name="p", dry_run=False):
    return AuthorizationPolicy(
        action=action, namespace=Namespace("ns"), name=name, selector=(), rules=rules, dry_run=dry_run
    )


def source(name, *values, unless=()):
    return Rule(sources=((Attribute(name, values, unless),),))


def operation(name, *values):
    return Rule(operations=((Attribute(name, values),),))


def http(*policies):
    found = []
    for each in http_filters(Authorization(policies=policies, trust_domains=DOMAINS)):
        message = http_rbac_pb2.RBAC()
        each.typed_config.Unpack(message)
        found.append(json_format.MessageToDict(message))
    return found


def tcp(*policies):
    found = []
    for each in network_filters(Authorization(policies=policies, trust_domains=DOMAINS)):
        message = network_rbac_pb2.RBAC()
        each.typed_config.Unpack(message)
        found.append(json_format.MessageToDict(message))
    return found


def only(filters):
    [one] = filters
    [compiled] = one["rules"]["policies"].values()
    return compiled


def principals(found):
    [one] = found["principals"]
    return json.dumps(one)


@pytest.mark.parametrize("name", ["namespaces", "service_accounts"])
def test_a_namespace_of_a_foreign_mesh_is_not_ours_unless_the_rule_names_its_trust_domain(name):
    said = Attribute(name, ("ns",))
    ours = principals(only(http(policy(Action.ALLOW, Rule(sources=((said,),))))))
    theirs = principals(only(http(policy(Action.ALLOW, Rule(sources=((said, Attribute("trust_domains", ("td9",))),))))))

    assert "spiffe://(td1|td2)/ns/ns/" in ours
    assert "spiffe://[^/]+/ns/ns/" in theirs
    assert "spiffe://td9/" in theirs


def test_a_mesh_may_take_a_namespace_for_every_trust_domains():
    asked = Authorization(
        policies=(policy(Action.ALLOW, source("namespaces", "ns")),), trust_domains=DOMAINS, any_trust_domain=True
    )
    [found] = http_filters(asked)

    assert b"spiffe://[^/]+/ns/ns/sa/.+" in found.typed_config.value


def test_denied_is_asked_before_allowed():
    found = http(policy(Action.ALLOW, Rule()), policy(Action.DENY, Rule(), name="q"))

    assert [each["rules"].get("action", "ALLOW") for each in found] == ["DENY", "ALLOW"]
    assert list(found[0]["rules"]["policies"]) == ["ns[ns]-policy[q]-rule[0]"]


def test_without_policies_nothing_is_asked():
    assert http() == tcp() == []


def test_an_allow_without_rules_allows_nobody_and_a_deny_without_rules_denies_nobody():
    assert http(policy(Action.ALLOW)) == [{"rules": {}}]
    assert http(policy(Action.DENY)) == []


def test_dry_run_has_no_effect_but_counts():
    [found] = http(policy(Action.DENY, Rule(), dry_run=True))

    assert "rules" not in found
    assert found["shadowRulesStatPrefix"] == "istio_dry_run_deny_"


def name(matcher):
    return {"authenticated": {"principalName": matcher}}


def regex(expression):
    return {"safeRegex": {"regex": expression}}


@pytest.mark.parametrize(
    ("rule", "principal"),
    [
        (source("principals", "x/ns/a/sa/b"), name({"exact": "spiffe://x/ns/a/sa/b"})),
        (source("principals", "x/ns/*"), name({"prefix": "spiffe://x/ns/"})),
        (source("principals", "*/sa/b"), name(regex(r"spiffe://.*/sa/b"))),
        (source("principals", "*"), name(regex("spiffe://.+"))),
        (
            source("principals", "td1/ns/a/sa/b"),
            {"orIds": {"ids": [name({"exact": f"spiffe://{td}/ns/a/sa/b"}) for td in ("td1", "td2")]}},
        ),
        (source("namespaces", "a*"), name(regex("spiffe://(td1|td2)/ns/a.*/sa/.+"))),
        (source("service_accounts", "sa"), name(regex("spiffe://(td1|td2)/ns/ns/sa/sa"))),
        (source("service_accounts", "other/sa"), name(regex("spiffe://(td1|td2)/ns/other/sa/sa"))),
        (source("trust_domains", "*.org"), name(regex(r"spiffe://[^/]*\.org/.*"))),
        (source("ip_blocks", "10.0.0.0/8"), {"directRemoteIp": {"addressPrefix": "10.0.0.0", "prefixLen": 8}}),
        (source("remote_ip_blocks", "1.2.3.4"), {"remoteIp": {"addressPrefix": "1.2.3.4", "prefixLen": 32}}),
        (source("ip_blocks", unless=("10.0.0.1",)), {"notId": {"directRemoteIp": {"addressPrefix": "10.0.0.1", "prefixLen": 32}}}),
    ],
)  # fmt: skip
def test_who_asks(rule, principal):
    assert only(http(policy(Action.ALLOW, rule)))["principals"] == [principal]


@pytest.mark.parametrize(
    ("rule", "permission"),
    [
        (operation("methods", "GET"), {"header": {"name": ":method", "stringMatch": {"exact": "GET"}}}),
        (operation("paths", "/a/*"), {"urlPath": {"path": {"prefix": "/a/"}}}),
        (operation("paths", "*.html"), {"urlPath": {"path": {"suffix": ".html"}}}),
        (operation("ports", "80"), {"destinationPort": 80}),
        (operation("hosts", "a.example"), {"header": {"name": ":authority", "stringMatch": regex(r"(?i)a\.example(:[0-9]+)?")}}),
        (
            Rule(conditions=(Attribute("connection.sni", ("a.example",)),)),
            {"requestedServerName": {"exact": "a.example"}},
        ),
        (
            Rule(conditions=(Attribute("experimental.envoy.filters.network.mysql_proxy[shop.orders]", ("[insert]",)),)),
            {"metadata": {
                "filter": "envoy.filters.network.mysql_proxy", "path": [{"key": "shop.orders"}],
                "value": {"listMatch": {"oneOf": {"stringMatch": {"exact": "insert"}}}},
            }},
        ),
        (
            Rule(conditions=(Attribute("experimental.envoy.filters.http.own[tier]", ("gold*",)),)),
            {"metadata": {
                "filter": "envoy.filters.http.own", "path": [{"key": "tier"}],
                "value": {"stringMatch": {"prefix": "gold"}},
            }},
        ),
    ],
)  # fmt: skip
def test_what_is_asked_for(rule, permission):
    assert only(http(policy(Action.ALLOW, rule)))["permissions"] == [permission]


def test_bytes_have_no_requests_so_in_doubt_less_is_let_in():
    needs_request = Rule(
        sources=((Attribute("principals", ("x/ns/a/sa/b",)),),), operations=((Attribute("paths", ("/a",)),),)
    )

    assert tcp(policy(Action.ALLOW, needs_request)) == [{"rules": {}, "statPrefix": "tcp."}]
    assert only(tcp(policy(Action.DENY, needs_request)))["permissions"] == [{"any": True}]


def test_what_a_filter_has_said_is_judged_for_bytes_too():
    drops = Rule(conditions=(Attribute("experimental.envoy.filters.network.mysql_proxy[shop.orders]", ("[drop]",)),))

    for action in (Action.ALLOW, Action.DENY):
        [permission] = only(tcp(policy(action, drops)))["permissions"]
        assert permission["metadata"]["filter"] == "envoy.filters.network.mysql_proxy"


EVERYTHING = Rule(
    sources=(
        tuple(
            Attribute(field, ("a", "b*", "*c", "*"), ("d",))
            for field in ("principals", "namespaces", "service_accounts", "trust_domains", "request_principals")
        ),
        (Attribute("ip_blocks", ("10.0.0.0/8",)), Attribute("remote_ip_blocks", ("::1",))),
    ),
    operations=(
        (
            Attribute("hosts", ("a", "*.b", "c.*", "*")),
            Attribute("ports", ("80",), ("81",)),
            Attribute("methods", ("GET", "*")),
            Attribute("paths", ("/a", "/b/*", "*c", "/d/{*}/e", "/f/{**}")),
        ),
    ),
    conditions=(
        Attribute("request.headers[x-a]", ("1", "2*", "*"), ("3",)),
        Attribute("request.auth.claims[a][b]", ("x",)),
        Attribute("request.auth.audiences", ("y",)),
        Attribute("source.ip", ("10.0.0.1",)),
        Attribute("source.namespace", ("n",)),
        Attribute("destination.ip", ("10.0.0.2/32",)),
        Attribute("destination.port", ("80",)),
        Attribute("connection.sni", ("www",)),
        Attribute("experimental.envoy.filters.network.mysql_proxy[a.b]", ("[insert]", "x*"), ("[drop]",)),
    ),
)


@pytest.mark.parametrize("action", Action)
def test_envoy_accepts_everything_that_a_policy_can_say(mesh, accepted_by_envoy, action):
    authorization = Authorization(
        policies=(policy(action, EVERYTHING), policy(action, EVERYTHING, name="dry", dry_run=True)),
        trust_domains=DOMAINS,
    )
    view = mesh.view(mesh.sample_mesh(), mesh.inbound_port(80), mesh.inbound_port(5432, mesh.Protocol.TCP))

    accepted_by_envoy(mesh.compiled(replace(view, inbound=replace(view.inbound, authorization=authorization))))
