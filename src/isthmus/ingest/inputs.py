"""What ingest is given: each cluster's decoded objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from isthmus.api.core import Namespace
from isthmus.ingest import labels
from isthmus.model.federation import HeardPeer
from isthmus.model.identity import TrustDomain
from isthmus.model.issues import Issue
from isthmus.model.names import ClusterId, MeshId, NetworkId
from isthmus.model.security import FetchedKeys
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import ClusterNetwork, ImportState, ResolvedName, Standing
from isthmus.model.values import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Besides:
    """What is known besides objects. `keys` are those that were fetched, by address. `resolved` are gateways' host names, as far as they
    have been asked about; None: nobody asks. `heard` is what other meshes have told. `bundles` are the authorities (DER) that were fetched
    from trust domains' endpoints.
    """

    issues: tuple[Issue, ...] = ()
    keys: Mapping[str, FetchedKeys] = field(default_factory=dict)
    resolved: Mapping[str, ResolvedName] | None = None
    heard: Mapping[MeshId, HeardPeer] = field(default_factory=dict)
    bundles: Mapping[TrustDomain, tuple[bytes, ...]] = field(default_factory=dict)


NOTHING_BESIDES = Besides()


def network_of(cluster: ClusterInput, settings: MeshSettings) -> ClusterNetwork:
    """The label on the cluster's own system namespace says it, else MeshNetworks, by the cluster's id or by address."""
    system = cluster.objects.get("Namespace", {}).get(("", settings.root_namespace))
    labelled = system.metadata.labels.get(labels.NETWORK, "") if isinstance(system, Namespace) else ""
    declared = settings.networks
    return ClusterNetwork(
        default=NetworkId(labelled) or declared.of_cluster(cluster.id), ranges=declared.ranges if not labelled else ()
    )
