"""Where a kind keeps its replicas."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where replicas are wanted, counted and selected; `.spec.replicas` and so on. No selector: the kind's own matchLabels."""

    spec: str = ".spec.replicas"
    status: str = ".status.replicas"
    selector: str = ""


WORKLOADS = ScalePaths()
"""Where Deployments and their like have them."""
