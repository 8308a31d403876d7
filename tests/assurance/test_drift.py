"""Differences between primaries, and replicating rules without overwriting anybody's work."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.assurance.drift import Deed, content, differences, plan_sync, rules_of


def rule(name: str, **spec: object) -> tuple[str, dict]:
    metadata = {"name": name, "namespace": "shop", "resourceVersion": str(len(spec)), "uid": name}
    return "VirtualService", {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": metadata,
        "spec": spec,
    }


def applied(theirs: dict, steps: list) -> dict:
    """The target's rules after the steps."""
    after = dict(theirs)
    for step in steps:
        if step.deed in (Deed.CREATE, Deed.UPDATE):
            after[step.rule] = step.wanted
        elif step.deed is Deed.DELETE:
            del after[step.rule]
    return after


def test_a_difference_is_a_missing_rule_or_the_fields_that_differ():
    east = rules_of([rule("same", a=1), rule("only-east"), rule("differs", http=[{"timeout": "1s", "route": [1]}])])
    west = rules_of([rule("same", a=1), rule("differs", http=[{"timeout": "2s", "route": [1]}])])

    found = differences({"east": east, "west": west})

    assert [(d.rule.name, d.missing_in, d.fields) for d in found] == [
        ("differs", (), ("spec.http[0].timeout",)),
        ("only-east", ("west",), ()),
    ]


def test_what_is_meant_to_differ_is_passed_over():
    kind, obj = rule("gateway")
    obj["metadata"]["annotations"] = {"isthmus.io/drift": "ignored"}

    assert differences({"east": rules_of([(kind, obj)]), "west": {}}) == []


def test_versions_and_owners_of_objects_are_no_difference():
    kind, obj = rule("web", a=1)
    other = copy.deepcopy(obj)
    other["metadata"] |= {"resourceVersion": "77", "uid": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}

    assert differences({"east": rules_of([(kind, obj)]), "west": rules_of([(kind, other)])}) == []


def test_a_rule_is_replicated_changed_and_pruned():
    east = rules_of([rule("web", a=1)])
    west = applied({}, plan_sync("east", east, {}, overwrite=False, prune=False))
    assert differences({"east": east, "west": west}) == []

    east = rules_of([rule("web", a=2)])
    [step] = plan_sync("east", east, west, overwrite=False, prune=False)
    west = applied(west, [step])
    assert (step.deed, differences({"east": east, "west": west})) == (Deed.UPDATE, [])

    [step] = plan_sync("east", {}, west, overwrite=False, prune=False)
    assert (step.deed, step.why) == (Deed.KEEP, "east has it no more: --prune deletes it")
    [step] = plan_sync("east", {}, west, overwrite=False, prune=True)
    assert (step.deed, applied(west, [step])) == (Deed.DELETE, {})


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_another_hand_wrote_is_a_conflict_unless_it_is_to_be_overwritten(overwrite):
    east = rules_of([rule("made", a=1), rule("changed", a=1)])
    west = applied({}, plan_sync("east", rules_of([rule("changed", a=1)]), {}, overwrite=False, prune=False))
    [(name, replica)] = west.items()
    west = {name: replica | {"spec": {"a": 7}}} | rules_of([rule("made", a=9)])

    steps = plan_sync("east", east, west, overwrite=overwrite, prune=False)

    expected = Deed.UPDATE if overwrite else Deed.CONFLICT
    assert [(step.rule.name, step.deed, step.why) for step in steps] == [
        ("changed", expected, "it was changed there since"),
        ("made", expected, "it was made there by another hand"),
    ]


@pytest.mark.parametrize("prune", [False, True])
def test_what_only_the_target_has_stays_and_is_said(prune):
    west = rules_of([rule("own", a=1)])

    [step] = plan_sync("east", {}, west, overwrite=True, prune=prune)

    assert (step.deed, step.why) == (Deed.KEEP, "east does not have it, and it was made there by another hand")
    assert applied(west, [step]) == west


specs = st.dictionaries(st.sampled_from("abc"), st.integers(0, 2), max_size=2)
clusters = st.dictionaries(st.sampled_from(["r1", "r2", "r3"]), specs, max_size=3)


@given(clusters, clusters)
def test_after_an_overwriting_sync_nothing_of_the_source_differs(ours, theirs):
    east = rules_of(rule(name, **spec) for name, spec in ours.items())
    west = rules_of(rule(name, **spec) for name, spec in theirs.items())

    after = applied(west, plan_sync("east", east, west, overwrite=True, prune=True))

    assert all(content(after[name]) == content(obj) for name, obj in east.items())
    again = plan_sync("east", east, after, overwrite=False, prune=True)
    assert {step.rule for step in again if step.deed is Deed.KEEP} == west.keys() - east.keys()
    assert [step for step in again if step.deed is not Deed.KEEP] == []


@given(clusters, clusters)
def test_without_overwriting_nothing_that_is_there_is_changed(ours, theirs):
    east = rules_of(rule(name, **spec) for name, spec in ours.items())
    west = rules_of(rule(name, **spec) for name, spec in theirs.items())

    after = applied(west, plan_sync("east", east, west, overwrite=False, prune=True))

    assert all(after[name] == obj for name, obj in west.items())
