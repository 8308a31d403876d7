"""Rules about localities: what is shared out over them, and where traffic goes when one fails."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem, entry
from isthmus.assurance.validation.terms import Object

_ZONE = "topology.kubernetes.io/zone"


def locality_setting(setting: Object, path: str, zone_aware: bool = False) -> Iterator[Problem]:
    distribute, failover = setting.get("distribute") or [], setting.get("failover") or []
    priorities = setting.get("failoverPriority") or []
    if distribute and (failover or priorities):
        yield Problem(codes.EXCLUDE_EACH_OTHER, path, "distribute excludes failover")
    for index, rule in enumerate(distribute):
        shares = rule.get("to") or {}
        where = f"{path}.distribute[{index}]"
        if sum(shares.values()) != 100 or 0 in shares.values():
            yield Problem(codes.BAD_WEIGHTS, f"{where}.to", "the weights must be above 0 and sum up to 100")
        yield from _places([(entry(f"{where}.to", place), place) for place in shares])
    yield from _places(
        [(f"{path}.distribute[{index}].from", rule.get("from") or "") for index, rule in enumerate(distribute)]
    )
    for index, move in enumerate(failover):
        origin, target = move.get("from") or "", move.get("to") or ""
        if not origin or not target or origin == target or any(char in origin + target for char in "*/"):
            yield Problem(
                codes.BAD_LOCALITY,
                f"{path}.failover[{index}]",
                f"failover moves from one region to another, not from {origin!r} to {target!r}",
            )
    seen: set[str] = set()
    for index, label in enumerate(priorities):
        name = label.partition("=")[0]
        if name in seen:
            yield Problem(codes.TWICE, f"{path}.failoverPriority[{index}]", f"label {name} is given twice")
        elif zone_aware and name == _ZONE:
            yield Problem(
                codes.NOT_DONE_HERE, f"{path}.failoverPriority[{index}]", "the zone is not a failover priority here"
            )
        seen.add(name)


def _places(given: list[tuple[str, str]]) -> Iterator[Problem]:
    """Region/zone/subzone, a wildcard only at the end, and no place covered twice."""
    seen: list[tuple[str, ...]] = []
    for path, locality in given:
        parts = tuple(locality.split("/"))
        if "" in parts or "*" in parts[:-1] or len(parts) > 3:
            yield Problem(codes.BAD_LOCALITY, path, f"{locality!r} is not a locality")
        head = parts[:-1] if parts[-1] == "*" else parts
        for other in seen:
            short, long = sorted((head, other), key=len)
            if long[: len(short)] == short:
                yield Problem(codes.BAD_LOCALITY, path, f"{locality!r} overlaps with another")
        seen.append(head)
