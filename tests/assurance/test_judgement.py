"""What the real Envoy is asked about a rendered configuration is what a proxy of ours would be asked."""

from __future__ import annotations

import pytest
import yaml

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import verdict

MESH = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
status: {podIP: 10.0.0.1}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - match: [{uri: {regex: "/(item-[0-9]{1,400}|list)/.*"}}]
    route: [{destination: {host: web}}]
"""


def test_an_expression_longer_than_envoys_own_limit_is_taken_as_a_proxy_takes_it() -> None:
    scenario = scenario_of({"clusters": [{"id": "east", "objects": list(yaml.safe_load_all(MESH))}]})

    document = render(scenario, node_of(scenario, "sidecar/client.shop", "east"))

    assert "item-[0-9]{1,400}" in str(document["routes"])
    assert verdict(document) == ""


ORIGINATION = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: tcp, port: 3306}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
status: {podIP: 10.0.0.1}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec:
  host: web.shop.svc.cluster.local
  trafficPolicy:
    tls: {mode: SIMPLE, credentialName: web-ca}
    portLevelSettings:
    - port: {number: 3306}
      tls: {mode: MUTUAL, clientCertificate: /etc/web/tls.crt, privateKey: /etc/web/tls.key, caCertificates: /etc/web/ca.crt, caCrl: /etc/web/crl.pem}
"""


@pytest.mark.parametrize("kind", ["sidecar", "router"])
def test_upstreams_whose_secrets_are_fetched_are_judged(kind: str) -> None:
    """Envoy 1.40 crashes at static clusters that ask for secrets over ADS; a proxy of ours has none, so that is no verdict about a rule."""
    scenario = scenario_of({"clusters": [{"id": "east", "objects": list(yaml.safe_load_all(ORIGINATION))}]})

    document = render(scenario, node_of(scenario, f"{kind}/client.shop", "east"))

    assert "file-root:/etc/web/ca.crt~/etc/web/crl.pem" in str(document["clusters"])
    assert verdict(document) == ""
