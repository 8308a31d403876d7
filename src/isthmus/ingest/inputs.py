"""What ingest is given: each cluster's decoded objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.model.names import ClusterId
from isthmus.model.topology import ImportState

Objects = Mapping[str, Mapping[tuple[str, str], object]]
"""Decoded objects by kind, then by namespace (empty if cluster-scoped) and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterInput:
    """One cluster's objects, as last seen."""

    id: ClusterId
    state: ImportState
    objects: Objects
    stale_since: str = ""
