"""Label selectors, as Kubernetes has them: all requirements must hold."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from isthmus.model.names import Namespace
from isthmus.model.values import dataclass

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""Pods of a Gateway of Gateway API carry its name."""


class Bound(Protocol):
    """A rule that holds for some workloads: by labels, or at gateways of its own namespace by their names."""

    @property
    def namespace(self) -> Namespace: ...
    @property
    def selector(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def gateways(self) -> tuple[str, ...]: ...


def holds_for(rule: Bound, namespace: Namespace, labels: tuple[tuple[str, str], ...]) -> bool:
    """Of a rule of the workload's own namespace, or of the mesh."""
    if rule.gateways:
        return rule.namespace == namespace and dict(labels).get(GATEWAY_NAME) in rule.gateways
    return set(rule.selector) <= set(labels)


class Operator(StrEnum):
    """Of a requirement."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that is asked of labels."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """What is not there is not in anything."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Without requirements it selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.holds(labels) for requirement in self.requirements)
