"""Gateway API from objects to what Envoy is given. The stories of tests/discovery/scenarios have the meshes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.assurance.gateway_status import documents, gateway_statuses
from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import verdict

STORIES = Path(__file__).parents[1] / "discovery" / "scenarios"
POD = {"apiVersion": "v1", "kind": "Pod", "status": {"podIP": "10.0.0.99"}}


def story(name: str, *more: dict[str, Any]) -> dict[str, Any]:
    """A story's clusters as a scenario, with more objects in the first of them."""
    clusters: dict[str, list[Any]] = {}
    heading = ""
    for part in (STORIES / f"{name}.md").read_text().split("\n## ")[1:]:
        heading, _, rest = part.partition("\n")
        if heading.startswith("Cluster "):
            block = rest.partition("```yaml\n")[2].partition("\n```")[0]
            clusters[heading.removeprefix("Cluster ")] = [each for each in yaml.safe_load_all(block) if each]
    next(iter(clusters.values())).extend(more)
    return {"clusters": [{"id": name, "objects": objects} for name, objects in clusters.items()]}


def pod(name: str, namespace: str, **labels: str) -> dict[str, Any]:
    return {**POD, "metadata": {"name": name, "namespace": namespace, "labels": labels}}


def rendered(name: str, who: str, *more: dict[str, Any]) -> dict[str, Any]:
    scenario = scenario_of(story(name, *more))
    return render(scenario, node_of(scenario, who, "east"))


INGRESS = ("gateway-api-ingress", "router/front-1.edge")


def routes_of(document: dict[str, Any], table: str, host: str) -> list[dict[str, Any]]:
    [found] = [each for each in document["routes"] if each["name"] == table]
    [virtual] = [each for each in found["virtualHosts"] if host in each["domains"]]
    return virtual.get("routes", [])


@pytest.mark.parametrize(
    ("name", "who", "labels"),
    [
        (*INGRESS, None),
        ("gateway-api-references", "router/in.edge", {"app": "ingress"}),
        ("gateway-api-connections", "router/in.edge", {"gateway.networking.k8s.io/gateway-name": "front"}),
        ("gateway-api-network-gateway", "router/in.istio-system", {"gateway.networking.k8s.io/gateway-name": "eastwest"}),
        ("gateway-api-mesh", "sidecar/in.books", {"app": "client"}),
        ("gateway-api-listener-sets", "router/in.edge", {"app": "ingress"}),
    ],
)  # fmt: skip
def test_envoy_takes_what_every_story_gives(name, who, labels):
    own_name, _, namespace = who.partition("/")[2].partition(".")
    more = [pod(own_name, namespace, **labels)] if labels else []

    assert verdict(rendered(name, who, *more)) == ""


def test_a_prefix_is_of_whole_segments_and_a_removed_one_leaves_a_slash():
    routes = routes_of(rendered(*INGRESS), "http.8080", "shop.example.com")

    [cart] = [each for each in routes if each["name"] == "sample.older.1" and "pathSeparatedPrefix" in each["match"]][
        1:
    ]
    assert cart["match"]["pathSeparatedPrefix"] == "/cart"
    assert cart["route"]["regexRewrite"] == {"pattern": {"regex": "^/cart/*"}, "substitution": "/"}
    assert cart["route"]["hostRewriteLiteral"] == "cart.internal"
    assert cart["route"]["timeout"] == "2s"


def test_what_a_route_leads_to_in_vain_is_answered_500_in_proportion():
    document = rendered("gateway-api-references", "router/in.edge", pod("in", "edge", app="ingress"))

    [route] = routes_of(document, "http.80", "one.example.org")
    weights = {each["name"]: each["weight"] for each in route["route"]["weightedClusters"]["clusters"]}
    assert weights == {
        "outbound|80||here.sample.svc.cluster.local": 3,
        "outbound|80||unresolved.invalid": 1,
    }
    assert route["route"]["clusterNotFoundResponseCode"] == "INTERNAL_SERVER_ERROR"
    assert "outbound|80||unresolved.invalid" not in {each["name"] for each in document["clusters"]}


def test_retries_say_which_answers_are_asked_for_again_and_how_soon():
    routes = routes_of(rendered(*INGRESS), "http.8080", "shop.example.com")

    policy = next(each for each in routes if each["name"] == "sample.younger.canary")["route"]["retryPolicy"]
    assert (policy["numRetries"], policy["retriableStatusCodes"]) == (3, [503])
    assert policy["retryBackOff"] == {"baseInterval": "0.010s", "maxInterval": "0.100s"}


