"""One call to the certificate service, decided from what is written down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from isthmus.trust import x509
from isthmus.trust.explaining import explain

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CSR = x509.new_request(x509.new_key())


def account(namespace: str, name: str, pod: tuple[str, str] = ("", ""), **status: object) -> dict:
    extra = {"authentication.kubernetes.io/pod-name": [pod[0]], "authentication.kubernetes.io/pod-uid": [pod[1]]}
    user = {
        "username": f"system:serviceaccount:{namespace}:{name}",
        "groups": ["system:serviceaccounts"],
        "extra": extra,
    }
    return {"authenticated": True, "user": user} | status


AGENT = account("istio-system", "ztunnel", ("agent-1", "u1"))
PODS = [
    {"namespace": "istio-system", "name": "agent-1", "uid": "u1", "serviceAccount": "ztunnel", "node": "n1"},
    {"namespace": "shop", "name": "cart-1", "uid": "u2", "serviceAccount": "cart", "node": "n1"},
    {"namespace": "shop", "name": "mail-1", "uid": "u3", "serviceAccount": "mail", "node": "n2"},
]
CONFIG = {
    "trustDomain": "td.example",
    "localCluster": "east",
    "clusterAliases": {"old-east": "east"},
    "clusters": {
        "east": {
            "tokens": {"good": account("shop", "cart"), "agent": AGENT, "loose": account("istio-system", "ztunnel")},
            "pods": PODS,
        },
        "west": {"tokens": {"far": account("shop", "mail"), "agent": AGENT}},
    },
    "env": {"CA_TRUSTED_NODE_ACCOUNTS": "istio-system/ztunnel"},
}


def asked(
    token: str, cluster: str = "", wanted: str = "", config: dict | None = None, **request: object
) -> tuple[str, str]:
    metadata = {"authorization": [f"Bearer {token}"]} | ({"clusterid": cluster} if cluster else {})
    said = {"csr": CSR, "metadata": metadata, "requestMetadata": {"ImpersonatedIdentity": wanted} if wanted else {}}
    answer = explain(CONFIG | (config or {}), said | request, NOW)
    return answer["code"], answer.get("identity", answer["message"])


CART = "spiffe://td.example/ns/shop/sa/cart"
REFUSED = ("UNAUTHENTICATED", "request authenticate failure")


@pytest.mark.parametrize(
    ("token", "cluster", "answer"),
    [
        ("good", "", ("OK", CART)),
        ("good", "east", ("OK", CART)),
        ("good", "old-east", ("OK", CART)),
        ("far", "west", ("OK", "spiffe://td.example/ns/shop/sa/mail")),
        ("good", "west", REFUSED),
        ("far", "east", REFUSED),
        ("good", "nowhere", REFUSED),
        ("none", "", REFUSED),
    ],
)
def test_a_token_counts_in_its_own_cluster(token, cluster, answer):
    assert asked(token, cluster) == answer


@pytest.mark.parametrize(
    "status",
    [
        {"authenticated": False},
        {"user": {"username": "alice", "groups": ["system:serviceaccounts"]}},
        {"user": {"username": "system:serviceaccount:shop", "groups": ["system:serviceaccounts"]}},
        {"user": {"username": "system:serviceaccount:shop:cart", "groups": []}},
    ],
)
def test_only_service_accounts_that_the_api_server_vouches_for(status):
    clusters = {"east": {"tokens": {"t": account("shop", "cart", **status)}}}

    assert asked("t", config={"clusters": clusters}) == REFUSED


IMPERSONATION = ("UNAUTHENTICATED", "request impersonation authentication failure")


@pytest.mark.parametrize(
    ("token", "cluster", "wanted", "answer"),
    [
        ("agent", "", CART, ("OK", CART)),
        # On another node, in another cluster, of another trust domain, of nobody.
        ("agent", "", "spiffe://td.example/ns/shop/sa/mail", IMPERSONATION),
        ("agent", "west", CART, IMPERSONATION),
        ("agent", "", "spiffe://other/ns/shop/sa/cart", IMPERSONATION),
        ("agent", "", "spiffe://td.example/a", IMPERSONATION),
        ("agent", "", "nonsense", IMPERSONATION),
        # A token that is bound to no Pod says nothing of its node; and not everybody is a node agent.
        ("loose", "", CART, IMPERSONATION),
        ("good", "", CART, IMPERSONATION),
    ],
)
def test_a_node_agent_gets_identities_of_pods_beside_it(token, cluster, wanted, answer):
    assert asked(token, cluster, wanted) == answer


def test_nobody_is_a_node_agent_unless_the_operator_says_so():
    assert asked("agent", wanted=CART, config={"env": {}}) == IMPERSONATION


def test_lifetimes_are_the_operators():
    config = {"defaultTTLSeconds": 600, "maxTTLSeconds": 1200}
    answer = explain(CONFIG | config, {"csr": CSR, "metadata": {"authorization": ["Bearer good"]}}, NOW)

    assert x509.facts_of(answer["certChain"][0]).not_after == NOW + timedelta(seconds=600)
    assert asked("good", config=config, validitySeconds=1201)[0] == "INVALID_ARGUMENT"


def test_the_chain_has_every_intermediate_and_ends_with_the_root():
    config = CONFIG | {"intermediate": {"count": 2, "remainingSeconds": 60}}
    answer = explain(config, {"csr": CSR, "metadata": {"authorization": ["Bearer good"]}, "validitySeconds": 3600}, NOW)
    leaf, *above = [x509.parse_certificates(pem)[0] for pem in answer["certChain"]]

    assert len(above) == 3
    assert leaf.not_valid_after_utc == NOW + timedelta(seconds=60)
    for below, issuer in zip([leaf, *above], above, strict=False):
        below.verify_directly_issued_by(issuer)


def test_a_request_that_proves_no_key_is_told():
    assert asked("good", csr="nonsense")[0] == "INVALID_ARGUMENT"
