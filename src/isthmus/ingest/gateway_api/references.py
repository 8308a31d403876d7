"""What routes and gateways refer to, and whether they may: a reference to another namespace needs a ReferenceGrant there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from isthmus.api import gateway_api as api
from isthmus.model.attachments import Backend, Condition
from isthmus.model.names import Hostname
from isthmus.model.routing import Target
from isthmus.model.values import dataclass

NOWHERE = Hostname("unresolved.invalid")
"""The host of a reference that leads nowhere. Nobody can declare it: the name is reserved (RFC 2606)."""

_MULTICLUSTER = "multicluster.x-k8s.io"
_ISTIO = "networking.istio.io"


@dataclass(frozen=True, slots=True)
class Reference:
    """An object as something else refers to it."""

    group: str
    kind: str
    namespace: str
    name: str


class Grants:
    """The ReferenceGrants of a cluster."""

    def __init__(self, grants: Iterable[api.ReferenceGrant]) -> None:
        self._given: dict[tuple[str, str, str, str, str], set[str]] = {}
        for grant in grants:
            for source in grant.spec.from_:
                for to in grant.spec.to:
                    key = (
                        grant.metadata.namespace,
                        source.group,
                        source.kind,
                        source.namespace,
                        f"{to.group}/{to.kind}",
                    )
                    self._given.setdefault(key, set()).add(to.name)

    def allow(self, kind: str, namespace: str, to: Reference) -> bool:
        """Whether objects of a kind of Gateway API in this namespace may refer to that."""
        if to.namespace == namespace:
            return True
        names = self._given.get((to.namespace, api.GROUP, kind, namespace, f"{to.group}/{to.kind}"), set())
        return "" in names or to.name in names


@dataclass(frozen=True, slots=True, kw_only=True)
class Referrer:
    """A route that refers to backends. Routes of services lead where any caller of their namespace may go, and need no grant."""

    kind: str
    namespace: str
    name: str
    grants: Grants
    dns_domain: str
    import_domain: str
    needs_grant: bool


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a reference leads: `problem` says why nowhere."""

    target: Target
    backend: Backend | None
    problem: Condition | None


def resolved(reference: api.TargetReference, by: Referrer) -> Resolved:
    """A backend's host and port."""
    namespace = reference.namespace or by.namespace
    written = f"{reference.kind} {namespace}/{reference.name}"
    hosts: Mapping[tuple[str, str], str] = {
        ("", "Service"): f"{reference.name}.{namespace}.svc.{by.dns_domain}",
        (_MULTICLUSTER, "ServiceImport"): f"{reference.name}.{namespace}.svc.{by.import_domain}",
        (_ISTIO, "Hostname"): reference.name,
    }
    host = hosts.get((reference.group, reference.kind))
    if host is None:
        return _nowhere("InvalidKind", f"{written} of group {reference.group!r} is no kind that requests can go to")
    if reference.kind == "Hostname" and reference.namespace:
        return _nowhere("InvalidKind", f"{written}: a Hostname is in no namespace")
    if not reference.port:
        return _nowhere("UnsupportedValue", f"{written}: a port has to be named")
    to = Reference(reference.group, reference.kind, namespace, reference.name)
    if by.needs_grant and not by.grants.allow(by.kind, by.namespace, to):
        return _nowhere("RefNotPermitted", f"{written} is in another namespace, and no ReferenceGrant there allows it")
    name = Hostname(host.lower())
    return Resolved(
        Target(host=name, port=reference.port), Backend(host=name, port=reference.port, written=written), None
    )


def _nowhere(reason: str, message: str) -> Resolved:
    return Resolved(Target(host=NOWHERE, port=80), None, Condition("ResolvedRefs", False, reason, message))
