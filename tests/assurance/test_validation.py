"""What is found wrong, and what is not: one line for each decision."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from isthmus.assurance.validation import validate, validate_mesh
from isthmus.cli.validating import validate_command

TO_SHOP = [{"destination": {"host": "shop"}}]
SECURED = {"protocol": "HTTPS", "number": 443, "name": "tls"}
PLAIN = {"protocol": "HTTP", "number": 80, "name": "web"}

WRONG: list[tuple[str, Any, str]] = [
    ("networking/VirtualService", {"hosts": ["shop"], "https": []}, "spec.https: unknown field"),
    ("networking/VirtualService", {"hosts": "shop"}, "spec.hosts: must be a list, is a string"),
    (
        "networking/VirtualService",
        {"hosts": ["shop"], "http": [{"route": TO_SHOP, "timeout": "soon"}]},
        "not a duration",
    ),
    (
        "networking/VirtualService",
        {"hosts": ["shop"], "http": [{"route": TO_SHOP, "redirect": {"uri": "/"}}]},
        "exactly one",
    ),
    ("networking/VirtualService", {"hosts": ["*"], "http": [{"route": TO_SHOP}]}, "only for gateways"),
    ("networking/DestinationRule", {}, "spec.host: is required"),
    ("networking/DestinationRule", {"host": "sh*p.example"}, "wildcard stands only at the start"),
    ("networking/DestinationRule", {"host": "shop", "trafficPolicy": {"tls": {"mode": "MUTUAL"}}}, "MUTUAL needs"),
    ("networking/Gateway", {"servers": [{"port": SECURED, "hosts": ["a.example"]}]}, "tls: is required for https"),
    ("networking/Gateway", {"servers": [{"port": PLAIN, "hosts": ["short"]}]}, "short names"),
    ("networking/ServiceEntry", None, "spec: is required"),
    (
        "networking/ServiceEntry",
        {"hosts": ["a.example"], "resolution": "NONE", "endpoints": [{"address": "1.1.1.1"}]},
        "NONE",
    ),
    ("networking/WorkloadEntry", {"address": "unix://relative"}, "must be absolute"),
    ("networking/WorkloadGroup", {"template": {}, "probe": {"tcpSocket": {"port": 70000}}}, "more than 65535"),
    ("networking/Sidecar", {}, "says nothing"),
    ("networking/ProxyConfig", {"concurrency": -2}, "less than 0"),
    ("networking/EnvoyFilter", {"configPatches": [{"match": {"waypoint": {}}}]}, "only for context WAYPOINT"),
    ("security/PeerAuthentication", {"mtls": {"mode": "SOMETIMES"}}, "is not one of"),
    ("security/PeerAuthentication", {"portLevelMtls": {"80": {"mode": "STRICT"}}}, "needs a selector"),
    ("security/RequestAuthentication", {"jwtRules": [{"issuer": "me", "jwks": "keys"}]}, "not a JSON Web Key Set"),
    ("security/AuthorizationPolicy", {"action": "CUSTOM", "rules": [{}]}, "spec.provider.name: is required"),
    ("security/AuthorizationPolicy", {"rules": [{"when": [{"key": "moon", "values": ["full"]}]}]}, "known attribute"),
    ("telemetry/Telemetry", {"tracing": [{"randomSamplingPercentage": 101}]}, "more than 100"),
]
RIGHT: list[tuple[str, Any]] = [
    ("networking/VirtualService", {"hosts": ["shop"], "http": [{"route": TO_SHOP, "timeout": "1m0.5s"}]}),
    ("networking/VirtualService", {"http": [{"route": TO_SHOP}]}),
    ("networking/DestinationRule", {"host": "*.example", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}),
    ("networking/Gateway", {"servers": [{"port": PLAIN, "hosts": ["ns/*.example"]}]}),
    ("networking/ServiceEntry", {"hosts": ["a.example"], "ports": [PLAIN], "resolution": "DNS"}),
    ("networking/WorkloadEntry", {"address": "10.0.0.1", "ports": {"web": 80}, "network": None}),
    ("networking/Sidecar", {"egress": [{"hosts": ["./*"]}]}),
    ("security/PeerAuthentication", {"mtls": {"mode": "STRICT"}}),
    ("security/AuthorizationPolicy", {"rules": [{"from": [{"source": {"namespaces": ["shop"]}}]}]}),
]


def described(kind: str, spec: Any) -> dict[str, Any]:
    group, name = kind.split("/")
    return {
        "apiVersion": f"{group}.istio.io/v1",
        "kind": name,
        "metadata": {"name": "a", "namespace": "b"},
        "spec": spec,
    }


@pytest.mark.parametrize(("kind", "spec", "complaint"), WRONG)
def test_what_is_wrong_is_said(kind: str, spec: Any, complaint: str) -> None:
    answer = validate(described(kind, spec))

    assert not answer["valid"]
    assert any(complaint in error for error in answer["errors"]), answer


@pytest.mark.parametrize(("kind", "spec"), RIGHT)
def test_what_is_right_passes_without_a_word(kind: str, spec: Any) -> None:
    assert validate(described(kind, spec)) == {"valid": True, "errors": [], "warnings": []}


def test_a_route_that_hides_those_after_it_is_a_warning() -> None:
    answer = validate(described("networking/VirtualService", {"hosts": ["shop"], "http": [{"route": TO_SHOP}] * 2}))

    assert answer["valid"]
    assert "never used" in answer["warnings"][0]


@pytest.mark.parametrize(
    ("config", "networks", "valid"),
    [
        ({"trustDomain": "east.example"}, None, True),
        ({"trustDomain": "east..example"}, None, False),
        ({"connectTimeout": "never"}, None, False),
        (None, {"networks": {"a": {"gateways": [{"address": "1.2.3.4", "port": 15443}]}}}, True),
        (None, {"networks": {"a": {"endpoints": [{"fromCidr": "10.0.0.0/99"}]}}}, False),
    ],
)
def test_the_configuration_of_a_mesh_is_judged(config: Any, networks: Any, valid: bool) -> None:
    assert validate_mesh(config, networks)["valid"] is valid


@pytest.mark.parametrize(("mode", "code"), [("STRICT", 0), ("LOOSE", 65)])
def test_the_command_says_it_with_its_exit_code(tmp_path: Any, mode: str, code: int) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps(described("security/PeerAuthentication", {"mtls": {"mode": mode}})))

    seen = CliRunner().invoke(validate_command, ["-f", str(file)])

    assert seen.exit_code == code
    assert json.loads(seen.stdout)["results"][0]["valid"] is (code == 0)
