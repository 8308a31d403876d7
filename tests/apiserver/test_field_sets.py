"""Sets of fields: their algebra, and that the short ways give what the long ones do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.apiserver import field_sets
from isthmus.apiserver.schemas import Schema

TEXT = Schema(type="string")
ITEM = Schema(
    type="object", fields={"name": TEXT, "value": TEXT, "tags": Schema(type="array", items=TEXT, is_set=True)}
)
SCHEMA = Schema(
    type="object",
    fields={
        "plain": TEXT,
        "map": Schema(type="object", values=TEXT),
        "whole": Schema(type="object", values=TEXT, atomic=True),
        "list": Schema(type="array", items=TEXT),
        "items": Schema(type="array", items=ITEM, keys=("name",)),
    },
)
WORDS = st.sampled_from("abc")
MAPS = st.dictionaries(WORDS, WORDS, max_size=3)
ITEMS = st.lists(
    st.fixed_dictionaries({"name": WORDS}, optional={"value": WORDS, "tags": st.lists(WORDS, unique=True, max_size=3)}),
    unique_by=lambda item: item["name"],
    max_size=3,
)
OBJECTS = st.fixed_dictionaries(
    {}, optional={"plain": WORDS, "map": MAPS, "whole": MAPS, "list": st.lists(WORDS, max_size=3), "items": ITEMS}
)


@given(OBJECTS)
def test_all_of_a_new_object_is_what_it_differs_in_from_nothing(value):
    assert field_sets.added(value, SCHEMA) == field_sets.compare({}, value, SCHEMA)[0]


@given(OBJECTS, OBJECTS)
def test_what_is_new_one_way_is_gone_the_other_way(one, other):
    changed, removed = field_sets.compare(one, other, SCHEMA)
    changed_back, removed_back = field_sets.compare(other, one, SCHEMA)

    assert set(field_sets.paths(removed)) <= set(field_sets.paths(changed_back))
    assert set(field_sets.paths(removed_back)) <= set(field_sets.paths(changed))
    assert (changed or removed or one == other) or _only_order_differs(one, other)


def _only_order_differs(one, other):
    def plain(value):
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        return sorted(map(str, map(plain, value))) if isinstance(value, list) else value

    return plain(one) == plain(other)


@given(OBJECTS, OBJECTS)
def test_merging_takes_all_that_is_applied_and_keeps_what_is_not_spoken_of(live, config):
    merged = field_sets.merge(live, config, SCHEMA)

    said, found = (
        set(field_sets.paths(field_sets.owned(config, SCHEMA))),
        set(field_sets.paths(field_sets.added(merged, SCHEMA))),
    )
    assert said <= found
    assert set(field_sets.paths(field_sets.added(live, SCHEMA))) <= found
    assert field_sets.merge(merged, config, SCHEMA) == merged


@given(OBJECTS, OBJECTS)
def test_sets_are_sets(one, other):
    a, b = field_sets.added(one, SCHEMA), field_sets.added(other, SCHEMA)

    def members(fields):
        return set(field_sets.paths(fields))

    assert members(field_sets.union(a, b)) == members(a) | members(b)
    assert members(field_sets.intersection(a, b)) == members(a) & members(b)
    assert members(field_sets.difference(a, b)) == members(a) - members(b)


@given(OBJECTS)
def test_taking_away_all_that_was_applied_leaves_nothing_of_it(config):
    owned = field_sets.owned(config, SCHEMA)

    left = field_sets.without(config, owned, {}, SCHEMA)

    assert left is field_sets.ABSENT or not set(field_sets.paths(owned)) & set(
        field_sets.paths(field_sets.added(left, SCHEMA))
    )
