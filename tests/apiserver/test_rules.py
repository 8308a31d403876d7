"""Rules of custom kinds (CEL): what they see, when they are asked, and what is said where they are broken."""

from __future__ import annotations

import pytest

from isthmus.apiserver import rules

TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
LISTENER = {"type": "object", "properties": {"name": TEXT, "port": WHOLE, "tls": {"type": "object"}}}


def rule(text, **more):
    return {"rule": text} | more


def told(schema, new, old=None):
    """Field, reason and message of all that the rules of `spec` say."""
    version = {"schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema}}}}
    compiled = rules.rules_of(version)
    assert rules.problems_of({"spec": {"versions": [version]}}) == []
    before = None if old is None else {"spec": old}
    return [tuple(fault) for fault in rules.faults(compiled, {"spec": new}, before, [])]


def holds(text, value, schema=None):
    """Whether a rule about one value is kept, whatever the value is."""
    return not told((schema or {"x-kubernetes-preserve-unknown-fields": True}) | {rules.FIELD: [rule(text)]}, value)


@pytest.mark.parametrize(
    ("text", "value", "kept"),
    [
        ("self.all(l, has(l.tls) == (l.port == 443))", [{"port": 80}, {"port": 443, "tls": {}}], True),
        ("self.all(a, self.exists_one(b, a.port == b.port))", [{"port": 80}, {"port": 80}], False),
        (
            "size(self.group) == 0 && self.kind == 'Service' ? has(self.port) : true",
            {"group": "", "kind": "Service"},
            False,
        ),
        ("self.matches('^[a-z]+$') && self.size() <= 3", "abcd", False),
        ("self.split('/').size() == 2 && self.lowerAscii().startsWith('a')", "A/b", True),
        ("self.?mode.orValue('Terminate') == 'Terminate'", {}, True),
        ("duration(self) >= duration('1ms') && duration(self) < duration('1h')", "2h", False),
        ("type(self) == string ? self.endsWith('%') : self >= 0", "25%", True),
        ("isURL(self) && url(self).getScheme() in ['http', 'https']", "https://a.example:8/x?y=1", True),
        ("url(self).getHost() == 'a.example:8' && url(self).getPort() == '8'", "https://a.example:8/x", True),
        ("isURL(self)", "not a url", False),
        ("isIP(self) && ip(self).family() == 6", "::1", True),
        ("isCIDR(self) && cidr(self).containsIP(ip('10.1.2.3'))", "10.0.0.0/8", True),
        ("cidr('10.0.0.0/8').containsCIDR(cidr(self))", "11.0.0.0/16", False),
        ("quantity(self).isGreaterThan(quantity('1023Mi')) && quantity(self) == quantity('1024Mi')", "1Gi", True),
        ("quantity(self).add(quantity('500m')).compareTo(quantity('2')) == 0", "1.5", True),
        ("self.isSorted() && self.sum() == 6 && self.min() == 1 && self.max() == 3", [1, 2, 3], True),
        ("self.indexOf(2) == 1 && self.lastIndexOf(2) == 2", [1, 2, 2], True),
        ("sets.contains(['a', 'b'], self) && sets.intersects(self, ['b'])", ["a"], False),
        ("self.find('[0-9]+') == '12' && self.findAll('[0-9]').size() == 2", "a12", True),
        ("self.exists(k, k.startsWith('a') && self[k] == 'b')", {"ab": "b"}, True),
    ],
)
def test_functions_of_kubernetes_rules(text, value, kept):
    assert holds(text, value) is kept


def test_values_are_seen_in_the_types_of_the_schema():
    schema = {
        "type": "object",
        "properties": {
            "share": {"type": "number"},
            "since": {"type": "string", "format": "date-time"},
            "wait": {"type": "string", "format": "duration"},
            "namespace": TEXT,
            "max-size": WHOLE,
        },
    }
    value = {"share": 1, "since": "2026-01-02T00:00:00Z", "wait": "1m30s", "namespace": "a", "max-size": 3}

    assert holds("self.share < 1.5", value, schema)
    assert holds("self.since > timestamp('2026-01-01T00:00:00Z')", value, schema)
    assert holds("self.wait == duration('90s')", value, schema)
    assert holds("self.__namespace__ == 'a' && self.max__dash__size == 3", value, schema)


def test_what_is_said_of_a_broken_rule():
    schema = {
        "type": "object",
        "properties": {"low": WHOLE, "high": WHOLE},
        rules.FIELD: [
            rule("self.low <= self.high", message="low must not be above high", fieldPath=".low"),
            rule("self.high < 10", messageExpression="'high is ' + string(self.high)", reason="FieldValueForbidden"),
            rule("self.low > 0", reason="FieldValueRequired", message="say low"),
            rule("self.low != 0"),
        ],
    }

    assert told(schema, {"low": 0, "high": 12}) == [
        ("spec", "FieldValueForbidden", "Forbidden: high is 12"),
        ("spec", "FieldValueRequired", "Required value: say low"),
        ("spec", "FieldValueInvalid", 'Invalid value: "object": failed rule: self.low != 0'),
    ]
    assert told(schema, {"low": 5, "high": 4}) == [
        ("spec.low", "FieldValueInvalid", 'Invalid value: "object": low must not be above high')
    ]


def test_a_rule_that_fails_while_it_is_asked_says_why():
    found = told(
        {"type": "object", "properties": {"a": TEXT}, rules.FIELD: [rule("self.a == 'b'", message="a is b")]}, {}
    )

    [(field, reason, message)] = found
    assert (field, reason) == ("spec", "FieldValueInvalid")
    assert 'Key not found in map : "a" evaluating rule: a is b' in message


def test_rules_inside_lists_and_maps_name_the_place():
    item = LISTENER | {rules.FIELD: [rule("self.port > 0", message="no port")]}
    schema = {
        "type": "object",
        "properties": {
            "listeners": {"type": "array", "items": item},
            "named": {"type": "object", "additionalProperties": item},
        },
    }

    found = told(schema, {"listeners": [{"port": 1}, {"port": 0}], "named": {"a": {"port": -1}}})

    assert [field for field, _, _ in found] == ["spec.listeners[1]", "spec.named[a]"]


def test_rules_about_changes_are_asked_of_changes_only():
    schema = {
        "type": "object",
        "properties": {"size": WHOLE | {rules.FIELD: [rule("self >= oldSelf", message="never smaller")]}},
    }

    assert told(schema, {"size": 1}) == []
    assert told(schema, {"size": 2}, {"size": 1}) == []
    assert told(schema, {"size": 1}, {}) == []
    assert told(schema, {"size": 1}, {"size": 2}) == [
        ("spec.size", "FieldValueInvalid", 'Invalid value: "integer": never smaller')
    ]


def test_an_optional_old_value_is_asked_of_new_objects_too():
    schema = {
        "type": "object",
        "properties": {"size": WHOLE},
        rules.FIELD: [rule("oldSelf.hasValue() || self.size == 1", optionalOldSelf=True, message="begin with one")],
    }

    assert told(schema, {"size": 1}) == []
    assert [message for _, _, message in told(schema, {"size": 2})] == ['Invalid value: "object": begin with one']
    assert told(schema, {"size": 2}, {"size": 1}) == []


def test_items_with_keys_keep_their_past_and_others_have_none():
    item = LISTENER | {rules.FIELD: [rule("self.port == oldSelf.port", message="a port stays")]}
    keyed = {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    before, after = (
        [{"name": "a", "port": 1}, {"name": "b", "port": 2}],
        [{"name": "b", "port": 3}, {"name": "c", "port": 1}],
    )

    def said(listeners):
        return [
            field
            for field, _, _ in told({"type": "object", "properties": {"l": listeners}}, {"l": after}, {"l": before})
        ]

    assert said(keyed) == ["spec.l[0]"]
    assert said({"type": "array", "items": item}) == []


def test_what_was_wrong_before_and_has_not_changed_is_let_be():
    schema = {
        "type": "object",
        "properties": {"a": WHOLE | {rules.FIELD: [rule("self < 10")]}, "b": WHOLE},
    }

    assert told(schema, {"a": 50, "b": 2}, {"a": 50, "b": 1}) == []
    assert len(told(schema, {"a": 51, "b": 2}, {"a": 50, "b": 1})) == 1


@pytest.mark.parametrize(
    ("text", "value", "why"),
    [
        ("self.find('(') == ''", "a", "not a pattern that can be read"),
        ("self.findAll('a').size() > 0", "a" * 10_001, "a text of 10001 characters"),
    ],
)
def test_a_pattern_that_cannot_be_asked_fails_its_rule_and_says_why(text, value, why):
    [(_, _, message)] = told(TEXT | {rules.FIELD: [rule(text)]}, value)

    assert why in message


def test_a_stored_rule_that_is_no_object_is_not_asked_and_named():
    version = {"schema": {"openAPIV3Schema": {"type": "object", rules.FIELD: ["self.a < 1", rule("self.a < 1")]}}}

    compiled = rules.rules_of(version)

    assert len(list(rules.faults(compiled, {"a": 1}, None, []))) == 1, "the other one is asked"
    [problem] = rules.problems_of({"spec": {"versions": [version]}})
    assert problem.path.endswith(f"{rules.FIELD}[0]")


@pytest.mark.parametrize("value", [{"wait": "999999999999999h"}, {"count": 10**400}, {"count": 10**30}, {"n": 10**30}])
def test_what_is_beyond_any_count_stops_no_rule_about_something_else(value):
    duration, number = {"type": "string", "format": "duration"}, {"type": "number"}
    schema = {"type": "object", "properties": {"wait": duration, "count": number, "n": WHOLE, "a": WHOLE}}

    assert told(schema | {rules.FIELD: [rule("!has(self.a) || self.a == 1")]}, value | {"a": 1}) == []


def test_an_expression_that_would_not_end_is_ended():
    [(_, _, message)] = told(
        {"type": "array", "items": WHOLE, rules.FIELD: [rule("self.all(a, self.all(b, self.all(c, a + b + c >= 0)))")]},
        list(range(100)),
    )

    assert "budget exceeded" in message
