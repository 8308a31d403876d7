"""What the real Envoy is asked about a rendered configuration is what a proxy of ours would be asked."""

from __future__ import annotations

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
