"""Pages of long lists. All pages of one list show one moment: what the first page did not show is kept for those that follow, for a while."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from isthmus.apiserver.status import Refused, bad_request
from isthmus.apiserver.store import Stored

_KEPT_MAX = 256
_KEPT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class _Rest:
    """Objects are never changed, only replaced: references to them are enough."""

    version: int
    objects: list[Stored]
    until: float


class Pages:
    """At most so many unfinished lists; the oldest goes first, and its client begins anew."""

    def __init__(self) -> None:
        self._rests: OrderedDict[str, _Rest] = OrderedDict()

    def first(self, chosen: list[Stored], limit: str, version: int) -> tuple[list[Stored], dict[str, Any]]:
        """The page, and the list's metadata."""
        return self._page(chosen, limit, version)

    def next(self, token: str, query: Mapping[str, str]) -> tuple[list[Stored], dict[str, Any]]:
        """Raises Refused for a token that is none of ours, or too old."""
        key, start = _decoded(token)
        rest = self._rests.get(key)
        if rest is None or rest.until < time.monotonic():
            raise Refused(
                410,
                "Expired",
                "The provided continue parameter is too old to display a consistent list result. "
                "You must start a new list without the continue parameter.",
            )
        return self._page(rest.objects, query.get("limit", ""), rest.version, start, key)

    def _page(
        self, objects: list[Stored], limit: str, version: int, start: int = 0, key: str = ""
    ) -> tuple[list[Stored], dict[str, Any]]:
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        size = int(limit) if limit.isdigit() else 0
        end = start + size if size else len(objects)
        if end >= len(objects):
            return objects[start:], metadata
        key = key or self._keep(_Rest(version, objects, time.monotonic() + _KEPT_SECONDS))
        token = base64.urlsafe_b64encode(msgspec.json.encode([key, end])).decode()
        return objects[start:end], metadata | {"continue": token, "remainingItemCount": len(objects) - end}

    def _keep(self, rest: _Rest) -> str:
        while self._rests and (
            len(self._rests) >= _KEPT_MAX or next(iter(self._rests.values())).until < time.monotonic()
        ):
            self._rests.popitem(last=False)
        key = secrets.token_urlsafe(9)
        self._rests[key] = rest
        return key


def _decoded(token: str) -> tuple[str, int]:
    try:
        key, start = msgspec.json.decode(base64.urlsafe_b64decode(token), type=tuple[str, int])
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise bad_request("continue key is not valid") from None
    if start < 0:
        raise bad_request("continue key is not valid")
    return key, start
