"""Laws: a class whose methods are made at first use is, to whoever uses it, the class that the standard library makes."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import operator
import pickle
from dataclasses import FrozenInstanceError, field, replace
from typing import Any

import pytest

from isthmus.model import values


@values.dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Ours:
    name: str
    number: int = 3
    names: list[str] = field(default_factory=list)
    secret: str = field(default="s", repr=False)
    noted: str = field(default="", compare=False)


@dataclasses.dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Theirs:
    name: str
    number: int = 3
    names: list[str] = field(default_factory=list)
    secret: str = field(default="s", repr=False)
    noted: str = field(default="", compare=False)


@values.dataclass(frozen=True, slots=True)
class Place:
    x: int
    y: int = 0


_GIVEN: tuple[dict[str, Any], ...] = (
    {"name": "a"},
    {"name": "a", "number": 4},
    {"name": "a", "noted": "by somebody"},
    {"name": "b", "names": ["c"]},
    {"name": "b", "names": ["c", "d"], "secret": "t"},
)


@pytest.mark.parametrize("compare", [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge])
def test_values_compare_as_those_of_the_standard_library(compare: Any) -> None:
    for one, other in itertools.product(_GIVEN, repeat=2):
        assert compare(Ours(**one), Ours(**other)) == compare(Theirs(**one), Theirs(**other)), (one, other)


def test_values_print_as_those_of_the_standard_library() -> None:
    for given in _GIVEN:
        assert repr(Ours(**given)) == repr(Theirs(**given)).replace("Theirs", "Ours")


def test_values_of_different_classes_are_never_equal() -> None:
    @values.dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 0

    assert Place(1) != Point(1)
    assert Place(1) != (1, 0)
    with pytest.raises(TypeError):
        sorted([Ours(name="a"), Theirs(name="a")])  # type: ignore[type-var]


def test_equal_values_are_one_key() -> None:
    assert {Place(1): "here"}[Place(1, 0)] == "here"
    assert len({Place(1), Place(1), Place(2)}) == 2


def test_a_value_is_not_changed() -> None:
    place = Place(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'x'"):
        place.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
        del place.x
    assert place == Place(1)


def test_a_value_is_copied_with_a_field_replaced_and_pickled() -> None:
    place = Place(1, 2)
    assert replace(place, y=5) == Place(1, 5)
    assert copy.copy(place) == copy.deepcopy(place) == pickle.loads(pickle.dumps(place)) == place


def test_arguments_are_those_that_the_standard_library_takes() -> None:
    assert Place(1, y=2) == Place(x=1, y=2)
    for wrong in ((), (1, 2, 3)):
        with pytest.raises(TypeError, match=r"__init__\(\)"):
            Place(*wrong)
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        Place(1, z=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional argument"):
        Ours("a")  # type: ignore[misc]


def test_a_default_that_is_made_is_made_for_each_value() -> None:
    one, other = Ours(name="a"), Ours(name="a")
    assert one.names is not other.names


def test_what_a_class_says_itself_is_kept() -> None:
    @values.dataclass(frozen=True, slots=True)
    class Loud:
        name: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Loud) and self.name.lower() == other.name.lower()

        def __hash__(self) -> int:
            return hash(self.name.lower())

        def __repr__(self) -> str:
            return self.name

    assert {Loud("A"), Loud("a")} == {Loud("a")}
    assert repr(Loud("A")) == "A"


def test_a_value_without_equality_is_only_itself() -> None:
    @values.dataclass(frozen=True, eq=False)
    class Alone:
        name: str

    one = Alone("a")
    assert one != Alone("a")
    assert one == one


def test_a_class_that_can_be_changed_is_the_standard_librarys() -> None:
    @values.dataclass(slots=True)
    class Counter:
        count: int = 0

    counter = Counter()
    counter.count += 1
    assert counter == Counter(1)
    assert Counter.__hash__ is None


def test_match_takes_a_value_apart() -> None:
    match Place(1, 2):
        case Place(x, y):
            assert (x, y) == (1, 2)


def test_what_is_done_after_the_fields_are_there_is_done() -> None:
    @values.dataclass(frozen=True)
    class Checked:
        percent: int

        def __post_init__(self) -> None:
            if self.percent > 100:
                raise ValueError("more than everything")

    with pytest.raises(ValueError, match="more than everything"):
        Checked(101)
