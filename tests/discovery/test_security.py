"""Which rule holds: the narrowest that says something, the oldest of its level."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.discovery.security import authorization_for, mutual_tls_mode
from isthmus.model.names import Namespace
from isthmus.model.security import Action, AuthorizationPolicy, MutualTlsMode, PeerAuthentication

OWN = (("app", "a"), ("version", "v1"))
STRICT, PERMISSIVE, DISABLE = MutualTlsMode.STRICT, MutualTlsMode.PERMISSIVE, MutualTlsMode.DISABLE


def rule(namespace, mode=None, selector=(), ports=(), created="1"):
    return PeerAuthentication(
        created=created, namespace=Namespace(namespace), name="n", selector=selector, mode=mode, port_modes=ports
    )


APP = (("app", "a"),)


@pytest.mark.parametrize(
    ("rules", "port", "mode"),
    [
        ([], 80, PERMISSIVE),
        ([rule("istio-system", STRICT)], 80, STRICT),
        ([rule("other", STRICT)], 80, PERMISSIVE),
        ([rule("istio-system", STRICT), rule("ns", DISABLE)], 80, DISABLE),
        ([rule("istio-system", STRICT), rule("ns")], 80, STRICT),
        ([rule("ns", STRICT), rule("ns", DISABLE, APP)], 80, DISABLE),
        ([rule("ns", STRICT), rule("ns", DISABLE, (("app", "b"),))], 80, STRICT),
        ([rule("ns", STRICT), rule("ns", None, APP, ((80, DISABLE),))], 80, DISABLE),
        ([rule("ns", STRICT), rule("ns", None, APP, ((80, DISABLE),))], 81, STRICT),
        ([rule("ns", STRICT), rule("ns", PERMISSIVE, APP, ((80, None),))], 80, PERMISSIVE),
        ([rule("ns", STRICT, created="2"), rule("ns", DISABLE, created="1")], 80, DISABLE),
    ],
)
def test_how_mutual_tls_is(words, rules, port, mode):
    snapshot = replace(words.Mesh().snapshot(), peer_authentications=tuple(rules))

    assert mutual_tls_mode(Namespace("ns"), OWN, port, snapshot) is mode


def policy(namespace, selector=()):
    return AuthorizationPolicy(
        action=Action.DENY, namespace=Namespace(namespace), name=namespace, selector=selector, rules=(), dry_run=False
    )


def test_policies_of_the_mesh_and_of_the_own_namespace_that_select_the_workload(words):
    policies = (policy("istio-system"), policy("ns", APP), policy("ns", (("app", "b"),)), policy("other"))
    snapshot = replace(words.Mesh().snapshot(), authorization_policies=policies)

    found = authorization_for(Namespace("ns"), OWN, snapshot)

    assert found.policies == policies[:2]


def test_an_endpoint_where_mutual_tls_is_off_is_called_plainly_nearby_and_not_at_all_from_elsewhere(words):
    mesh = words.Mesh()
    mesh.gateways = [words.gateway("n1", "c1", "1.1.1.1")]
    mesh.endpoints = [words.endpoint("10.0.0.1", "n1", "c1")]
    snapshot = replace(mesh.snapshot(), peer_authentications=(rule("ns", DISABLE),))
    mesh.snapshot = lambda: snapshot

    assert words.transcript(mesh.upstream(words.scope("n1", "c1"))) == ["10.0.0.1:8080 1 direct, plaintext"]
    assert words.transcript(mesh.upstream(words.scope("n2", "c2"))) == ["10.0.0.1 - mutual_tls_disabled"]


@pytest.mark.parametrize("one_bundle", [False, True])
def test_whom_a_proxy_calls_is_judged_by_what_its_agent_has(words, one_bundle):
    scope = replace(words.scope("n1", "c1"), trusts_in_one_bundle=one_bundle)

    assert words.Mesh().upstream(scope).judged_by_one_bundle is one_bundle
