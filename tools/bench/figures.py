"""Measured values, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value."""

    what: str
    value: float
    unit: str


def machine() -> str:
    """What the figures depend on."""
    model = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open() as file:
            model = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{len(os.sched_getaffinity(0))} CPUs, {model}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load average {load}"
    )


def as_table(title: str, figures: list[Figure]) -> str:
    width = max(len(figure.what) for figure in figures)
    lines = [f"{title}  ({machine()})"]
    lines += [f"  {figure.what:<{width}}  {shown(figure.value):>10} {figure.unit}" for figure in figures]
    return "\n".join(lines)


def side_by_side(title: str, runs: dict[str, list[list[Figure]]]) -> str:
    """The median of each figure for each of two, lowest and highest of its runs, and how often the first's goes into the second's."""
    (first, ours), (second, theirs) = runs.items()
    lines = [
        f"{title}  ({machine()})",
        "",
        f"| What | {first} | {second} | {second} / {first} |",
        "| --- | --- | --- | --- |",
    ]
    for figure in ours[0]:
        mine, other = (_values(found, figure.what) for found in (ours, theirs))
        ratio = f"{median(other) / median(mine):.2f}" if other and median(mine) else ""
        lines.append(f"| {figure.what}, {figure.unit} | {_spread(mine)} | {_spread(other)} | {ratio} |")
    return "\n".join(lines)


def _values(found: list[list[Figure]], what: str) -> list[float]:
    return [figure.value for run in found for figure in run if figure.what == what]


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    low, high = shown(min(values)), shown(max(values))
    return low if low == high else f"{shown(median(values))} ({low} to {high})"


def shown(value: float) -> str:
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def as_json(runs: dict[str, list[Figure]]) -> str:
    document = {
        "machine": machine(),
        "runs": {name: [asdict(figure) for figure in figures] for name, figures in runs.items()},
    }
    return json.dumps(document, indent=1)
