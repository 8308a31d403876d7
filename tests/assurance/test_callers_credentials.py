"""TLS beyond the mesh with a Secret of the caller's namespace: who is told to ask for it, and what Envoy thinks of that."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.assurance.rendering import node_of, proxy_in, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import verdict
from isthmus.controlplane.tables import Tables
from isthmus.envoy.resources import SECRET

CREDENTIAL = "kubernetes://partner"


def obj(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    group = {"ServiceEntry": "networking.istio.io/v1", "DestinationRule": "networking.istio.io/v1"}
    return {
        "apiVersion": group.get(kind, "v1"),
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop", **fields.pop("metadata", {})},
        **fields,
    }


def entry(name: str) -> dict[str, Any]:
    ports = [{"number": 443, "name": "https", "protocol": "HTTP"}]
    spec = {"hosts": [f"{name}.example"], "resolution": "DNS", "ports": ports}
    return obj("ServiceEntry", name, spec=spec)


def rule(name: str, tls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return obj("DestinationRule", name, spec={"host": f"{name}.example", "trafficPolicy": {"tls": tls}, **more})


def mesh(*objects: dict[str, Any]) -> Any:
    pod = obj("Pod", "caller", metadata={"labels": {"app": "caller"}}, status={"podIP": "10.0.0.1"})
    return scenario_of({"clusters": [{"id": "east", "objects": [pod, *objects]}]})


def rendered(kind: str, *objects: dict[str, Any]) -> dict[str, Any]:
    scenario = mesh(*objects)
    return render(scenario, node_of(scenario, f"{kind}/caller.shop", "east"))


def tls_of(document: dict[str, Any]) -> dict[str, Any]:
    [cluster] = [each for each in document["clusters"] if each["name"] == "outbound|443||partner.example"]
    return cluster["transportSocket"]["typedConfig"]["commonTlsContext"]


MUTUAL = {"mode": "MUTUAL", "credentialName": "partner", "subjectAltNames": ["partner.example"]}
CHOSEN = {"workloadSelector": {"matchLabels": {"app": "caller"}}}


@pytest.mark.parametrize(("kind", "more"), [("sidecar", CHOSEN), ("router", {})])
def test_a_sidecar_that_the_rule_chooses_and_a_gateway_ask_for_the_secret(kind, more):
    document = rendered(kind, entry("partner"), rule("partner", MUTUAL, **more))

    tls = tls_of(document)
    [own] = tls["tlsCertificateSdsSecretConfigs"]
    judged = tls["combinedValidationContext"]
    assert (own["name"], judged["validationContextSdsSecretConfig"]["name"]) == (CREDENTIAL, f"{CREDENTIAL}-cacert")
    names = judged["defaultValidationContext"]["matchTypedSubjectAltNames"]
    assert {each["matcher"]["exact"] for each in names} == {"partner.example"}
    assert verdict(document) == ""


def test_a_sidecar_that_no_rule_chooses_goes_by_the_systems_authorities():
    document = rendered("sidecar", entry("partner"), rule("partner", {"mode": "SIMPLE", "credentialName": "partner"}))

    assert "filename" in tls_of(document)["validationContext"]["trustedCa"]


def test_revoked_certificates_come_from_the_file_that_the_rule_names():
    said = {"mode": "SIMPLE", "caCertificates": "/etc/ca.pem", "caCrl": "/etc/crl.pem"}

    document = rendered("sidecar", entry("partner"), rule("partner", said))

    judged = tls_of(document)["combinedValidationContext"]["validationContextSdsSecretConfig"]
    assert judged["name"] == "file-root:/etc/ca.pem~/etc/crl.pem"
    assert verdict(document) == ""


def test_a_secret_that_another_host_still_needs_stays_when_one_no_longer_does():
    both = [entry("partner"), entry("other"), rule("partner", MUTUAL, **CHOSEN), rule("other", MUTUAL, **CHOSEN)]
    whole, less, none = mesh(*both), mesh(*both[:3]), mesh(*both[:2])
    tables = Tables()
    proxy = proxy_in(whole, node_of(whole, "sidecar/caller.shop", "east"))
    tables.connect(proxy)
    asked = []

    for scenario in (whole, less, none):
        tables.learn(scenario.snapshot())
        list(tables.settling())
        resources = tables.resources(proxy)
        assert resources is not None
        asked.append(sorted(resources.of_type(SECRET)))

    assert asked == [[CREDENTIAL, f"{CREDENTIAL}-cacert"]] * 2 + [[]]
