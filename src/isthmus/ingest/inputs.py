"""What ingest is given: each cluster's decoded objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.api.core import Namespace
from isthmus.ingest import labels
from isthmus.model.names import ClusterId, NetworkId
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ClusterNetwork, ImportState, Standing

Objects = Mapping[str, Mapping[tuple[str, str], object]]
"""Decoded objects by kind, then by namespace (empty if cluster-scoped) and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterInput:
    """One cluster's objects, as last seen."""

    id: ClusterId
    state: ImportState
    objects: Objects
    stale_since: str = ""
    standing: Standing = Standing.FULL
    share: int = 100


def network_of(cluster: ClusterInput, settings: MeshSettings) -> ClusterNetwork:
    """The label on the cluster's own system namespace says it, else MeshNetworks, by the cluster's id or by address."""
    system = cluster.objects.get("Namespace", {}).get(("", settings.root_namespace))
    labelled = system.metadata.labels.get(labels.NETWORK, "") if isinstance(system, Namespace) else ""
    declared = settings.networks
    return ClusterNetwork(
        default=NetworkId(labelled) or declared.of_cluster(cluster.id), ranges=declared.ranges if not labelled else ()
    )
