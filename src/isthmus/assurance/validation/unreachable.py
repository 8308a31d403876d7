"""Rules of a VirtualService that no request reaches, because an earlier rule takes all that they match."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.terms import Object

_NAMES = ("name", "statPrefix")
Match = tuple[str, int, Object]


def unreachable(rules: list[Object], path: str) -> Iterator[Problem]:
    """Of `http`, `tls` or `tcp` rules."""
    before: list[Match] = []
    catch_all: int | None = None
    for number, rule in enumerate(rules):
        where, matches = f"{path}[{number}]", rule.get("match") or []
        if catch_all is not None:
            what = f"is never used: {path}[{catch_all}] has no match, so it takes everything"
            yield Problem(codes.UNREACHABLE_RULE, where, what)
            continue
        if not matches:
            catch_all = number
            continue
        taken_by_others = 0
        for index, match in enumerate(matches):
            mine = f"{where}.match[{index}]"
            earlier = next((one for one in before if _takes(one[2], match)), None)
            if earlier is not None:
                yield Problem(codes.INEFFECTIVE_MATCH, mine, f"is never used: {earlier[0]} takes all that it matches")
                taken_by_others += earlier[1] < number
            before.append((mine, number, match))
        if taken_by_others == len(matches):
            yield Problem(codes.UNREACHABLE_RULE, where, "is never used: earlier rules take all that it matches")


def _takes(earlier: Object, later: Object) -> bool:
    """Whether every request that the later match takes is taken by the earlier one. What is not certain is no."""
    for key, test in earlier.items():
        if key in _NAMES or test in (None, {}, []):
            continue
        if key == "uri" and _begins(test, later.get("uri") or {}):
            continue
        if later.get(key) != test:
            return False
    return bool(earlier.get("ignoreUriCase")) == bool(later.get("ignoreUriCase"))


def _begins(earlier: Object, later: Object) -> bool:
    prefix = earlier.get("prefix")
    path = later.get("prefix") or later.get("exact")
    return bool(prefix) and isinstance(path, str) and path.startswith(str(prefix))
