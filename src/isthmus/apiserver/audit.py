"""Audit: who changed what, and who was refused, as Kubernetes' own events (audit.k8s.io/v1), one JSON document in a line.

The level is Metadata: never a body, so never a Secret. Told is each change, and what a caller may not do; left out are reads, and what
components say all the time (Leases, Events, statuses). The files are bounded: when one is full, the oldest goes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

from isthmus.apiserver.access import Attributes, User
from isthmus.apiserver.uids import new_uid

FILE = "audit.log"
_FILE_BYTES_MAX = 8 * 1024 * 1024
_OLDER_FILES = 3
_TEXT_MAX = 1024
_CHANGES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_CHATTER = frozenset({("coordination.k8s.io", "leases"), ("", "events"), ("events.k8s.io", "events")})
_REVIEWING = frozenset({"authentication.k8s.io", "authorization.k8s.io"})
"""Groups whose reviews are asked, not kept."""
_REFUSED = (401, 403)

log = structlog.get_logger()


@dataclass(slots=True)
class Asked:
    """What becomes known of a request while it is answered. `acting` is whom `user` acts as, if that is somebody else; `remarks` are webhooks'."""

    received: datetime
    method: str
    uri: str
    source: str
    agent: str
    user: User | None = None
    acting: User | None = None
    version: str = ""
    attributes: Attributes | None = None
    allowed: bool = False
    remarks: Mapping[str, str] = field(default_factory=dict)


def is_told(asked: Asked, code: int) -> bool:
    """Whether somebody will want to know."""
    what = asked.attributes
    return code in _REFUSED or (what is not None and _is_change(what.verb, what.group, what.resource, what.subresource))


def tells(event: dict[str, Any]) -> bool:
    """The same of an event, whoever has written it."""
    what = event.get("objectRef") or {}
    return (event.get("responseStatus") or {}).get("code") in _REFUSED or _is_change(
        event.get("verb", ""), what.get("apiGroup", ""), what.get("resource", ""), what.get("subresource", "")
    )


def _is_change(verb: str, group: str, resource: str, subresource: str) -> bool:
    """Of something that is kept, and not what components say all the time."""
    is_kept = bool(resource) and not (group in _REVIEWING and resource.endswith("reviews"))
    return verb in _CHANGES and is_kept and subresource != "status" and (group, resource) not in _CHATTER


def event_of(asked: Asked, code: int, now: datetime, name: str = "") -> dict[str, Any]:
    """`name` is the object's, where its path does not say it."""
    what = asked.attributes
    event: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": new_uid(),
        "stage": "ResponseComplete",
        "requestURI": asked.uri[:_TEXT_MAX],
        "verb": what.verb if what is not None else asked.method.lower(),
        "user": asked.user.document if asked.user is not None else {},
        "sourceIPs": [asked.source],
        "userAgent": asked.agent[:_TEXT_MAX],
        "responseStatus": {"metadata": {}, "code": code},
        "requestReceivedTimestamp": _text(asked.received),
        "stageTimestamp": _text(now),
        "annotations": {**asked.remarks, "authorization.k8s.io/decision": "allow" if asked.allowed else "forbid"},
    }
    if asked.acting is not None and asked.acting is not asked.user and asked.acting != asked.user:
        event["impersonatedUser"] = asked.acting.document
    if what is not None and what.resource:
        said = event["objectRef"] = {"resource": what.resource}
        if what.namespace:
            said["namespace"] = what.namespace
        if what.name or name:
            said["name"] = what.name or name
        if what.group:
            said["apiGroup"] = what.group
        if asked.version:
            said["apiVersion"] = asked.version
        if what.subresource:
            said["subresource"] = what.subresource
    return event


class AuditLog:
    """The newest file, and a few before it (`audit.log.1` is the youngest of these). A disk that takes no more stops no request."""

    def __init__(self, directory: Path, bytes_max: int = _FILE_BYTES_MAX) -> None:
        self._path = directory / FILE
        self._bytes_max = bytes_max
        self._is_failing = False
        self._descriptor = self._opened()
        self._size = os.fstat(self._descriptor).st_size

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: dict[str, Any]) -> None:
        line = msgspec.json.encode(event) + b"\n"
        try:
            if self._size + len(line) > self._bytes_max and self._size:
                self._turn()
            self._append(line)
        except OSError as error:
            if not self._is_failing:
                log.error("the audit log cannot be written", path=str(self._path), error=str(error))
            self._is_failing = True
        else:
            self._is_failing = False

    def _append(self, line: bytes) -> None:
        """All of it, or nothing: the next event must not go on in the middle of this one."""
        if os.write(self._descriptor, line) < len(line):
            os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(line)

    def _turn(self) -> None:
        """The file is let go when the next one is open. Where that fails, the next event tries again, and no older file goes for it."""
        if self._path.exists():
            for number in range(_OLDER_FILES, 0, -1):
                older = self._path.with_name(f"{FILE}.{number - 1}") if number > 1 else self._path
                if older.exists():
                    older.replace(self._path.with_name(f"{FILE}.{number}"))
        full, self._descriptor = self._descriptor, self._opened()
        self._size = 0
        os.close(full)

    def close(self) -> None:
        os.close(self._descriptor)


def files_in(directory: Path) -> list[Path]:
    """What there is, the oldest first."""
    names = [*(f"{FILE}.{number}" for number in range(_OLDER_FILES, 0, -1)), FILE]
    return [path for name in names if (path := directory / name).exists()]


def now() -> datetime:
    return datetime.now(UTC)


def _text(moment: datetime) -> str:
    """As strftime would write it, at a third of its cost: each change pays for two."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
