"""What ServiceEntries are told in their status: the addresses that the mesh gives to their hosts, where Istio writes them, and what is wrong.

Addresses follow from names, so every control plane comes to the same ones; nothing here is read back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from isthmus.api.networking import ServiceEntry
from isthmus.assurance.conditions import conditions, objects_in
from isthmus.assurance.gateway_status import WantedStatus
from isthmus.ingest import labels
from isthmus.ingest.inputs import Objects
from isthmus.model.attachments import ACCEPTED, Condition
from isthmus.model.issues import Issue, Severity
from isthmus.model.names import Hostname, Namespace, ServiceKey
from isthmus.model.snapshot import Snapshot

_KIND = "ServiceEntry"


def address_statuses(snapshot: Snapshot, objects: Objects, now: str) -> Iterator[WantedStatus]:
    """Of every ServiceEntry that has such addresses, or had some: then it is told that there are none. The same of what is wrong."""
    wrong: dict[tuple[str, str], list[Issue]] = defaultdict(list)
    for issue in snapshot.issues:
        if issue.subject.kind == _KIND and issue.severity > Severity.INFO:
            wrong[issue.subject.namespace, issue.subject.name].append(issue)
    for (namespace, name), obj in sorted(objects.get(_KIND, {}).items()):
        if not isinstance(obj, ServiceEntry):
            continue
        wanted, told = list(_addresses(obj, snapshot)), obj.status.get("addresses") or []
        status: dict[str, Any] = {"addresses": wanted} if wanted or told else {}
        before = objects_in(obj.status, "conditions")
        issues = wrong.get((namespace, name), [])
        if issues or any(each.get("type") == ACCEPTED.type for each in before):
            status["conditions"] = conditions((_accepted(issues),), obj.status, obj, now)
        if status:
            yield WantedStatus(
                kind=_KIND,
                namespace=namespace,
                name=name,
                version=obj.metadata.resource_version,
                status=status,
                is_there=told == wanted and status.get("conditions", before) == before,
            )


def _accepted(issues: Sequence[Issue]) -> Condition:
    """The first finding gives the reason, and all of them the message."""
    if not issues:
        return ACCEPTED
    message = "; ".join(f"{issue.field}: {issue.what}" if issue.field else issue.what for issue in issues)
    return replace(ACCEPTED, holds=False, reason=issues[0].code, message=message)


def _addresses(obj: ServiceEntry, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    if obj.metadata.labels.get(labels.AUTO_ALLOCATE, "").lower() == "false":
        return
    for host in obj.spec.hosts:
        service = snapshot.services.get(ServiceKey(Namespace(obj.metadata.namespace), Hostname(host.lower())))
        if service is not None and service.registry != "Kubernetes":
            yield from ({"value": ip, "host": host} for ip in service.allocated)
