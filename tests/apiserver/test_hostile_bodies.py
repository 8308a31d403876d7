"""Bodies and queries that nobody means well with: each gets a Status, and whatever is accepted can be read by everybody afterwards.

`make fuzz-apiserver SECONDS=600` does this for longer.
"""

from __future__ import annotations

import asyncio
import os
import time

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("ISTHMUS_FUZZ_SECONDS", "0"))
EXAMPLES = 400 if SECONDS else 40
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=not SECONDS,
    suppress_health_check=list(HealthCheck),
)

DEFAULT = "/namespaces/default"
PATHS = (
    f"/api/v1{DEFAULT}/configmaps",
    f"/api/v1{DEFAULT}/secrets",
    f"/api/v1{DEFAULT}/services",
    f"/api/v1{DEFAULT}/pods",
    f"/api/v1{DEFAULT}/serviceaccounts",
    f"/api/v1{DEFAULT}/events",
    "/api/v1/namespaces",
    f"/apis/apps/v1{DEFAULT}/deployments",
    f"/apis/discovery.k8s.io/v1{DEFAULT}/endpointslices",
    f"/apis/coordination.k8s.io/v1{DEFAULT}/leases",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    f"/apis/rbac.authorization.k8s.io/v1{DEFAULT}/roles",
    f"/apis/rbac.authorization.k8s.io/v1{DEFAULT}/rolebindings",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
)
REVIEWS = (
    "/apis/authentication.k8s.io/v1/tokenreviews",
    "/apis/authorization.k8s.io/v1/subjectaccessreviews",
    "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
)
FIELDS = [
    "spec", "status", "data", "rules", "subjects", "roleRef", "ports", "selector", "template", "containers",
    "metadata", "endpoints", "addresses", "names", "labels", "annotations", "finalizers", "ownerReferences",
    "name", "kind", "group", "versions", "type", "replicas", "verbs", "clusterIP", "env", "conditions",
    "schema", "stringData", "binaryData", "loadBalancer", "deletionTimestamp", "generateName",
    "managedFields", "holderIdentity", "token", "audiences",
]  # fmt: skip

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        [10**30, -(2**63), 2**64, 0, -1, 1e308, "", "a", "\x00", "x|y", "../..", "9" * 400, "10.96.0.300"]
    )
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
names = st.sampled_from(["a", "b", "", "x|y", "n\x00l", "..", "A", "ü", "a" * 300]) | st.text(max_size=6) | scalars
metadata = st.fixed_dictionaries({"name": names}, optional={field: values for field in FIELDS[:40] if field != "name"})
objects = st.builds(
    lambda meta, rest: {**rest, "metadata": meta},
    metadata | values,
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=4),
)
CONTENT_TYPES = (
    "application/json",
    "application/yaml",
    "application/apply-patch+yaml",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/vnd.kubernetes.protobuf",
    "text/html",
    "",
    ";;;",
)
rubbish = (
    st.binary(max_size=60)
    | st.binary(max_size=60).map(lambda body: b"k8s\x00" + body)
    | st.builds(
        lambda kind, raw: b"k8s\x00" + field(1, field(1, b"v1") + field(2, kind)) + field(2, raw),
        st.sampled_from([b"ConfigMap", b"Lease", b"Event", b"Service", b"Pod", b"DeleteOptions", b"TokenRequest"]),
        st.lists(st.tuples(st.integers(1, 16), st.binary(max_size=24)), max_size=4).map(
            lambda fields: b"".join(field(number, body) for number, body in fields)
        ),
    )
    | st.text(max_size=40).map(str.encode)
    | st.builds(lambda raw, cut: raw[: cut or None], objects.map(msgspec.json.encode), st.integers(0, 40))
)
QUERIES = [
    "labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch",
    "dryRun", "gracePeriodSeconds", "timeoutSeconds", "fieldManager", "force", "fieldValidation",
]  # fmt: skip
queries = st.dictionaries(
    st.sampled_from(QUERIES),
    st.text(max_size=12)
    | st.sampled_from(
        ["a in (", ",,,", "=", "a=b,a!=b", "!!a", "٣", "²", "9" * 400, "-1", "W10=", "WzEsMSwxXQ==", "((((" * 50]
    ),
    max_size=3,
)


