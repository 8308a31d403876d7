"""Custom kinds: what their schemas refuse, prune and fill in, how they are shown, scaled and counted."""

from __future__ import annotations

import pytest

MERGE = "application/merge-patch+json"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}

SPEC = {
    "type": "object",
    "required": ["colour"],
    "properties": {
        "colour": {"type": "string", "enum": ["red", "green"]},
        "watts": {"type": "integer", "minimum": 1, "maximum": 100, "default": 5},
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "nullable": True},
        "port": {"x-kubernetes-int-or-string": True},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "replicas": {"type": "integer"},
        "switches": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["room"],
            "maxItems": 3,
            "items": {
                "type": "object",
                "required": ["room"],
                "properties": {"room": {"type": "string"}, "on": {"type": "boolean", "default": True}},
            },
        },
    },
}


def definition(group, spec=SPEC, **version):
    schema = {"type": "object", "properties": {"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}  # fmt: skip
    served = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}} | version
    return {
        "metadata": {"name": f"lamps.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "lamps", "kind": "Lamp"},
            "versions": [served],
        },
    }


@pytest.fixture
def group(namespace):
    return f"{namespace}.example"


@pytest.fixture
async def lamps(api, group, namespace):
    columns = [
        {"name": "Colour", "type": "string", "jsonPath": ".spec.colour"},
        {"name": "Rooms", "type": "string", "jsonPath": ".spec.switches[*].room"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Watts", "type": "integer", "jsonPath": ".spec.watts", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    await api.made(
        CRDS, definition(group, additionalPrinterColumns=columns, subresources={"status": {}, "scale": scale})
    )
    return f"/apis/{group}/v1/namespaces/{namespace}/lamps"


def lamp(**spec):
    return {"metadata": {"name": "hall"}, "spec": {"colour": "red"} | spec}


async def test_what_is_not_said_is_filled_in_where_the_schema_says_so(api, lamps):
    made = await api.made(lamps, lamp(switches=[{"room": "hall"}, {"room": "loft", "on": False}]))

    assert made["spec"]["watts"] == 5
    assert made["spec"]["switches"] == [{"room": "hall", "on": True}, {"room": "loft", "on": False}]


async def test_unknown_fields_are_told_and_dropped_or_refused_or_dropped_in_silence(api, lamps):
    unknown = lamp(colur="x", free={"anything": [1]}, switches=[{"room": "a", "of": 1}])

    warned = await api.call("POST", lamps, unknown)
    strict = await api.call("POST", lamps, unknown | {"metadata": {"name": "b"}}, fieldValidation="Strict")
    silent = await api.call("POST", lamps, unknown | {"metadata": {"name": "c"}}, fieldValidation="Ignore")

    assert warned.headers.getall("Warning") == [
        '299 - "unknown field \\"spec.colur\\""',
        '299 - "unknown field \\"spec.switches[0].of\\""',
    ]
    assert warned.body["spec"] == {
        "colour": "red",
        "watts": 5,
        "free": {"anything": [1]},
        "switches": [{"room": "a", "on": True}],
    }
    assert (strict.code, strict.body["message"]) == (
        400,
        'strict decoding error: unknown field "spec.colur", unknown field "spec.switches[0].of"',
    )
    assert (silent.code, silent.headers.getall("Warning", [])) == (201, [])


@pytest.mark.parametrize(
    ("wrong", "field", "reason"),
    [
        ({"colour": "blue"}, "spec.colour", "FieldValueNotSupported"),
        ({"watts": 0}, "spec.watts", "FieldValueInvalid"),
        ({"watts": 101}, "spec.watts", "FieldValueInvalid"),
        ({"watts": "5"}, "spec.watts", "FieldValueTypeInvalid"),
        ({"watts": True}, "spec.watts", "FieldValueTypeInvalid"),
        ({"name": "UP"}, "spec.name", "FieldValueInvalid"),
        ({"name": "toolong"}, "spec.name", "FieldValueTooLong"),
        ({"port": True}, "spec.port", "FieldValueTypeInvalid"),
        ({"labels": {"a": 1}}, "spec.labels.a", "FieldValueTypeInvalid"),
        ({"switches": [{"on": True}]}, "spec.switches[0].room", "FieldValueRequired"),
        ({"switches": [{"room": "a"}, {"room": "a"}]}, "spec.switches[1]", "FieldValueDuplicate"),
        ({"switches": [{"room": str(n)} for n in range(4)]}, "spec.switches", "FieldValueTooLong"),
        ({"switches": None}, "spec.switches", "FieldValueTypeInvalid"),
    ],
)
async def test_values_that_the_schema_does_not_allow_are_refused(api, lamps, wrong, field, reason):
    refused = await api.call("POST", lamps, lamp(**wrong))

    assert (refused.code, refused.body["reason"]) == (422, "Invalid")
    assert [(cause["field"], cause["reason"]) for cause in refused.body["details"]["causes"]] == [(field, reason)]
    assert refused.body["message"].startswith(f'Lamp.{lamps.split("/")[2]} "hall" is invalid: {field}: ')


async def test_what_is_right_is_taken_as_it_is(api, lamps):
    for number, spec in enumerate(({"name": None}, {"name": "abc"}, {"port": 80}, {"port": "http"}, {"watts": 5.0})):
        made = await api.made(lamps, lamp(**spec) | {"metadata": {"name": f"lamp-{number}"}})
        assert made["spec"].items() >= spec.items()


async def test_a_missing_field_is_required_and_all_faults_are_told_at_once(api, lamps):
    refused = await api.call("POST", lamps, {"metadata": {"name": "a"}, "spec": {"watts": 0}})

    fields = [cause["field"] for cause in refused.body["details"]["causes"]]
    assert fields == ["spec.colour", "spec.watts"]


async def test_status_and_spec_are_apart_and_only_the_spec_counts_as_a_generation(api, lamps):
    await api.made(lamps, lamp() | {"status": {"no": 1}})

    told = await api.call("PATCH", f"{lamps}/hall/status", {"status": {"on": True}, "spec": {"watts": 9}}, content_type=MERGE)  # fmt: skip
    changed = await api.call("PATCH", f"{lamps}/hall", {"spec": {"watts": 9}, "status": None}, content_type=MERGE)

    assert (told.body["status"], told.body["spec"]["watts"], told.body["metadata"]["generation"]) == ({"on": True}, 5, 1)  # fmt: skip
    assert (changed.body["status"], changed.body["metadata"]["generation"]) == ({"on": True}, 2)


async def test_columns_show_what_their_paths_lead_to(api, lamps):
    await api.made(lamps, lamp(switches=[{"room": "hall"}, {"room": "loft"}]))
    conditions = [{"type": "Lit", "status": "False"}, {"type": "Ready", "status": "True"}]
    await api.call("PATCH", f"{lamps}/hall/status", {"status": {"conditions": conditions}}, content_type=MERGE)

    table = (await api.call("GET", lamps, headers=TABLE)).body

    assert [(c["name"], c["priority"]) for c in table["columnDefinitions"]] == [
        ("Name", 0), ("Colour", 0), ("Rooms", 0), ("Ready", 0), ("Watts", 1), ("Age", 0),
    ]  # fmt: skip
    assert table["rows"][0]["cells"][:5] == ["hall", "red", "hall,loft", "True", 5]


async def test_a_custom_kind_scales_where_it_says(api, lamps):
    await api.made(lamps, lamp(replicas=2))

    scale = (await api.get(f"{lamps}/hall/scale")).body
    await api.call("PUT", f"{lamps}/hall/scale", scale | {"spec": {"replicas": 4}})

    assert scale["spec"] == {"replicas": 2}
    assert (await api.get(f"{lamps}/hall")).body["spec"]["replicas"] == 4


async def test_keyed_lists_of_custom_kinds_are_applied_item_by_item(api, lamps, group):
    head = {"apiVersion": f"{group}/v1", "kind": "Lamp", "metadata": {"name": "hall"}}
    apply = {"content_type": "application/apply-patch+yaml"}
    one = head | {"spec": {"colour": "red", "switches": [{"room": "a"}]}}
    other = head | {"spec": {"switches": [{"room": "b"}]}}

    await api.call("PATCH", f"{lamps}/hall", one, fieldManager="m1", **apply)
    both = await api.call("PATCH", f"{lamps}/hall", other, fieldManager="m2", **apply)

    assert sorted(switch["room"] for switch in both.body["spec"]["switches"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"type": "string", "properties": {"a": {}}}, "properties[a].type"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, "properties[a].type"),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, "properties[a].items"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}, "properties[a].pattern"),
        ({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}, "properties[a].default"),
        ({"type": "object", "allOf": [{"x-kubernetes-validations": [{"rule": "true"}]}]}, "allOf"),
    ],
)
async def test_a_schema_that_is_not_structural_is_refused(api, group, spec, told):
    refused = await api.call("POST", CRDS, definition(group, spec))

    assert (refused.code, refused.body["reason"]) == (422, "Invalid")
    assert f"properties[spec].{told}" in refused.body["message"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"x-kubernetes-validations": ["self.a < 1"]}, "x-kubernetes-validations[0]"),
        ({"x-kubernetes-validations": [{"message": "no rule"}]}, "missing required field `rule`"),
        ({"properties": ["a"]}, "Expected `object | null`, got `array`"),
        ({"required": [1]}, "required[0]"),
    ],
)
async def test_a_schema_whose_words_have_the_wrong_type_is_refused(api, group, wrong, told):
    refused = await api.call("POST", CRDS, definition(group, {"type": "object"} | wrong))

    assert (refused.code, refused.body["reason"]) == (422, "Invalid")
    assert told in refused.body["message"]