def test_what_envoy_would_refuse_of_a_route_costs_no_other_and_a_percent_sign_is_one():
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "odd", "namespace": "books"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "reviews-v2", "port": 80}],
            "rules": [
                {
                    "matches": [{"path": {"type": "RegularExpression", "value": "/("}}],
                    "backendRefs": [{"name": "reviews", "port": 80}],
                },
                {
                    "matches": [{"path": {"value": "/odd"}}],
                    "backendRefs": [{"name": "reviews", "port": 80, "weight": -1}, {"name": "reviews-v2", "port": 80}],
                },
                {
                    "matches": [{"path": {"value": "/set"}}],
                    "filters": [
                        {
                            "type": "RequestHeaderModifier",
                            "requestHeaderModifier": {"set": [{"name": "share", "value": "100% %PROTOCOL%"}]},
                        }
                    ],
                    "backendRefs": [{"name": "reviews", "port": 80}],
                },
            ],
        },
    }

    document = rendered("gateway-api-mesh", "sidecar/in.books", pod("in", "books", app="client"), route)

    found = {each["name"]: each for each in routes_of(document, "80", "reviews-v2.books.svc.cluster.local")}
    assert "books.odd.0" not in found
    assert found["books.odd.1"]["directResponse"]["status"] == 500
    [change] = found["books.odd.2"]["requestHeadersToAdd"]
    assert change["header"]["value"] == "100%% %%PROTOCOL%%"
    told = [warning for warning in document["warnings"] if "books/odd" in warning]
    assert any("books.odd.0" in each and "is not a regular expression" in each for each in told)
    assert any("books.odd.1" in each and "weights are not negative" in each for each in told)
    assert verdict(document) == ""


def statuses(state: dict[str, Any], now: str = "2024-05-05T00:00:00Z") -> dict[str, dict[str, Any]]:
    scenario = scenario_of(state)
    found = documents(gateway_statuses(scenario.snapshot(), scenario.clusters[0].objects, now))
    return {f"{each['kind']} {each['metadata']['name']}": each["status"] for each in found}


def test_a_status_keeps_what_others_wrote_and_when_a_condition_began_to_hold():
    state = story("gateway-api-ingress")
    [route] = [each for each in state["clusters"][0]["objects"] if each["metadata"]["name"] == "older"]
    foreign = {
        "parentRef": {"name": "other-gateway"},
        "controllerName": "example.com/theirs",
        "conditions": [{"type": "Accepted", "status": "True"}],
    }
    stale = {"parentRef": {"name": "no-longer"}, "controllerName": "istio.io/gateway-controller", "conditions": []}
    route["status"] = {
        "parents": [foreign, stale, *statuses(state, now="2024-01-01T00:00:00Z")["HTTPRoute older"]["parents"]]
    }

    seen = statuses(state)["HTTPRoute older"]["parents"]

    assert seen == [foreign, route["status"]["parents"][2]]


def test_an_object_that_has_its_status_needs_no_other():
    state = story("gateway-api-references")
    first = statuses(state)
    for each in state["clusters"][0]["objects"]:
        each["status"] = first.get(f"{each['kind']} {each['metadata']['name']}", each.get("status", {}))
    scenario = scenario_of(state)

    found = list(gateway_statuses(scenario.snapshot(), scenario.clusters[0].objects, "later"))

    assert [each.is_there for each in found] == [True] * len(found)
    assert json.dumps(first)


def test_certificates_are_judged_where_secrets_are_known():
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
    broken = {
        **secret,
        "metadata": {"name": "shop-certificate", "namespace": "edge"},
        "data": {"tls.crt": "bm8=", "tls.key": "bm8="},
    }
    other = {**secret, "metadata": {"name": "another", "namespace": "edge"}, "data": {}}

    def reason(*more: dict[str, Any]) -> str:
        listeners = statuses(story("gateway-api-ingress", *more))["Gateway front"]["listeners"]
        [secure] = [each for each in listeners if each["name"] == "secure"]
        [condition] = [each for each in secure["conditions"] if each["type"] == "ResolvedRefs"]
        return f"{condition['reason']}: {condition['message']}"

    assert reason() == "ResolvedRefs: "
    assert reason(other) == "InvalidCertificateRef: Secret edge/shop-certificate: there is no such Secret"
    assert "not a chain of PEM certificates" in reason(broken)


def test_a_listener_whose_secret_is_away_is_served_on_and_one_that_may_not_show_it_is_not():
    other = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "another", "namespace": "edge"}, "data": {}}
    state = story("gateway-api-references", pod("in", "edge", app="ingress"), other)
    scenario = scenario_of(state)

    document = render(scenario, node_of(scenario, "router/in.edge", "east"))

    [secure] = [each for each in document["listeners"] if each["name"] == "0.0.0.0_443"]
    shown = [each["filterChainMatch"]["serverNames"] for each in secure["filterChains"]]
    assert shown == [["b.example.com"]], "a.example.com's Secret is another namespace's, which does not allow it"
