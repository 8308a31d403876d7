"""Durations as Kubernetes and Istio write them (Go's time.ParseDuration): `1h30m`, `10s`, `500ms`."""

from __future__ import annotations

import re

_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_MAX = 2.0**63 / 1e9
"""What Go can hold, which counts nanoseconds: 292 years."""

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """Raises ValueError for what is not a duration."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 10s, 500ms or 1m30s")
    found = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if found >= _MAX:
        raise ValueError(f"{text:.40} is not a duration: it is longer than 292 years")
    return found
