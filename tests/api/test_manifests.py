"""Texts become objects that know where they stand."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from isthmus.api.manifests import BadManifest, manifests_of

TWO = """\
# The shop.
kind: Service
metadata:
  name: cart
---
kind: List
items:
- kind: Pod
  metadata: {name: a}
- kind: Pod
  metadata:
    name: b
"""


def test_each_object_knows_its_line_those_of_lists_too() -> None:
    found = manifests_of(TWO)

    assert [(each.value["kind"], each.line) for each in found] == [("Service", 2), ("Pod", 8), ("Pod", 10)]


def test_a_field_is_found_by_its_path_or_by_what_is_around_it() -> None:
    [service, _, pod] = manifests_of(TWO)

    assert service.line_of("metadata.name") == 4
    assert pod.line_of("metadata.name") == 12
    assert pod.line_of("spec.containers[0]") == 10


def test_quoted_keys_are_parts_of_paths() -> None:
    [found] = manifests_of("metadata:\n  labels:\n    app.kubernetes.io/name: a\n")

    assert found.line_of("metadata.labels['app.kubernetes.io/name']") == 3


def test_values_are_those_that_an_api_server_would_get() -> None:
    [found] = manifests_of(
        "[2020-01-01T00:00:00Z, 12:30, 0x10, 1_000, 1e3, .inf, on, 'on', ~, null, '', 08, !!int '7']"
    )

    assert found.value == [
        "2020-01-01T00:00:00Z", "12:30", 16, 1000, 1000.0, float("inf"), True, "on", None, None, "", 8, 7
    ]  # fmt: skip


def test_anchors_and_merged_mappings_work() -> None:
    [found] = manifests_of("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n")

    assert found.value == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a is written twice"),
        ("a: 1\n---\nb: [\n", 3, "is not YAML"),
        ("\ta: 1", 1, "is not YAML"),
        ("a: *nobody", 1, "no anchor nobody"),
        ("? [a]\n: 1", 1, "a key is a list"),
        ("[" * 200 + "]" * 200, 1, "nested more than"),
        ("a\u0000b", 1, "is not YAML"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(text: str, line: int, why: str) -> None:
    with pytest.raises(BadManifest, match=why) as caught:
        manifests_of(text)

    assert caught.value.line == line


def test_aliases_cannot_blow_up() -> None:
    names = "abcdefghijklmnop"
    text = "a: &a [x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in itertools.pairwise(names)
    )

    with pytest.raises(BadManifest, match="more than 5000000 values"):
        manifests_of(text)


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))
NAME = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1)
SIMPLE = st.one_of(st.none(), st.booleans(), st.integers(), TEXT)


@given(value=st.recursive(SIMPLE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=3)))
def test_json_and_yaml_of_a_value_are_read_as_that_value(value: Any) -> None:
    obj = {"kind": "A", "value": value}

    for text in (json.dumps(obj), json.dumps(obj, indent=2), yaml.safe_dump(obj)):
        assert [each.value for each in manifests_of(text)] == [obj]
