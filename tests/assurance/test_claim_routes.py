"""A gateway chooses routes by what a request's token says: asked with real requests, and by the walk through what is rendered."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from free_ports import free_port
from running_envoy import running_envoy

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.assurance.traffic.request import Request
from isthmus.assurance.traffic.walk import Configuration, Side, walk
from isthmus.envoy.static import static_bootstrap

SECRET = b"known to the issuer and to whoever believes it"
MESH = """
apiVersion: v1
kind: Pod
metadata: {name: in, namespace: edge, labels: {app: in}}
status: {podIP: 10.0.0.1}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: edge}
spec:
  selector: {app: in}
  servers: [{port: {number: PORT, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: edge}
spec:
  selector: {matchLabels: {app: in}}
  jwtRules: [{issuer: gate.example, jwks: 'KEYS'}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: doors, namespace: edge}
spec:
  hosts: ["*"]
  gateways: [front]
  http:
  - match: [{headers: {"@request.auth.claims.groups": {exact: admins}}}]
    directResponse: {status: 210}
  - match: [{headers: {"@request.auth.claims[realm][a.b]": {prefix: north}}}]
    directResponse: {status: 211}
  - match: [{uri: {prefix: /guests}, withoutHeaders: {"@request.auth.claims.sub": {}}}]
    directResponse: {status: 212}
  - directResponse: {status: 213}
"""

ADMIN = {"groups": ["staff", "admins"]}
ADMINS, NORTH, GUESTS, OTHERS = 210, 211, 212, 213
CASES: list[tuple[dict[str, Any], str, int]] = [
    (ADMIN, "/", ADMINS),
    ({"groups": "admins"}, "/", ADMINS),
    ({"groups": ["staff"]}, "/", OTHERS),
    ({"realm": {"a.b": "north-west"}}, "/", NORTH),
    ({"realm": {"a": {"b": "north"}}}, "/", OTHERS),
    ({}, "/guests", GUESTS),
    ({}, "/", OTHERS),
    ({"sub": "somebody"}, "/guests", OTHERS),
]


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def token(claims: dict[str, Any], key: bytes = SECRET) -> str:
    parts = [encoded(json.dumps(part).encode()) for part in ({"alg": "HS256"}, {"iss": "gate.example", **claims})]
    signed = ".".join(parts)
    return f"{signed}.{encoded(hmac.new(key, signed.encode(), hashlib.sha256).digest())}"


def rendered(port: int) -> dict[str, Any]:
    keys = json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": encoded(SECRET)}]})
    objects = list(yaml.safe_load_all(MESH.replace("PORT", str(port)).replace("KEYS", keys)))
    scenario = scenario_of({"clusters": [{"id": "east", "objects": objects}]})
    return render(scenario, node_of(scenario, "router/in.edge", "east"))


def asked(port: int, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Host": "www.example.com", **headers})
    status = connection.getresponse().status
    connection.close()
    return status


def test_envoy_chooses_by_what_a_valid_token_says(tmp_path: Path) -> None:
    port = free_port()

    with running_envoy(static_bootstrap(rendered(port)), tmp_path):
        for claims, path, answer in CASES:
            headers = {"Authorization": f"Bearer {token(claims)}"} if claims else {}
            assert asked(port, path, headers) == answer, f"{claims} at {path}"
        forged = {"Authorization": f"Bearer {token(ADMIN, b'a guess')}"}
        assert asked(port, "/", forged) == 401, "what nobody has checked opens nothing"
        assert asked(port, "/", {"x-request.auth.claims.groups": "admins"}) == OTHERS


@pytest.mark.parametrize(("claims", "path", "answer"), CASES)
def test_the_walk_says_the_same(claims: dict[str, Any], path: str, answer: int) -> None:
    request = Request(port=80, host="www.example.com", path=path, claims=claims)

    assert walk(Configuration(rendered(80)), request, Side.GATEWAY).status == answer
