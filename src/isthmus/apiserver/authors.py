"""Authors: who makes a change, under which name its fields are kept, and how strictly it wants to be read."""

from __future__ import annotations

import msgspec
from aiohttp import web

from isthmus.apiserver.access import MASTERS, User
from isthmus.apiserver.status import bad_request, unprocessable

STRICT, WARN, IGNORE = "Strict", "Warn", "Ignore"
_MANAGER_MAX = 128
_WARNINGS_BYTES_MAX = 4096
_REMARKS_MAX = 64
_REMARK_MAX = 1024


class Author(msgspec.Struct, frozen=True, kw_only=True):
    """`warnings` collects what the author is to be told beside the answer, `remarks` what webhooks want the audit log to say of the change.
    A change with `dry_run` is everything but stored."""

    user: User
    manager: str
    dry_run: bool = False
    validation: str = IGNORE
    warnings: list[str] = msgspec.field(default_factory=list)
    remarks: dict[str, str] = msgspec.field(default_factory=dict)
    listens: bool = True
    """Whether there is anybody to be told."""

    def warn(self, text: str) -> None:
        """Told once, however often it is found."""
        if self.listens and text not in self.warnings:
            self.warnings.append(text)

    def remark(self, key: str, text: str) -> None:
        """The first one of a key stays; there is room for so many."""
        if len(self.remarks) < _REMARKS_MAX:
            self.remarks.setdefault(key[:_REMARK_MAX], text[:_REMARK_MAX])


SERVER = Author(user=User("system:apiserver", (MASTERS,)), manager="isthmus-apiserver", listens=False)
"""The server itself."""


def controller(name: str) -> Author:
    """One of the controllers inside the server, named as Kubernetes names its own."""
    user = User(f"system:serviceaccount:kube-system:{name}", (MASTERS,))
    return Author(user=user, manager=name, listens=False)


def author_of(request: web.BaseRequest, user: User) -> Author:
    """From the query, as every writing request may say it. Raises Refused."""
    query, agent = request.query, request.headers.get("User-Agent", "")
    if not query:
        return Author(user=user, manager=_program(agent), validation=WARN)
    manager = query.get("fieldManager", "")
    if len(manager) > _MANAGER_MAX or not manager.isprintable():
        raise unprocessable(f"fieldManager: Invalid value: it must be printable, and not longer than {_MANAGER_MAX}")
    validation = query.get("fieldValidation") or WARN
    if validation not in (STRICT, WARN, IGNORE):
        supported = f'supported values: "{IGNORE}", "{STRICT}", "{WARN}"'
        raise unprocessable(f'fieldValidation: Unsupported value: "{validation}": {supported}')
    return Author(
        user=user,
        manager=manager or _program(agent),
        dry_run=is_dry_run(query.getall("dryRun", [])),
        validation=validation,
    )


def _program(agent: str) -> str:
    return agent.partition("/")[0][:_MANAGER_MAX] or "unknown"


def is_dry_run(values: object) -> bool:
    """`All` is the only way in which a run can be dry. Raises Refused for any other."""
    if not values:
        return False
    if not isinstance(values, list) or any(value != "All" for value in values):
        raise bad_request(f'dryRun: Unsupported value: {values!r}: supported values: "All"')
    return True


def add_warnings(response: web.StreamResponse, author: Author) -> None:
    """As headers (RFC 9111 has retired them, Kubernetes' clients show them). Clients take only so much header."""
    left = _WARNINGS_BYTES_MAX
    for warning in author.warnings:
        text = "".join(character if character.isprintable() else " " for character in warning)
        text = text.replace("\\", "\\\\").replace('"', '\\"')[:1024]
        left -= len(text)
        if left < 0:
            return
        response.headers.add("Warning", f'299 - "{text}"')
