"""The mesh's own kinds on a server: every definition is accepted, right objects are, and typing errors are found."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from isthmus.api.crds import all_crds
from isthmus.api.registry import KINDS

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CUSTOM = {key: kind for key, kind in KINDS.items() if kind.is_custom}
REPOSITORY = Path(__file__).parent.parent.parent

ROUTES = {
    "hosts": ["shop"],
    "http": [
        {
            "match": [{"uri": {"prefix": "/a"}, "headers": {"x": {"exact": "y"}}}],
            "route": [{"destination": {"host": "shop", "subset": "v1", "port": {"number": 80}}, "weight": 90}],
            "retries": {"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx"},
        }
    ],
}


@pytest.fixture(scope="module")
def definitions():
    return all_crds()


@pytest.fixture
async def defined(api, definitions):
    """Every definition is there."""
    for definition in definitions:
        answer = await api.call("POST", CRDS, definition)
        assert answer.code in (201, 409), answer.text
        assert answer.code == 409 or not answer.headers.getall("Warning", [])


@pytest.mark.parametrize("key", CUSTOM)
async def test_an_unknown_field_is_refused_when_it_must_be_right_and_told_otherwise(api, defined, namespace, key):
    kind = CUSTOM[key]
    inside = f"/namespaces/{namespace}" if kind.namespaced else ""
    path = f"/apis/{kind.group}/{kind.version}{inside}/{kind.plural}"
    wrong = {"metadata": {"name": f"wrong-{namespace}"}, "bogus": 1}

    strict = await api.call("POST", path, wrong, fieldValidation="Strict")
    warned = await api.call("POST", path, wrong, fieldValidation="Warn", dryRun="All")

    assert (strict.code, strict.body["message"]) == (400, 'strict decoding error: unknown field "bogus"')
    assert warned.headers["Warning"] == '299 - "unknown field \\"bogus\\""'


async def test_a_typing_error_deep_in_a_virtual_service_is_found(api, defined, namespace):
    path = f"/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices"
    wrong = {"hosts": ["shop"], "http": [{"route": [{"destinaton": {"host": "shop"}}]}]}

    right = await api.call("POST", path, {"metadata": {"name": "a"}, "spec": ROUTES}, fieldValidation="Strict")
    refused = await api.call("POST", path, {"metadata": {"name": "b"}, "spec": wrong}, fieldValidation="Strict")

    assert (right.code, right.body["spec"]) == (201, ROUTES)
    assert 'unknown field "spec.http[0].route[0].destinaton"' in refused.body["message"]


async def test_what_is_written_in_an_older_version_is_one_with_what_is_read_in_the_new_one(api, defined, namespace):
    old, new = (f"/apis/networking.istio.io/{v}/namespaces/{namespace}/virtualservices" for v in ("v1alpha3", "v1"))

    await api.made(old, {"metadata": {"name": "a"}, "spec": ROUTES})

    assert (await api.get(f"{new}/a")).body["spec"] == ROUTES


async def test_gateway_apis_own_defaults_are_written_down(api, defined, namespace):
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes"
    spec = {"parentRefs": [{"name": "front"}], "rules": [{"backendRefs": [{"name": "shop", "port": 80}]}]}

    made = await api.made(path, {"metadata": {"name": "a"}, "spec": spec})

    assert made["spec"]["parentRefs"][0] == {"name": "front", "group": "gateway.networking.k8s.io", "kind": "Gateway"}
    assert made["spec"]["rules"][0]["backendRefs"][0]["weight"] == 1


async def test_every_example_and_every_live_tests_object_is_taken_as_it_is(api, defined, namespace):
    kinds = {(kind.group, kind.name): kind for kind in CUSTOM.values()}
    documents = [
        document
        for path in sorted([*REPOSITORY.glob("examples/**/*.yaml"), *REPOSITORY.glob("tests/live/**/*.yaml")])
        for document in yaml.safe_load_all(path.read_text())
        if isinstance(document, dict) and "apiVersion" in document
    ]
    for number, document in enumerate(documents):
        kind = kinds.get((document["apiVersion"].partition("/")[0], document.get("kind")))
        if kind is None:
            continue
        body = document | {"metadata": {"name": f"example-{number}"}}
        inside = f"/namespaces/{namespace}" if kind.namespaced else ""
        version = document["apiVersion"].partition("/")[2]
        answer = await api.call(
            "POST", f"/apis/{kind.group}/{version}{inside}/{kind.plural}", body, fieldValidation="Strict"
        )
        assert answer.code == 201, answer.text
