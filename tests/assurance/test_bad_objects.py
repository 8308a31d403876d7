"""A law: whatever an object looks like, it is judged, it never ends a computation, and it takes no other object down."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from isthmus.assurance.analysis.analyzing import GivenCluster, Question, analyze
from isthmus.assurance.rendering import render
from isthmus.assurance.scenario import scenario_of
from isthmus.assurance.validation import validate, validate_mesh

HERE = Path(__file__).parent
EVERY_RULE = yaml.safe_load((HERE / "every-rule.yaml").read_text())
RULES = [
    case for file in sorted((HERE / "validation/rules").glob("*.yaml")) for case in yaml.safe_load(file.read_text())
]
GROUPS = {
    "Telemetry": "telemetry", "PeerAuthentication": "security", "RequestAuthentication": "security",
    "AuthorizationPolicy": "security", "WasmPlugin": "extensions",
}  # fmt: skip
STRANGE: list[Any] = [
    None, True, 0, -1, 80, 1.5, float("inf"), 2**70, "", "*", "a", "10.0.0.0/8", "1s", "%", "(", "unix://", "http://[", [], [None], ["a"],
    [[]], [{}], {}, {"a": None}, {1: 2}, {"": ""}, {"name": None}, {"host": 1}, "x" * 300, "ä\u0000",
]  # fmt: skip


def seeds() -> list[dict[str, Any]]:
    objects = [obj for cluster in EVERY_RULE["clusters"] for obj in cluster["objects"]]
    for case in RULES:
        [kind] = case.keys() - {"name", "finds"}
        if not kind.startswith("k8s"):
            version = f"{GROUPS.get(kind, 'networking')}.istio.io/v1"
            objects.append(
                {"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": "b"}, "spec": case[kind]}
            )
    for file in sorted((HERE / "analysis/cases").glob("*.yaml")):
        for case in yaml.safe_load_all(file.read_text()):
            for found in (case.get("clusters") or {"": case.get("objects")}).values():
                objects += found
    return objects


SEEDS = seeds()


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A known object with one to four places changed."""
    obj = copy.deepcopy(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        places = places_in(obj)
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        change = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if change == "remove":
            del holder[key]
        elif change == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(["a", "name", "spec", "match", "", 7]))] = copy.deepcopy(
                draw(st.sampled_from(STRANGE))
            )
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(STRANGE)))
        if not obj:
            break
    return obj


def places_in(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, inner in pairs:
        found.append((value, key))
        if isinstance(inner, dict | list):
            found += places_in(inner)
    return found


@given(obj=mutated())
@example(
    obj={
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {},
        "spec": {"portLevelMtls": {80: {}}},
    }
)
def test_every_object_is_judged(obj: Any) -> None:
    answer = validate(obj)

    assert answer["valid"] == (not answer["errors"])


@given(config=st.recursive(st.sampled_from(STRANGE), lambda inner: st.dictionaries(
    st.sampled_from(["trustDomain", "caCertificates", "pem", "networks", "gateways", "serviceSettings", "hosts", "localityLbSetting"]),
    st.one_of(inner, st.lists(inner, max_size=2)))))  # fmt: skip
def test_every_mesh_config_is_judged(config: Any) -> None:
    assert validate_mesh(config, config)["valid"] in (True, False)


BYSTANDER = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "bystander", "namespace": "elsewhere"},
    "spec": {"clusterIP": "10.96.9.9", "ports": [{"name": "http", "port": 80}]},
}  # fmt: skip


@given(obj=mutated())
def test_no_object_takes_another_one_down(obj: Any) -> None:
    state = copy.deepcopy(EVERY_RULE)
    state["clusters"][0]["objects"] += [obj, BYSTANDER]

    snapshot = scenario_of(state).snapshot()

    names = {f"{key.namespace}/{key.hostname}" for key in snapshot.services}
    assert "elsewhere/bystander.elsewhere.svc.cluster.local" in names


SIDECAR = {
    "id": "sidecar~10.0.0.1~cart-1.shop~shop.svc.cluster.local",
    "metadata": {"CLUSTER_ID": "east", "NAMESPACE": "shop", "LABELS": {"app": "cart"}, "INSTANCE_IPS": "10.0.0.1"},
}


@given(objects=st.lists(mutated(), min_size=1, max_size=4))
def test_no_object_ends_an_analysis(objects: list[Any]) -> None:
    clusters = [
        GivenCluster(id="east", objects=[*EVERY_RULE["clusters"][0]["objects"], *objects]),
        GivenCluster(id="west", objects=[*objects, BYSTANDER]),
    ]

    found = analyze(Question(clusters=clusters))

    assert [issue.what for issue in found if issue.subject.kind == "Analyzer"] == []


@settings(max_examples=50)
@given(obj=mutated())
def test_no_object_ends_a_rendering(obj: Any) -> None:
    state = copy.deepcopy(EVERY_RULE)
    state["clusters"][0]["objects"] += [obj, BYSTANDER]

    rendered = render(scenario_of(state), SIDECAR)

    assert {"BlackHoleCluster", "inbound|8080||"} <= {cluster["name"] for cluster in rendered["clusters"]}
