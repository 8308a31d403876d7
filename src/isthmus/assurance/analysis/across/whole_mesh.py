"""The mesh as analyzers over clusters see it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from isthmus.assurance.analysis.items import Index, Item, Settings
from isthmus.assurance.catalogue.code import Code
from isthmus.model.issues import Issue, Subject
from isthmus.model.names import ClusterId
from isthmus.model.snapshot import Snapshot
from isthmus.model.values import dataclass


@dataclass(frozen=True)
class WholeMesh:
    """`snapshot` is what the config cluster's control plane makes of all of it; None when its settings cannot be used."""

    indexes: Sequence[Index]
    settings: Settings
    config_cluster: ClusterId
    snapshot: Snapshot | None

    @cached_property
    def primaries(self) -> Sequence[Index]:
        """Clusters whose control plane reads their own configuration."""
        return [index for index in self.indexes if not index.is_remote]

    @property
    def config(self) -> Index:
        return next(index for index in self.indexes if index.cluster == self.config_cluster)

    def finding(self, code: Code, kind: str, name: str, what: str, fix: str = "") -> Issue:
        """About something that is no single object: a network, a cluster, a service."""
        return Issue(
            subject=Subject(ClusterId(""), kind, "", name),
            code=code.id,
            severity=code.severity,
            what=what,
            fix=fix or code.fix,
        )


def in_system(index: Index, kind: str, name: str) -> Item | None:
    """An object of the control plane's own namespace."""
    return index.get(kind, index.settings.root_namespace, name)