def field(number, body):
    return bytes([number << 3 | 2, len(body)]) + body


@pytest.fixture
def repeated():
    """Runs examples in the test's own event loop: once, or until the time is over."""

    async def run(strategies, example):
        loop, ends = asyncio.get_running_loop(), time.monotonic() + SECONDS

        @FUZZ
        @given(**strategies)
        def examples(**drawn):
            asyncio.run_coroutine_threadsafe(example(**drawn), loop).result(30)

        while True:
            await asyncio.to_thread(examples)
            if time.monotonic() >= ends:
                return

    return run


def settled(answer):
    """Every answer is a success or a Status; none is the server's own failure. A version that is still to come is Kubernetes' 504."""
    assert answer.code < 500 or (answer.code == 504 and "ResourceVersionTooLarge" in answer.text), answer.text
    assert "Traceback" not in answer.text
    if answer.code >= 400:
        assert (answer.body["kind"], answer.body["code"]) == ("Status", answer.code)
    return answer


async def still_served(api, path):
    """In every form, and to somebody who has no rights."""
    for accept in (
        "application/json",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    ):
        answer = await api.call("GET", path, headers={"Accept": accept})
        assert answer.code == 200, answer.text
    for asked in ("/api/v1/secrets", f"/api/v1{DEFAULT}/secrets"):
        stranger = await api.call("GET", asked, headers={"Impersonate-User": "stranger"})
        assert stranger.code == 403, stranger.text


async def test_objects_of_any_shape_are_refused_or_can_be_read(api, repeated):
    async def example(path, obj, query):
        made = settled(await api.call("POST", path, obj, **{k: v for k, v in query.items() if k != "dryRun"}))
        await still_served(api, path)
        if made.code == 201:
            name = made.body["metadata"]["name"]
            settled(await api.call("PUT", f"{path}/{name}", made.body | {"data": {"a": "b"}}))
            settled(await api.call("DELETE", f"{path}/{name}", {"gracePeriodSeconds": 0}))

    await repeated({"path": st.sampled_from(PATHS), "obj": objects, "query": queries}, example)


async def test_reviews_of_anything_are_answered(api, repeated):
    async def example(path, obj):
        settled(await api.call("POST", path, obj))

    await repeated({"path": st.sampled_from(REVIEWS), "obj": objects}, example)


async def test_patches_of_any_kind_are_refused_or_leave_an_object(api, repeated):
    path = f"/api/v1{DEFAULT}/services"
    await api.made(path, {"metadata": {"name": "patched"}, "spec": {"ports": [{"port": 80}]}})

    async def example(content_type, patch, query):
        settled(await api.call("PATCH", f"{path}/patched", patch, content_type=content_type, **query))
        await still_served(api, path)

    operations = st.lists(
        st.fixed_dictionaries(
            {
                "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"]),
                "path": paths_in_objects,
            },
            optional={"value": values, "from": paths_in_objects},
        ),
        max_size=3,
    )
    kinds = st.sampled_from([kind for kind in CONTENT_TYPES if "patch" in kind])
    await repeated({"content_type": kinds, "patch": values | objects | operations, "query": queries}, example)


paths_in_objects = st.sampled_from(
    ["", "/", "/metadata", "/metadata/name", "/spec/ports/0", "/spec/ports/-", "/spec/ports/²", "/a~2b", "x"]
)


