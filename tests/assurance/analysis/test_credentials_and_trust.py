"""What needs certificates: credentials of gateways, roots of clusters, bundles of webhooks, tokens of remote secrets."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isthmus.assurance.analysis.analyzing import GivenCluster, Question, analyze
from isthmus.assurance.analysis.messages import origin_of
from isthmus.model.identity import TrustDomain
from isthmus.trust import x509

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def authority() -> tuple[x509.Issuer, str]:
    issuer = x509.new_root(TrustDomain.parse("cluster.local"), NOW - DAY, 10 * DAY)
    return issuer, x509.certificate_pem(issuer.certificate)


def pair(days: int = 5) -> tuple[str, str]:
    issuer, _ = authority()
    key = x509.new_key()
    leaf = x509.sign_server(issuer, key.public_key(), ["a.example"], NOW - 2 * DAY, timedelta(days=days))
    return x509.certificate_pem(leaf), x509.key_pem(key)


def found(clusters: dict[str, list[Any]], *codes: str) -> list[str]:
    question = Question(
        clusters=[GivenCluster(id=name, objects=objects) for name, objects in clusters.items()], now=NOW
    )
    issues = [issue for issue in analyze(question) if issue.code in codes]
    return [f"{issue.code} {origin_of(issue.subject)}: {issue.what}" for issue in issues]


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def with_secret(data: dict[str, str]) -> list[Any]:
    tls = {"mode": "SIMPLE", "credentialName": "cert"}
    server = {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["a.example"], "tls": tls}
    return [
        {
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "edge"},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert", "namespace": "istio-system"}, "data": data},
    ]  # fmt: skip


CREDENTIALS = "IST0101", "IST0161", "ISM0826"


def test_a_good_credential_says_nothing() -> None:
    certificate, key = pair()

    assert found({"": with_secret({"tls.crt": encoded(certificate), "tls.key": encoded(key)})}, *CREDENTIALS) == []


def test_an_expired_certificate_is_told_with_its_end() -> None:
    certificate, key = pair(days=1)

    [said] = found({"": with_secret({"tls.crt": encoded(certificate), "tls.key": encoded(key)})}, *CREDENTIALS)

    assert said.startswith("IST0161 Gateway edge/g")
    assert "expired at 2025-12-31" in said


def test_a_key_of_another_certificate_is_told() -> None:
    data = {"tls.crt": encoded(pair()[0]), "tls.key": encoded(pair()[1])}

    [said] = found({"": with_secret(data)}, *CREDENTIALS)

    assert said.startswith("ISM0826 Gateway edge/g")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"a": "b"}, "has neither"),
        ({"tls.crt": "%", "tls.key": "%"}, "not base64"),
        ({"tls.crt": encoded("no"), "tls.key": encoded("no")}, "cannot be read"),
    ],
)
def test_what_is_no_pair_is_told(data: dict[str, str], why: str) -> None:
    [said] = found({"": with_secret(data)}, *CREDENTIALS)

    assert why in said


def config_map(name: str, namespace: str, root: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"root-cert.pem": root}}


def test_clusters_of_one_trust_domain_need_a_common_root() -> None:
    (_, one), (_, other) = authority(), authority()

    def seen(east: str, west: str) -> list[str]:
        return found(
            {
                "east": [config_map("istio-ca-root-cert", "shop", east)],
                "west": [config_map("istio-ca-root-cert", "shop", west)],
            },
            "ISM0812",
        )

    assert seen(one, one) == []
    assert seen(one, other + one) == []
    [said] = seen(one, other)
    assert said.startswith("ISM0812 Cluster west: has no root certificate in common with east")


def test_namespaces_of_one_cluster_have_one_root() -> None:
    (_, new), (_, old) = authority(), authority()
    objects = [config_map("istio-ca-root-cert", "istio-system", new), config_map("istio-ca-root-cert", "shop", old)]

    [said] = found({"east": objects}, "ISM0831")

    assert said.startswith("ISM0831 ConfigMap shop/istio-ca-root-cert")


def test_a_webhook_trusts_its_control_plane() -> None:
    (_, own), (_, other) = authority(), authority()

    def seen(bundle: str) -> list[str]:
        webhook = {
            "name": "namespace.sidecar-injector.istio.io",
            "clientConfig": {"service": {"name": "istiod", "namespace": "istio-system"}, "caBundle": encoded(bundle)},
        }
        configuration = {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "istio-sidecar-injector"}, "webhooks": [webhook],
        }  # fmt: skip
        return found({"east": [config_map("istio-ca-root-cert", "istio-system", own), configuration]}, "ISM0830")

    assert seen(own) == []
    assert len(seen(other)) == 1


@pytest.mark.parametrize(("days", "said"), [(90, None), (2, "expires in 2.0 days"), (-3, "expired 3 days ago")])
def test_a_remote_secrets_token_is_watched(days: int, said: str | None) -> None:
    claims = {"exp": int((NOW + timedelta(days=days)).timestamp())}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    kubeconfig = {"users": [{"user": {"token": f"a.{body}.b"}}], "clusters": [{"cluster": {"server": "https://w"}}]}
    secret = {
        "apiVersion": "v1", "kind": "Secret", "stringData": {"west": json.dumps(kubeconfig)},
        "metadata": {"name": "west", "namespace": "istio-system", "labels": {"istio/multiCluster": "true"}},
    }  # fmt: skip

    seen = found({"east": [secret]}, "ISM0823")

    assert (said is None and seen == []) or (said is not None and said in seen[0])
