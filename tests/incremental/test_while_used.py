"""What is computed once for all who use it, and forgotten with the last of them."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.incremental.while_used import while_used


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Greeting:
    text: str


def test_whoever_asks_while_somebody_has_it_gets_the_same_object():
    asked = []

    @while_used
    def greeting(name: str, *, loud: bool = False) -> Greeting:
        asked.append(name)
        return Greeting(f"{name}!" if loud else name)

    first, again, loud = greeting("ann"), greeting("ann"), greeting("ann", loud=True)

    assert first is again
    assert loud != first
    assert (asked, len(greeting)) == (["ann", "ann"], 2)


def test_nothing_is_kept_of_what_nobody_has():
    @while_used
    def greeting(name: str) -> Greeting:
        return Greeting(name)

    held = greeting("ann")
    for number in range(1000):
        greeting(f"guest {number}")

    assert len(greeting) == 1
    del held
    assert len(greeting) == 0


def test_that_there_is_nothing_is_found_out_each_time():
    asked = []

    @while_used
    def greeting(name: str) -> Greeting | None:
        asked.append(name)
        return None

    assert greeting("nobody") is None
    assert greeting("nobody") is None
    assert (asked, len(greeting)) == (["nobody", "nobody"], 0)