async def test_a_definition_without_a_schema_or_with_a_path_that_is_none_is_refused(api, group):
    no_schema = await api.call("POST", CRDS, definition(group, schema=None))
    column = {"name": "A", "type": "string", "jsonPath": ".a[?"}
    bad_path = await api.call("POST", CRDS, definition(group, additionalPrinterColumns=[column]))
    webhook = definition(group)
    webhook["spec"]["conversion"] = {"strategy": "Webhook"}
    converted = await api.call("POST", CRDS, webhook)

    assert "schemas are required" in no_schema.body["message"]
    assert "additionalPrinterColumns[0].jsonPath" in bad_path.body["message"]
    assert "spec.conversion.strategy" in converted.body["message"]


async def test_rules_of_a_definition_are_asked_of_its_objects(api, group, namespace):
    rules = [
        {"rule": "!has(self.watts) || self.watts < 10", "message": "too bright", "fieldPath": ".watts"},
        {"rule": "self.colour == oldSelf.colour", "message": "a colour stays", "reason": "FieldValueForbidden"},
    ]
    await api.made(CRDS, definition(group, SPEC | {"x-kubernetes-validations": rules}))
    path = f"/apis/{group}/v1/namespaces/{namespace}/lamps"

    bright = await api.call("POST", path, lamp(watts=50))
    wrong = await api.call("POST", path, {"metadata": {"name": "hall"}, "spec": {"watts": 50}})
    await api.made(path, lamp(watts=5))
    repainted = await api.call("PATCH", f"{path}/hall", {"spec": {"colour": "green"}}, content_type=MERGE)
    dimmed = await api.call("PATCH", f"{path}/hall", {"spec": {"watts": 4}}, content_type=MERGE)

    assert (bright.code, bright.body["reason"]) == (422, "Invalid")
    assert bright.body["details"]["causes"] == [
        {"reason": "FieldValueInvalid", "message": 'Invalid value: "object": too bright', "field": "spec.watts"}
    ]
    assert [cause["field"] for cause in wrong.body["details"]["causes"]] == ["spec.colour", "<nil>"]
    assert repainted.body["details"]["causes"] == [
        {"reason": "FieldValueForbidden", "message": "Forbidden: a colour stays", "field": "spec"}
    ]
    assert dimmed.code == 200


