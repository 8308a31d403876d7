"""ListenerSets: listeners of a Gateway that others than its writers add, as far as it lets them.

Older ones come first, behind the Gateway's own listeners: what one of those has taken, a younger one does not get. Its writer is told, but not
whose it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from isthmus.api import gateway_api as api
from isthmus.ingest.gateway_api.listeners import OpenListener, Owner, open_listeners, told_apart
from isthmus.ingest.gateway_api.namespaces import may_attach
from isthmus.ingest.gateway_api.objects import Name, Objects
from isthmus.ingest.gateway_api.references import Grants
from isthmus.model.attachments import ACCEPTED, PROGRAMMED, Condition, ListenerSetAttachments
from isthmus.model.names import Namespace
from isthmus.model.values import dataclass

_NOTHING_ALLOWED = api.ListenerNamespaces()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentOfSets:
    """What a Gateway is to the ListenerSets that add to it. `ports` are those on which it is reached; None: nobody knows."""

    gateway: api.KubernetesGateway
    listeners: tuple[OpenListener, ...]
    accepted: Condition
    programmed: Condition
    ports: frozenset[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenListenerSet:
    """A ListenerSet with what was made of it. One that its Gateway does not take has no listeners."""

    obj: api.ListenerSet
    listeners: tuple[OpenListener, ...]
    accepted: Condition
    programmed: Condition

    @property
    def name(self) -> Name:
        return self.obj.metadata.namespace, self.obj.metadata.name

    def attachments(self, attached: Sequence[int]) -> ListenerSetAttachments:
        """With the number of routes of each listener."""
        listeners = tuple(each.attachments(count) for each, count in zip(self.listeners, attached, strict=True))
        return ListenerSetAttachments(
            namespace=Namespace(self.obj.metadata.namespace),
            name=self.obj.metadata.name,
            conditions=(self.accepted, self.programmed),
            listeners=listeners,
        )


def sets_of(gateway: api.KubernetesGateway, objects: Objects) -> list[api.ListenerSet]:
    """Those that want to be a Gateway's, the oldest first."""
    wanted = (gateway.metadata.namespace, gateway.metadata.name)
    return [each for each in objects.listener_sets if parent_of(each) == wanted]


def parent_of(listener_set: api.ListenerSet) -> Name | None:
    """The Gateway that it names; None if it names something else."""
    said = listener_set.spec.parent_ref
    if (said.group, said.kind) != (api.GROUP, "Gateway"):
        return None
    return said.namespace or listener_set.metadata.namespace, said.name


def open_listener_sets(parent: ParentOfSets, objects: Objects, grants: Grants) -> Iterator[OpenListenerSet]:
    """Each that wants to be the Gateway's, refused or not."""
    gateway = parent.gateway
    said = gateway.spec.allowed_listeners
    allowed = said.namespaces if said else _NOTHING_ALLOWED
    taken = [each for each in parent.listeners if not each.is_conflicted]
    for each in sets_of(gateway, objects):
        namespace = each.metadata.namespace
        if not may_attach(allowed, gateway.metadata.namespace, namespace, objects.namespaces):
            yield _refused(each, "NotAllowed", f"the Gateway takes no ListenerSets of namespace {namespace}")
            continue
        owner = Owner("ListenerSet", namespace, each.metadata.name, each.metadata.creation_timestamp)
        opened = open_listeners(gateway, owner, each.spec.listeners, objects, grants)
        listeners = [_reached(listener, parent.ports) for listener in told_apart(opened, taken)]
        taken += [listener for listener in listeners if not listener.is_conflicted]
        yield _summed_up(each, listeners, parent)


def _reached(listener: OpenListener, ports: frozenset[int] | None) -> OpenListener:
    port = listener.listener.port
    if ports is None or port in ports or not listener.is_served:
        return listener
    unavailable = Condition("Programmed", False, "PortUnavailable", f"the Gateway's Service has no port {port}")
    told = (unavailable if each.type == "Programmed" else each for each in listener.conditions)
    return replace(listener, conditions=tuple(told))


def _summed_up(obj: api.ListenerSet, listeners: Sequence[OpenListener], parent: ParentOfSets) -> OpenListenerSet:
    """Its Gateway's own troubles come first: they are all that its writer can be told then."""
    accepted, programmed = ACCEPTED, PROGRAMMED
    if not any(each.attachments(0).is_valid for each in listeners):
        what = "see the listeners' own conditions"
        accepted = Condition("Accepted", False, "ListenersNotValid", what)
        programmed = Condition("Programmed", False, "ListenersNotValid", what)
    if not parent.programmed.holds:
        programmed = Condition("Programmed", False, "ParentNotProgrammed", "its Gateway cannot be reached yet")
    if not parent.accepted.holds:
        accepted = Condition("Accepted", False, "ParentNotAccepted", "its Gateway is not accepted")
    return OpenListenerSet(obj=obj, listeners=tuple(listeners), accepted=accepted, programmed=programmed)


def _refused(obj: api.ListenerSet, reason: str, message: str) -> OpenListenerSet:
    return OpenListenerSet(
        obj=obj,
        listeners=(),
        accepted=Condition("Accepted", False, reason, message),
        programmed=Condition("Programmed", False, reason, message),
    )
