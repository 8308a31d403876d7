"""Texts of users that Envoy would refuse, in objects that no admission has seen: each costs itself, and never a listener or a table of routes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import verdict

SHOP = yaml.safe_load((Path(__file__).parent / "explaining" / "shop.yaml").read_text())
GATEWAY = """
apiVersion: v1
kind: Pod
metadata: {name: edge, namespace: shop, labels: {app: edge}}
status: {podIP: 10.0.0.99}
---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: shop}
spec: {clusterIP: 10.96.0.99, selector: {app: edge}, ports: [{name: tls, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: edge, namespace: shop, labels: {kubernetes.io/service-name: edge}}
addressType: IPv4
ports: [{name: tls, port: 443}]
endpoints: [{addresses: [10.0.0.99], targetRef: {kind: Pod, name: edge}}]
"""
OBJECTS = list(
    yaml.safe_load_all("""
apiVersion: networking.istio.io/v1
kind: VirtualService
spec:
  hosts: [cart.shop.svc.cluster.local., cart]
  http:
  - match: [{withoutHeaders: {a: {prefix: ""}}, queryParams: {b: {prefix: ""}}, method: {prefix: ""}}]
    route: [{destination: {host: cart}}]
  - headers: {request: {set: {a: "%CEL(zork())%"}}}
    route: [{destination: {host: cart}}]
  - rewrite: {uri: /a, uriRegexRewrite: {match: /b, rewrite: /c}}
    route: [{destination: {host: cart}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
spec:
  hosts: ["*-x.example", "*.x.example"]
  ports: [{number: 8443, name: tls, protocol: TLS}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: Gateway
spec:
  selector: {app: edge}
  servers:
  - {port: {number: 443, name: tls, protocol: HTTPS}, hosts: ["*-x.example", "*.x.example"], tls: {mode: SIMPLE, credentialName: a}}
  - {port: {number: 8443, name: tls, protocol: HTTPS}, hosts: ["a*.example"], tls: {mode: SIMPLE, credentialName: a}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
spec: {rules: [{when: [{key: "request.headers[a\\0]", values: [b]}]}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
spec: {jwtRules: [{issuer: a, jwksUri: "https://a.example", fromHeaders: [{name: "a\\nb"}]}]}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
spec: {accessLogging: [{providers: [{name: envoy}], filter: {expression: "response.code >="}}]}
""")
)


def judged(*objects: dict[str, Any], proxy: str) -> tuple[str, list[str]]:
    """What Envoy has against it, and what users are told."""
    changed = copy.deepcopy(SHOP)
    made = [{"metadata": {"name": f"bad-{index}", "namespace": "shop"}} | each for index, each in enumerate(objects)]
    changed["clusters"][0]["objects"] += [*yaml.safe_load_all(GATEWAY), *made]
    scenario = scenario_of(changed)
    document = render(scenario, node_of(scenario, proxy, "east"))
    return verdict(document), document.get("warnings", [])


@pytest.mark.parametrize("proxy", ["sidecar/cart-1.shop", "router/edge.shop"])
def test_envoy_takes_a_mesh_in_which_every_object_has_such_a_text(proxy):
    refused, told = judged(*OBJECTS, proxy=proxy)

    assert refused == ""
    assert {line.split()[0] for line in told if "shop/bad-" in line} == {each["kind"] for each in OBJECTS}
