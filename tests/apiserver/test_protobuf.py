"""Protobuf bodies, as Go's typed clients write them: what they say becomes JSON, and what cannot be read is refused, not lost."""

from __future__ import annotations

import pytest

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


def test_a_status_is_not_part_of_what_is_wanted():
    assert "status" not in decode(pod())


async def test_a_status_that_is_written_as_protobuf_is_refused_and_not_passed_over(api, namespace):
    pods = f"/api/v1/namespaces/{namespace}/pods"
    await api.made(pods, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}})

    refused = await api.call("PUT", f"{pods}/p/status", raw=pod(), content_type="application/vnd.kubernetes.protobuf")

    assert (refused.code, refused.body["reason"]) == (415, "UnsupportedMediaType")
    assert "the status of a Pod is not accepted as protobuf: send JSON" in refused.body["message"]


def test_what_is_not_set_may_be_written_by_any_number():
    assert decode(pod((1000, b""), (1001, 0)))["spec"]["containers"][0]["name"] == "a"


def test_a_field_that_cannot_be_read_is_refused_and_not_lost():
    volume = message((1, "data"))

    with pytest.raises(BadProtobuf, match=r"Pod has a field that is not accepted as protobuf.*send JSON"):
        decode(pod((1, volume)))
