"""Durations as people write them: 90d, 12h, 30m, 45s, 1h30m."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import click

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class Duration(click.ParamType[int]):
    """Whole seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not re.fullmatch(r"([0-9]+[dhms])+", str(value)):
            self.fail(f"{value!r} is no duration: write it like 90d, 12h or 1h30m", param, ctx)
        return sum(int(count) * _SECONDS[unit] for count, unit in re.findall(r"([0-9]+)([dhms])", str(value)))


def largest_unit(span: timedelta) -> str:
    """As people say it: the largest unit, rounded down, never up. Empty if nothing is left."""
    seconds = int(span.total_seconds())
    for unit, size in _SECONDS.items():
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return ""