async def test_a_rule_with_a_function_that_nobody_knows_is_left_out_and_the_definition_says_so(api, group, namespace):
    rules = [{"rule": "semver(self.colour).isValid()"}, {"rule": "self.watts < 10"}]

    made = await api.call("POST", CRDS, definition(group, SPEC | {"x-kubernetes-validations": rules}))
    asked = await api.call("POST", f"/apis/{group}/v1/namespaces/{namespace}/lamps", lamp(watts=50))
    again = await api.call("PATCH", f"{CRDS}/lamps.{group}", {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)

    place = "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"
    assert made.code == 201
    assert place in made.headers["Warning"]
    [condition] = [each for each in made.body["status"]["conditions"] if each["type"] == "ValidationRulesCompiled"]
    assert (condition["status"], condition["reason"]) == ("False", "NotCompiled")
    assert f"{place}: compilation failed" in condition["message"]
    assert "undeclared reference to 'semver'" in condition["message"]
    assert asked.code == 422, "the other rule is asked"
    assert condition in again.body["status"]["conditions"], "since when it is so does not change"


async def test_a_rule_whose_message_cannot_be_computed_is_asked_and_the_warning_says_so(api, group, namespace):
    rules = [{"rule": "self.watts < 10", "message": "too bright", "messageExpression": "semver(self.colour)"}]

    made = await api.call("POST", CRDS, definition(group, SPEC | {"x-kubernetes-validations": rules}))
    asked = await api.call("POST", f"/apis/{group}/v1/namespaces/{namespace}/lamps", lamp(watts=50))

    assert "this rule is asked, but its message is not computed" in made.headers["Warning"]
    assert asked.code == 422
    assert "too bright" in asked.body["message"]


async def test_an_object_with_a_time_that_cannot_be_counted_is_stored_and_can_be_changed(api, group, namespace):
    wait = {"type": "string", "format": "duration"}
    spec = {"type": "object", "properties": {"wait": wait, "note": {"type": "string"}}}
    rules = [{"rule": "!has(self.note) || self.note != 'never'"}]
    await api.made(CRDS, definition(group, spec | {"x-kubernetes-validations": rules}))
    path = f"/apis/{group}/v1/namespaces/{namespace}/lamps"

    await api.made(path, {"metadata": {"name": "hall"}, "spec": {"wait": "999999999999999h"}})
    changed = await api.call("PATCH", f"{path}/hall", {"spec": {"note": "later"}}, content_type=MERGE)

    assert (changed.code, changed.body.get("spec", {}).get("note")) == (200, "later")


async def test_a_rule_that_no_server_could_read_is_refused(api, group):
    broken = [{"rule": "self.watts <"}, {"rule": "self.watts + 1.0"}, {"rule": "'text'"}]

    refused = await api.call("POST", CRDS, definition(group, SPEC | {"x-kubernetes-validations": broken}))

    assert refused.code == 422
    assert [cause["field"].rpartition(".x-")[2] for cause in refused.body["details"]["causes"]] == [
        f"kubernetes-validations[{position}].rule" for position in range(3)
    ]


async def test_an_object_that_a_stricter_schema_no_longer_allows_can_still_be_deleted(api, lamps, group):
    await api.made(lamps, lamp(watts=50) | {"metadata": {"name": "hall", "finalizers": ["a.example/b"]}})
    crd = (await api.get(f"{CRDS}/lamps.{group}")).body
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["watts"]["maximum"] = 10
    assert (await api.call("PUT", f"{CRDS}/lamps.{group}", crd)).code == 200

    touched = await api.call("PATCH", f"{lamps}/hall", {"spec": {"watts": 60}}, content_type=MERGE)
    await api.call("DELETE", f"{lamps}/hall")
    await api.call("PATCH", f"{lamps}/hall", {"metadata": {"finalizers": None}}, content_type=MERGE)

    assert touched.code == 422
    assert (await api.get(f"{lamps}/hall")).code == 404