async def test_bytes_of_any_kind_are_refused_or_an_object(api, repeated):
    async def example(path, content_type, raw, method):
        answer = await api.call(method, path, raw=raw, content_type=content_type)
        settled(answer)
        await still_served(api, f"/api/v1{DEFAULT}/configmaps")

    targets = st.sampled_from([*PATHS[:4], f"{PATHS[0]}/none", f"/api/v1{DEFAULT}/serviceaccounts/default/token"])
    methods = st.sampled_from(["POST", "PUT", "PATCH", "DELETE"])
    kinds = st.sampled_from(CONTENT_TYPES)
    await repeated({"path": targets, "content_type": kinds, "raw": rubbish, "method": methods}, example)


async def test_queries_of_any_kind_are_refused_or_answered(api, repeated):
    async def example(path, query):
        settled(await api.call("GET", path, **query))

    await repeated({"path": st.sampled_from(PATHS), "query": queries}, example)


LAUGHS = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n".encode() for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [
        pytest.param("application/yaml", LAUGHS, id="a billion laughs"),
        pytest.param("application/yaml", b"a: &a\n  <<: [*a, *a]\n", id="a merge of itself"),
        pytest.param("application/yaml", b"metadata: &m\n  labels: *m\n", id="contains itself"),
        pytest.param("application/yaml", b"[" * 100_000, id="YAML, deep"),
        pytest.param("application/yaml", b"- " * 100_000, id="YAML, deep in blocks"),
        pytest.param("application/yaml", b"a: !!python/object/apply:os.system [id]", id="a tag that runs"),
        pytest.param("application/yaml", b"a: " + b"9" * 100_000, id="YAML, long number"),
        pytest.param("application/yaml", b"metadata: {name: x}\n---\nmetadata: {name: y}\n", id="two documents"),
        pytest.param("application/json", b'{"a":' * 100_000, id="JSON, deep"),
        pytest.param("application/json", b'{"a":' + b"9" * 100_000 + b"}", id="JSON, long number"),
        pytest.param("application/json", b'{"a":1e99999}', id="JSON, large number"),
        pytest.param("application/json", b'{"metadata":{"name":"\\ud800"}}', id="half a surrogate"),
        pytest.param("application/json", b'{"metadata":{"name":"a\\u0000"}}', id="NUL in a name"),
        pytest.param("application/json", b"\xff\xfe{\x00}\x00", id="UTF-16"),
        pytest.param("application/vnd.kubernetes.protobuf", b"k8s\x00" + b"\xff" * 1000, id="endless number"),
    ],
)
async def test_bodies_that_grow_are_refused_before_they_do(api, server, content_type, raw):
    before, path = server.megabytes, f"/api/v1{DEFAULT}/configmaps"

    answer = await api.call("POST", path, raw=raw, content_type=content_type)

    assert answer.code in (400, 415, 422)
    assert answer.body["kind"] == "Status"
    assert len(answer.text) < 20_000
    assert server.megabytes - before < 60


async def test_yaml_aliases_that_stay_small_are_accepted(api):
    raw = b"metadata: {name: aliased, labels: &l {a: b}, annotations: *l}\n"

    answer = await api.call("POST", f"/api/v1{DEFAULT}/configmaps", raw=raw, content_type="application/yaml")

    assert answer.body["metadata"]["annotations"] == {"a": "b"}


@pytest.mark.parametrize("depth", [100, 300, 500, 900])
async def test_what_is_deep_is_refused_or_can_be_read_after_a_restart(fresh_server, connected, depth):
    path = f"/api/v1{DEFAULT}/configmaps"
    raw = b'{"metadata":{"name":"deep"},"data":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    async with connected(fresh_server) as api:
        made = settled(await api.call("POST", path, raw=raw))
        settled(await api.call("PATCH", f"{path}/deep", {"x": 1}, content_type="application/merge-patch+json"))
    await asyncio.to_thread(fresh_server.stop)
    await asyncio.to_thread(fresh_server.start)

    async with connected(fresh_server) as api:
        await still_served(api, path)
        found = await api.get(f"{path}/deep")

    assert found.code == (200 if made.code == 201 else 404)
