"""Operations on lists of named things: filters, routes, virtual hosts, chains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, assert_never

from isthmus.envoy.patches.merging import merge
from isthmus.model.envoy_filters import Operation

Meant = Callable[[Any], bool]

_CANONICAL = {
    "envoy.http_connection_manager": "envoy.filters.network.http_connection_manager",
    "envoy.tcp_proxy": "envoy.filters.network.tcp_proxy",
    "envoy.router": "envoy.filters.http.router",
    "envoy.cors": "envoy.filters.http.cors",
    "envoy.fault": "envoy.filters.http.fault",
    "envoy.ext_authz": "envoy.filters.http.ext_authz",
    "envoy.lua": "envoy.filters.http.lua",
}
_LAST = frozenset(
    (
        "envoy.filters.http.router",
        "envoy.filters.network.http_connection_manager",
        "envoy.filters.network.tcp_proxy",
    )
)
"""Filters that end a chain: Envoy refuses a whole listener that has another one behind them."""


def canonical(name: str) -> str:
    """Old names of filters, as Istio still takes them."""
    return _CANONICAL.get(name, name)


def named(name: str) -> Meant:
    return lambda item: canonical(item.name) == canonical(name)


def change(items: Any, operation: Operation, value: Any, meant: Meant | None) -> None:
    """Changes a repeated field. `meant` chooses what the operation is about; None where the patch names nothing: then an insertion is
    at the beginning or the end, and a merge goes to what has the value's name.
    """
    found = list(items)
    changed = _changed(found, operation, value, meant)
    if changed is not None:
        kept = [type(each).FromString(each.SerializeToString()) for each in changed]
        del items[:]
        items.extend(kept)


def _changed(found: Sequence[Any], operation: Operation, value: Any, meant: Meant | None) -> list[Any] | None:
    """None where nothing is."""
    places = [index for index, each in enumerate(found) if (meant or named(value.name if value else ""))(each)]
    match operation:
        case Operation.ADD:
            return _at_end(found, value)
        case Operation.INSERT_FIRST:
            return [value, *found]
        case Operation.INSERT_BEFORE if meant is None:
            return [value, *found]
        case Operation.INSERT_AFTER if meant is None:
            return _at_end(found, value)
        case Operation.INSERT_BEFORE | Operation.INSERT_AFTER:
            if not places:
                return None
            at = places[0] + (operation is Operation.INSERT_AFTER)
            return [*found[:at], value, *found[at:]]
        case Operation.REMOVE:
            return [each for index, each in enumerate(found) if index not in places] if meant else None
        case Operation.REPLACE:
            return [value if index in places else each for index, each in enumerate(found)]
        case Operation.MERGE | Operation.MERGE_AND_REPLACE_LIST:
            for index in places:
                merge(found[index], value, replace_lists=operation is Operation.MERGE_AND_REPLACE_LIST)
            return None
        case _:
            assert_never(operation)


def _at_end(found: Sequence[Any], value: Any) -> list[Any]:
    """Before a filter that has to be the last."""
    if found and canonical(found[-1].name) in _LAST:
        return [*found[:-1], value, found[-1]]
    return [*found, value]
