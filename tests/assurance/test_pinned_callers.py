"""A Gateway that takes certain certificates of callers alone: by the hash of the certificate, or of its key."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.assurance.validation.validating import problems_of
from isthmus.cli.envoy_judgement import verdict

CERTIFICATE = "df6ff72fe9116521268f6f2dd4966f51df479883fe7037b39f75916ac3049d1a"
WITH_COLONS = ":".join(CERTIFICATE[at : at + 2] for at in range(0, 64, 2)).upper()
KEY = "NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A="
NOBODYS = "0" * 64

MESH = """
apiVersion: v1
kind: Pod
metadata: {name: in, namespace: edge, labels: {app: in}}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: edge}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: edge}
spec: {hosts: [web.example.com], gateways: [front], http: [{route: [{destination: {host: web}}]}]}
"""


def gateway(**tls: Any) -> dict[str, Any]:
    port = {"number": 443, "name": "https", "protocol": "HTTPS"}
    server = {"port": port, "hosts": ["web.example.com"], "tls": {"mode": "MUTUAL", "credentialName": "web"} | tls}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "front", "namespace": "edge"},
        "spec": {"selector": {"app": "in"}, "servers": [server]},
    }


def judged_by(**tls: Any) -> dict[str, Any]:
    """What Envoy, which takes it, goes by beside the authorities."""
    objects = [*yaml.safe_load_all(MESH), gateway(**tls)]
    scenario = scenario_of({"clusters": [{"id": "east", "objects": objects}]})
    document = render(scenario, node_of(scenario, "router/in.edge", "east"))
    assert verdict(document) == ""
    [listener] = document["listeners"]
    common = listener["filterChains"][0]["transportSocket"]["typedConfig"]["commonTlsContext"]
    found: dict[str, Any] = common["combinedValidationContext"]["defaultValidationContext"]
    return found


@pytest.mark.parametrize("mode", ["MUTUAL", "OPTIONAL_MUTUAL"])
def test_only_callers_with_these_certificates_or_keys_are_taken(mode: str) -> None:
    pins = {"verifyCertificateHash": [CERTIFICATE, WITH_COLONS], "verifyCertificateSpki": [KEY]}

    assert judged_by(mode=mode, **pins) == {
        "verifyCertificateHash": [CERTIFICATE, WITH_COLONS],
        "verifyCertificateSpki": [KEY],
    }


def test_files_are_pinned_to_as_secrets_are() -> None:
    files = {"serverCertificate": "/etc/tls.crt", "privateKey": "/etc/tls.key", "caCertificates": "/etc/ca.crt"}

    assert judged_by(credentialName="", verifyCertificateSpki=[KEY], **files) == {"verifyCertificateSpki": [KEY]}


@pytest.mark.parametrize("field", ["verifyCertificateHash", "verifyCertificateSpki"])
def test_a_hash_that_is_none_lets_nobody_in_and_is_an_error(field: str) -> None:
    pins = {field: ["what is this?"]}

    assert judged_by(**pins) == {"verifyCertificateHash": [NOBODYS]}
    found = problems_of(gateway(**pins))
    assert [each.path for each in found] == [f"spec.servers[0].tls.{field}[0]"]


def test_of_several_hashes_those_that_are_hold() -> None:
    assert judged_by(verifyCertificateHash=["x", CERTIFICATE]) == {"verifyCertificateHash": [CERTIFICATE]}


def test_who_asks_for_no_certificate_pins_none() -> None:
    objects = [*yaml.safe_load_all(MESH), gateway(mode="SIMPLE", verifyCertificateHash=[CERTIFICATE])]
    scenario = scenario_of({"clusters": [{"id": "east", "objects": objects}]})

    assert CERTIFICATE not in str(render(scenario, node_of(scenario, "router/in.edge", "east")))
