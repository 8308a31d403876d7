"""Objects as API servers and files have them become typed values, or say where they are wrong."""

from __future__ import annotations

import json

import pytest

from isthmus.api.crds import all_crds
from isthmus.api.registry import KINDS, UndecodableObject, decode


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_is_read_alike_from_json_and_from_yaml(kind):
    body = {"apiVersion": "x", "kind": kind.name, "metadata": {"name": "a", "namespace": "ns"}, "unknown": {"x": [1]}}

    seen = decode(kind, body)

    assert (seen.metadata.name, seen.metadata.namespace) == ("a", "ns")
    assert decode(kind, json.dumps(body).encode()) == seen


@pytest.mark.parametrize(
    ("kind", "body", "where"),
    [
        ("Service", {"spec": {"ports": [{"port": "http"}]}}, "spec.ports[0].port"),
        ("Service", {"spec": {"ports": [{}]}}, "spec.ports[0]"),
        ("Service", {"spec": {"ports": [{"port": 0}]}}, "spec.ports[0].port"),
        ("EndpointSlice", {"ports": [{"port": 65536}]}, "ports[0].port"),
        ("Gateway", {"spec": {"servers": [{"port": {"number": 70000}}]}}, "spec.servers[0].port.number"),
        ("ServiceEntry", {"spec": {"ports": [{"number": 70000}]}}, "spec.ports[0].number"),
        ("ServiceEntry", {"spec": {"endpoints": [{"ports": {"http": 0}}]}}, "spec.endpoints[0].ports"),
        ("WorkloadEntry", {"spec": {"weight": -1}}, "spec.weight"),
        ("Pod", {"metadata": {"labels": ["a"]}}, "metadata.labels"),
        ("Gateway", {"spec": {"servers": [{"port": {"number": "15443"}}]}}, "spec.servers[0].port.number"),
        ("VirtualService", {"spec": {"http": [{"match": [{"headers": {"x": None}}]}]}}, "spec.http[0].match[0].headers"),
    ],
)  # fmt: skip
def test_an_object_of_the_wrong_shape_says_where(kind, body, where):
    for form in (body, json.dumps(body).encode()):
        with pytest.raises(UndecodableObject) as refused:
            decode(KINDS[kind], form)

        assert where in str(refused.value)


def test_text_that_is_no_json_is_refused():
    with pytest.raises(UndecodableObject):
        decode(KINDS["Pod"], b"{")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        # What kubectl prints for an object that was never created.
        ("Service", {"metadata": {"name": "a", "creationTimestamp": None}, "status": {"loadBalancer": {}}}),
        ("VirtualService", {"metadata": {"name": "a", "creationTimestamp": None, "annotations": None}}),
        ("Pod", {"metadata": {"name": "a", "labels": None}, "spec": None, "status": {"podIPs": None}}),
        ("Service", {"metadata": {"name": "a"}, "spec": {"ports": None, "clusterIPs": None, "externalIPs": None}}),
        ("EndpointSlice", {"metadata": {"name": "a"}, "endpoints": None, "ports": [{"port": 1, "name": None}]}),
    ],
)
def test_null_says_as_little_as_absence(kind, body):
    def without_nulls(value):
        if isinstance(value, dict):
            return {key: without_nulls(each) for key, each in value.items() if each is not None}
        return [without_nulls(each) for each in value] if isinstance(value, list) else value

    for form in (body, json.dumps(body).encode()):
        assert decode(KINDS[kind], form) == decode(KINDS[kind], without_nulls(body) | {"endpoints": None})


def test_custom_kinds_have_definitions_and_the_others_have_none():
    assert {(crd["spec"]["group"], crd["spec"]["names"]["kind"]) for crd in all_crds()} == {
        (kind.group, kind.name) for kind in KINDS.values() if kind.is_custom
    }
    for crd in all_crds():
        names = crd["spec"]["names"]
        assert crd["metadata"]["name"] == f"{names['plural']}.{crd['spec']['group']}"
