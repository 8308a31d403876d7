"""Generated definitions: they know every field that there is in the APIs that they stand for."""

from __future__ import annotations

import importlib

import msgspec
import pytest

from isthmus.api import gateway_api
from isthmus.api.crds import all_crds, crd
from isthmus.api.registry import KINDS
from isthmus.api.unread import UNREAD
from isthmus.assurance.validation.validating import known_shapes

CUSTOM = {key: kind for key, kind in KINDS.items() if kind.is_custom}
TYPES = {"text": "string", "enum": "string", "duration": "string", "flag": "boolean", "whole": "integer", "number": "number"}  # fmt: skip


def differences(shape, schema, path):
    """Where a definition would not take what `isthmus validate` calls right."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or shape.type == "any":
        return
    if shape.type == "record":
        for name, inner in shape.fields.items():
            known = schema.get("properties", {}).get(name)
            if known is None:
                yield f"{path}.{name} is unknown"
            else:
                yield from differences(inner, known, f"{path}.{name}")
    elif shape.type == "many":
        yield from differences(shape.item, schema["items"], f"{path}[]")
    elif shape.type == "mapping":
        yield from differences(shape.item, schema["additionalProperties"], f"{path}{{}}")
    elif schema.get("type") != TYPES.get(shape.type, schema.get("type")):
        yield f"{path} is {schema.get('type')}, not {shape.type}"


@pytest.mark.parametrize("key", CUSTOM)
def test_a_definition_takes_every_field_that_its_api_has(key):
    kind = CUSTOM[key]
    shape = known_shapes().get((kind.group, kind.name))
    spec = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

    assert shape is not None or key == "UDPRoute"
    assert shape is None or list(differences(shape, spec, key)) == []


def test_an_unread_field_belongs_to_a_type_that_there_is():
    for name in UNREAD:
        module, struct = name.split(".")
        assert hasattr(importlib.import_module(f"isthmus.api.{module}"), struct)


def test_versions_in_which_people_still_write_are_served_and_one_is_stored():
    (definition,) = [crd for crd in all_crds() if crd["metadata"]["name"] == "virtualservices.networking.istio.io"]

    versions = [(version["name"], version["storage"]) for version in definition["spec"]["versions"]]
    assert versions == [("v1", True), ("v1beta1", False), ("v1alpha3", False)]


def test_definitions_of_gateway_api_say_which_release_they_are_of_and_serve_its_versions():
    """Istio's control plane reads TLSRoutes, TCPRoutes, GRPCRoutes and BackendTLSPolicies of new enough releases only, and in v1."""
    definitions = [crd for crd in all_crds() if crd["spec"]["group"] == gateway_api.GROUP]

    said = {crd["metadata"]["annotations"]["gateway.networking.k8s.io/bundle-version"] for crd in definitions}
    stored = [[each["name"] for each in crd["spec"]["versions"] if each["storage"]] for crd in definitions]
    served = {crd["spec"]["names"]["kind"]: {each["name"] for each in crd["spec"]["versions"]} for crd in definitions}
    assert said == {"v1.6.0"}
    assert [len(versions) for versions in stored] == [1] * len(definitions)
    assert all("v1" in served[kind] for kind in served)
    assert served["TLSRoute"] >= {"v1", "v1alpha3", "v1alpha2"}


def test_no_field_that_is_read_is_told_to_have_no_effect():
    for name, words in UNREAD.items():
        module, _, kind = name.partition(".")
        shape = getattr(importlib.import_module(f"isthmus.api.{module}"), kind)
        read = {each.encode_name for each in msgspec.structs.fields(shape)}
        assert read.isdisjoint(words.split()), name
