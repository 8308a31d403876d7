"""Protobuf bodies, as Go's typed clients write them: what they say becomes JSON, and what cannot be read is refused, not lost."""

from __future__ import annotations

import pytest

from isthmus.apiserver.kinds import BUILT_IN, VIRTUAL
from isthmus.apiserver.protobuf import BadProtobuf, decode


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def message(*fields):
    """Of (number, value): bytes and text are of a length, numbers are varints."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            raw = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(raw)) + raw
    return out


def body(api_version, kind, raw):
    return b"k8s\x00" + message((1, message((1, api_version), (2, kind))), (2, raw))


def pod(*spec, container=()):
    whole = message((1, "a"), (2, "a:1"), *container)
    return body(
        "v1", "Pod", message((1, message((1, "p"), (8, b""))), (2, message((2, whole), *spec)), (3, message((4, "x"))))
    )


def test_parts_that_go_writes_inside_others_are_where_json_has_them():
    port = message((1, 0), (2, 8080), (3, ""))
    probe = message((1, message((2, message((1, "/ready"), (2, port))))), (4, 5))
    reference = message((3, message((1, message((1, "settings"))), (2, "key"))))
    quantities = message((1, message((1, "cpu"), (2, message((1, "500m"))))))
    made = decode(pod(container=((7, message((1, "COLOUR"), (3, reference))), (8, quantities), (11, probe))))

    assert made["spec"]["containers"] == [
        {
            "name": "a",
            "image": "a:1",
            "env": [{"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "key"}}}],
            "resources": {"limits": {"cpu": "500m"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 5},
        }
    ]


async def test_a_status_is_kept_where_it_is_written_and_nowhere_else(api, namespace):
    pods = f"/api/v1/namespaces/{namespace}/pods"
    protobuf = "application/vnd.kubernetes.protobuf"
    created = await api.call("POST", pods, raw=pod(), content_type=protobuf)
    assert created.code == 201, created.text
    assert created.body["status"] == {"phase": "Pending"}

    written = await api.call("PUT", f"{pods}/p/status", raw=pod(), content_type=protobuf)

    assert written.code == 200, written.text
    assert written.body["status"]["reason"] == "x"


async def test_kinds_that_only_lie_here_are_taken_as_well(api, namespace):
    """`kubectl create job` and its like have nothing but protobuf."""
    container = message((1, "work"), (2, "a:1"), (9, message((1, "data"), (3, "/data"))))
    volume = message((1, "data"), (2, message((2, b""))))
    template = message((2, message((1, volume), (2, container), (3, "Never"))))
    job = body("batch/v1", "Job", message((1, message((1, "once"))), (2, message((2, 1), (6, template)))))

    made = await api.call(
        "POST",
        f"/apis/batch/v1/namespaces/{namespace}/jobs",
        raw=job,
        content_type="application/vnd.kubernetes.protobuf",
    )

    assert made.code == 201, made.text
    assert made.body["spec"]["completions"] == 1
    assert made.body["spec"]["template"]["spec"]["volumes"] == [{"name": "data", "emptyDir": {}}]


async def test_every_kind_that_is_kept_has_its_fields_in_the_table():
    for kind in (*BUILT_IN, *VIRTUAL):
        named = decode(body(kind.group_version, kind.name, message((1, message((1, "a"))))))
        assert named == {"apiVersion": kind.group_version, "kind": kind.name, "metadata": {"name": "a"}}


@pytest.mark.parametrize(
    ("written", "schema"),
    [
        (message((30, message((1, 0)))), {"additionalProperties": False}),
        (message((30, message((1, 1), (2, message((5, "string")))))), {"additionalProperties": {"type": "string"}}),
        (message((24, message((1, message((5, "integer")))))), {"items": {"type": "integer"}}),
        (message((24, message((2, message((5, "integer")))))), {"items": [{"type": "integer"}]}),
        (message((32, message((1, "a"), (2, message((2, "b")))))), {"dependencies": {"a": ["b"]}}),
        (message((8, message((1, '{"a": [1]}')))), {"default": {"a": [1]}}),
        (message((29, message((1, "a"), (2, message((38, 1)))))), {"properties": {"a": {"x-kubernetes-preserve-unknown-fields": True}}}),
    ],
)  # fmt: skip
def test_schemas_that_are_one_thing_or_another_are_that(written, schema):
    version = message((1, "v1"), (4, message((1, written))))
    definition = decode(
        body("apiextensions.k8s.io/v1", "CustomResourceDefinition", message((2, message((7, version)))))
    )

    assert definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] == schema


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (message((1, message((8, message((1, 1 << 60)))))), "a time is in no year"),
        (message((1, message((1, 7)))), "text or a message was expected"),
        (message((1, message((7, "x")))), "a number was expected"),
        (message((1, b"\x0a\x05ab")), "cut off"),
        (message((1, message((1, b"\xff")))), "not UTF-8"),
        (message((1, message((17, message((7, message((1, "{")))))))), "JSON inside it cannot be read"),
    ],
)
async def test_what_cannot_be_is_told(api, namespace, raw, said):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    refused = await api.call(
        "POST", path, raw=body("v1", "ConfigMap", raw), content_type="application/vnd.kubernetes.protobuf"
    )

    assert (refused.code, refused.body["reason"]) == (415, "UnsupportedMediaType")
    assert said in refused.body["message"]


def test_messages_inside_messages_have_an_end():
    inner = b""
    for _ in range(2000):
        inner = message((28, inner))
    version = message((4, message((1, inner))))

    with pytest.raises(BadProtobuf, match="too many messages inside each other"):
        decode(body("apiextensions.k8s.io/v1", "CustomResourceDefinition", message((2, message((7, version))))))


def test_what_is_not_set_may_be_written_by_any_number():
    assert decode(pod((1000, b""), (1001, 0)))["spec"]["containers"][0]["name"] == "a"


def test_a_field_that_cannot_be_read_is_refused_and_not_lost():
    with pytest.raises(BadProtobuf, match=r"Pod has a field that is not accepted as protobuf.*send JSON"):
        decode(pod((1000, message((1, "data")))))
