"""Attachments: which Gateway API routes hold at which gateways and services, and what is told to those who wrote them.

What a route says of requests is a `routing.VirtualService`, and a listener is a `gateways.Server`. Here is the rest: what became of each
object, as far as its own cluster's objects decide it.
"""

from __future__ import annotations

from isthmus.model.names import Hostname, Namespace
from isthmus.model.values import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Condition:
    """One of an object's conditions, as Kubernetes has them. `holds` is its status."""

    type: str
    holds: bool
    reason: str
    message: str = ""


ACCEPTED = Condition("Accepted", True, "Accepted")
RESOLVED = Condition("ResolvedRefs", True, "ResolvedRefs")
PROGRAMMED = Condition("Programmed", True, "Programmed")
NOT_CONFLICTED = Condition("Conflicted", False, "NoConflicts")


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class ListenerAttachments:
    """A listener: the kinds of routes that it takes, how many have attached, and what is to be said of it."""

    name: str
    kinds: tuple[str, ...]
    attached: int
    conditions: tuple[Condition, ...]

    @property
    def is_valid(self) -> bool:
        return all(condition.holds for condition in self.conditions if condition.type in ("Accepted", "Programmed"))


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class GatewayAttachments:
    """A Gateway that is ours. `addresses` are those where it is reached, with their types. `is_deployed`: its proxies are run for it."""

    namespace: Namespace
    name: str
    conditions: tuple[Condition, ...]
    addresses: tuple[tuple[str, str], ...]
    listeners: tuple[ListenerAttachments, ...]
    is_deployed: bool = False
    ports: tuple[tuple[str, int], ...] = ()
    """Of all its listeners, those of ListenerSets, too: each with the name of the first that has it."""
    listener_sets: int | None = None
    """How many of them it has taken; None where it has not been asked to take any."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class ListenerSetAttachments:
    """A ListenerSet of a Gateway that is ours."""

    namespace: Namespace
    name: str
    conditions: tuple[Condition, ...]
    listeners: tuple[ListenerAttachments, ...]


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Parent:
    """What a route wants to attach to, as it is written."""

    group: str
    kind: str
    namespace: str
    name: str
    section: str
    port: int


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class RouteParent:
    """Whether a route holds at one of its parents. `references` is what is wrong with what it refers to there, if anything."""

    parent: Parent
    accepted: Condition
    references: Condition
    others: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Backend:
    """A host to which a route leads: whether anybody declares it is known once all clusters' services are. `written` is the reference."""

    host: Hostname
    port: int
    written: str


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class RouteAttachments:
    """A route with a parent that is ours."""

    kind: str
    namespace: Namespace
    name: str
    parents: tuple[RouteParent, ...]
    backends: tuple[Backend, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachments:
    """Everything that Gateway API's objects are to be told. Sorted. `classes` are those that are ours."""

    classes: tuple[str, ...] = ()
    gateways: tuple[GatewayAttachments, ...] = ()
    listener_sets: tuple[ListenerSetAttachments, ...] = ()
    routes: tuple[RouteAttachments, ...] = ()
    policies: tuple[RouteAttachments, ...] = ()
    """BackendTLSPolicies: their parents are what they are about."""
