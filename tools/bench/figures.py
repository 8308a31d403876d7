"""Measured values, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path


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
