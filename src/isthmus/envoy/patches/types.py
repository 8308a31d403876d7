"""Envoy's messages by their full names, loaded when something first asks for one."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from google.protobuf import symbol_database


@cache
def message_class(full_name: str) -> Any:
    """The class of `envoy.extensions.filters.http.lua.v3.Lua`, …. Raises KeyError for one that this build does not know."""
    database = symbol_database.Default()
    try:
        return database.GetSymbol(full_name)
    except KeyError:
        _load(full_name.rpartition(".")[0])
        return database.GetSymbol(full_name)


def load_named_in(value: Any) -> None:
    """Loads every type that a JSON value names by `@type`. Raises KeyError with the first that is unknown."""
    if isinstance(value, dict):
        if "@type" in value:
            message_class(str(value["@type"]).rpartition("/")[2])
        for each in value.values():
            load_named_in(each)
    elif isinstance(value, list):
        for each in value:
            load_named_in(each)


def _load(package: str) -> None:
    """Every generated module of a protobuf package; those are where the package's name says."""
    try:
        found = importlib.import_module(package)
    except ImportError:
        raise KeyError(package) from None
    for module in pkgutil.iter_modules(found.__path__):
        if module.name.endswith("_pb2"):
            importlib.import_module(f"{package}.{module.name}")
