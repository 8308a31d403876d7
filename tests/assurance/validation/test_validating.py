"""A verdict as commands and admission give it: valid or not, in words, and each finding with its place, code and fix."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.assurance.validation import has_known_types, problems_of, validate, validate_mesh


def described(api_version: str, kind: str, spec: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": "b"}, "spec": spec}


def test_a_finding_names_place_code_level_and_what_to_do() -> None:
    answer = validate(described("networking.istio.io/v1", "DestinationRule", {"hots": "shop", "host": "shop"}))

    assert answer == {
        "valid": False,
        "errors": ["spec.hots: unknown field"],
        "warnings": [],
        "findings": [
            {
                "code": "ISM0702",
                "level": "Error",
                "path": "spec.hots",
                "message": "unknown field",
                "fix": "write host",
            }
        ],
    }


def test_what_is_doubtful_is_a_warning_and_leaves_the_object_valid() -> None:
    answer = validate(described("security.istio.io/v1", "AuthorizationPolicy", {}))

    assert answer["valid"]
    assert answer["errors"] == []
    assert answer["warnings"] == ["spec.rules: ALLOW without rules allows nobody: everything is denied"]


def test_a_number_where_text_belongs_is_to_be_put_in_quotes() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"version": 1}}}

    [problem] = problems_of(pod)

    assert (problem.path, problem.fix) == ("metadata.labels['version']", 'put it in quotes: "1"')
    assert not has_known_types([problem])


@pytest.mark.parametrize("value", [None, 7, [], "text", {}, {"kind": 1}])
def test_what_is_no_object_is_said(value: Any) -> None:
    assert validate(value)["errors"] == ["$: is not an object with a kind"]


def test_a_foreign_kind_is_not_checked_and_says_so() -> None:
    answer = validate(described("example.org/v1", "Thing", {"any": 1}))

    assert answer["valid"]
    assert answer["warnings"] == ["kind: example.org/v1 Thing: this kind is not checked"]


def test_a_misspelt_kind_of_a_known_group_is_an_error() -> None:
    answer = validate(described("networking.istio.io/v1", "VirtualServices", {}))

    assert answer["errors"] == ["kind: networking.istio.io has no kind VirtualServices"]
    assert "VirtualService" in answer["findings"][0]["fix"]


def test_a_kind_without_its_group_is_pointed_at_it() -> None:
    [problem] = problems_of(described("v1", "HTTPRoute", {}))

    assert "gateway.networking.k8s.io" in problem.fix


@pytest.mark.parametrize(
    ("config", "finds"),
    [
        ({"trustDomain": "east.example", "trustDomainAliases": ["west.example"]}, []),
        ({"trustDomain": "east..example"}, ["ISM0735 trustDomain"]),
        ({"connectTimeout": "never", "enableAutoMtls": "yes"}, ["ISM0703 enableAutoMtls", "ISM0708 connectTimeout"]),
        ({"caCertificates": [{"spiffeBundleUrl": "http://a"}]}, ["ISM0726 caCertificates[0].spiffeBundleUrl"]),
        ({"caCertificates": [{"pem": "a", "spiffeBundleUrl": "https://a"}, {}]}, ["ISM0707 caCertificates[0]"]),
        ({"caCertificates": [{"pem": "a"}, {}]}, ["ISM0704 caCertificates[1]", "ISM0728 caCertificates[0].pem"]),
        ({"serviceSettings": [{"hosts": ["*.a.example", "a b"]}]}, ["ISM0711 serviceSettings[0].hosts[1]"]),
        ({"localityLbSetting": {"distribute": [{"from": "a", "to": {"b": 9}}]}},
         ["ISM0725 localityLbSetting.distribute[0].to"]),
        ({"extensionProviders": [{"name": "a"}, {"name": "a"}, {}]},
         ["ISM0704 extensionProviders[2].name", "ISM0719 extensionProviders[1].name"]),
        ({"trustDomian": "a"}, ["ISM0731 trustDomian"]),
        ({"dnsRefreshRate": "5s", "defaultHttpRetryPolicy": {"attempts": 0}, "enableAutoMtls": True},
         ["ISM0737 dnsRefreshRate"]),
        ({"enableAutoMtls": False}, ["ISM0737 enableAutoMtls"]),
        ({"extensionProviders": [{"name": "a", "envoyExtAuthzGrpc": {"service": "a.b", "port": "nine"}},
                                 {"name": "b", "opentelemetry": {"service": "a.b", "port": 0}}]},
         ["ISM0739 extensionProviders[0].envoyExtAuthzGrpc", "ISM0739 extensionProviders[1].opentelemetry"]),
        ([], ["ISM0703 $"]),
    ],
)  # fmt: skip
def test_a_mesh_config_is_judged(config: Any, finds: list[str]) -> None:
    answer = validate_mesh(mesh_config=config)

    assert sorted(f"{finding['code']} {finding['path']}" for finding in answer["findings"]) == finds


WHOLE = {"endpoints": [{"fromRegistry": "c1"}], "gateways": [{"address": "1.2.3.4", "port": 15443}]}


@pytest.mark.parametrize(
    ("network", "finds"),
    [
        (WHOLE, []),
        ({}, ["ISM0736 networks['a'].endpoints", "ISM0736 networks['a'].gateways"]),
        (WHOLE | {"endpoints": [{"fromCidr": "10.0.0.0/99"}]}, ["ISM0713 networks['a'].endpoints[0].fromCidr"]),
        (WHOLE | {"gateways": [{"port": 0}]},
         ["ISM0704 networks['a'].gateways[0]", "ISM0714 networks['a'].gateways[0].port"]),
    ],
)  # fmt: skip
def test_mesh_networks_are_judged(network: Any, finds: list[str]) -> None:
    answer = validate_mesh(mesh_networks={"networks": {"a": network}})

    assert sorted(f"{finding['code']} {finding['path']}" for finding in answer["findings"]) == finds


@pytest.mark.parametrize(
    ("metadata", "finds"),
    [
        ({"name": "a.b-c", "namespace": "d"}, []),
        ({"generateName": "a-"}, []),
        (None, ["ISM0704 metadata.name"]),
        ({"name": "Cart"}, ["ISM0712 metadata.name"]),
        ({"name": "cart", "namespace": "a.b"}, ["ISM0712 metadata.namespace"]),
    ],
)
def test_names_are_such_as_an_api_server_takes(metadata: Any, finds: list[str]) -> None:
    found = problems_of({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {}})

    assert [f"{problem.code.id} {problem.path}" for problem in found] == finds


def test_a_list_without_items_is_none() -> None:
    assert validate({"apiVersion": "v1", "kind": "List", "items": 5})["errors"] == [
        "items: a List must have a list of items"
    ]


def test_a_header_that_is_longer_than_envoy_takes_is_told_before_the_control_plane_leaves_its_rule_out() -> None:
    route = {"route": [{"destination": {"host": "cart.shop.svc.cluster.local"}}]}
    long = route | {"match": [{"uri": {"prefix": "/cart"}}], "headers": {"request": {"set": {"x-long": "a" * 16385}}}}
    service = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "cart"}}

    [problem] = problems_of(service | {"spec": {"hosts": ["cart.example"], "http": [long, route | {"name": "rest"}]}})

    assert (problem.code.id, problem.path) == ("ISM0739", "spec.http[0].headers.request.set.x-long")


@pytest.mark.parametrize(
    ("api_version", "kind", "spec", "annotations", "code"),
    [
        ("gateway.networking.x-k8s.io/v1alpha1", "XListenerSet", {}, {}, "ISM0737"),
        ("networking.k8s.io/v1", "Ingress", {"ingressClassName": "istio"}, {}, "ISM0737"),
        ("networking.k8s.io/v1", "Ingress", {}, {"kubernetes.io/ingress.class": "istio"}, "ISM0737"),
        ("networking.k8s.io/v1", "Ingress", {"ingressClassName": "nginx"}, {}, "ISM0734"),
        ("networking.k8s.io/v1", "Ingress", None, {}, "ISM0734"),
    ],
)
def test_what_istio_reads_and_this_version_does_not_is_told(
    api_version: str, kind: str, spec: Any, annotations: dict[str, str], code: str
) -> None:
    item = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "a", "annotations": annotations},
        "spec": spec,
    }

    assert [problem.code.id for problem in problems_of(item)] == [code]
