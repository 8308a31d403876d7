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
from isthmus.ingest.providers import providers_of
from isthmus.ingest.telemetry_providers import telemetry_defaults_of

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
spec: {action: CUSTOM, provider: {name: judge}, rules: [{to: [{operation: {paths: [/a]}}]}, {when: [{key: "request.headers[a\\0]", values: [b]}]}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
spec: {jwtRules: [{issuer: a, jwksUri: "https://a.example", fromHeaders: [{name: "a\\nb"}]}]}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
spec:
  accessLogging: [{providers: [{name: envoy}], filter: {expression: "response.code >="}}]
  tracing: [{providers: [{name: zip}], customTags: {a: {header: {name: "a\\nb"}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
spec: {host: cart, subsets: [{name: "a\\0"}, {name: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
spec:
  parentRefs: [{kind: Service, group: "", name: cart}]
  rules:
  - matches: [{path: {type: PathPrefix, value: "/a?b"}}]
    backendRefs: [{name: cart, port: 80}]
  - filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: ":path", value: a}]}}]
    backendRefs: [{name: cart, port: 80}]
""")
)


def judged(*objects: dict[str, Any], proxy: str) -> tuple[str, list[str]]:
    """What Envoy has against it, and what users are told."""
    changed = copy.deepcopy(SHOP)
    made = [{"metadata": {"name": f"bad-{index}", "namespace": "shop"}} | each for index, each in enumerate(objects)]
    cart = {"service": "cart.shop.svc.cluster.local", "port": 80}
    asked = cart | {"includeRequestHeadersInCheck": ["*"], "headersToUpstreamOnAllow": ["*"]}
    changed["meshConfig"] = {
        "extensionProviders": [{"name": "zip", "zipkin": cart}, {"name": "judge", "envoyExtAuthzHttp": asked}]
    }
    changed["clusters"][0]["objects"] += [*yaml.safe_load_all(GATEWAY), *made]
    scenario = scenario_of(changed)
    document = render(scenario, node_of(scenario, proxy, "east"))
    return verdict(document), document.get("warnings", [])


@pytest.mark.parametrize("proxy", ["sidecar/cart-1.shop", "router/edge.shop"])
def test_envoy_takes_a_mesh_in_which_every_object_has_such_a_text(proxy):
    refused, told = judged(*OBJECTS, proxy=proxy)

    assert refused == ""
    assert {line.split()[0] for line in told if "shop/bad-" in line} == {each["kind"] for each in OBJECTS}


@pytest.mark.parametrize(
    "said",
    [
        {"statusOnError": "999"},
        {"pathPrefix": "check"},
        {"includeAdditionalHeadersInCheck": {"a b": "c"}},
        {"includeAdditionalHeadersInCheck": {":path": "/"}},
        {"includeAdditionalHeadersInCheck": {"a": "100%"}},
        {"includeRequestBodyInCheck": {"maxRequestBytes": -1}},
    ],
)
def test_a_provider_that_envoy_would_refuse_is_left_out_and_told(said):
    found, [wrong] = providers_of(
        {"extensionProviders": [{"name": "judge", "envoyExtAuthzHttp": {"service": "a", "port": 80} | said}]}
    )

    assert found == ()
    assert wrong.startswith("extensionProviders[0].envoyExtAuthzHttp: ")


@pytest.mark.parametrize("path", ["", "/var/" + "x" * 256])
def test_a_log_that_can_be_no_file_is_left_out_and_told(path):
    found, [wrong] = telemetry_defaults_of(
        {"extensionProviders": [{"name": "mine", "envoyFileAccessLog": {"path": path}}]}
    )

    assert [log.name for log in found.logs] == ["envoy"]
    assert "can be no file" in wrong


@pytest.mark.parametrize("said", [-1, 101, "much"])
def test_a_share_of_traces_that_is_none_is_told(said):
    found, [wrong] = telemetry_defaults_of({"defaultConfig": {"tracing": {"sampling": said}}})

    assert (found.sampling_percent, "no percentage" in wrong) == (1.0, True)
