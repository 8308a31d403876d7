"""Reading objects: one, a page of them, or a stream of what happens to them."""

from __future__ import annotations

import re

import msgspec
from aiohttp import web

from isthmus.apiserver import answers, bodies, tables
from isthmus.apiserver.kinds import SCALE
from isthmus.apiserver.pages import Pages
from isthmus.apiserver.paths import Target
from isthmus.apiserver.scales import scale_of
from isthmus.apiserver.selectors import field_selector, is_of_metadata, label_selector
from isthmus.apiserver.status import Refused, bad_request, expired, too_large_version, unprocessable
from isthmus.apiserver.store import Store, served_as
from isthmus.apiserver.watching import JSON, TABLE, Watches, WatchOptions, partial_metadata

_encode = msgspec.json.Encoder().encode
_WATCH_SECONDS_DEFAULT = 1800.0
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


class Reading:
    """Answers `get`, `list` and `watch`. Every method may raise Refused."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pages = Pages()
        self.watches = Watches(store)

    async def get(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        stored = self._store.get(target.kind, (target.namespace, target.name))
        if target.subresource == "scale":
            scale = scale_of(target.kind.scale, stored.obj)
            if bodies.wanted_form(request) == TABLE:
                scale = tables.table(SCALE, [scale], str(stored.version), head=True)
            return answers.json(scale)
        if target.subresource == "log":
            raise Refused(501, "NotImplemented", "logs are read with `isthmus logs`")
        return answers.one(request, target.kind, stored)

    async def list(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """In pages if a limit is given, all of one moment: a watch from there misses nothing."""
        version, token = request.query.get("resourceVersion", ""), request.query.get("continue", "")
        exact = request.query.get("resourceVersionMatch") == "Exact" and version.isdigit()
        if exact and int(version) != self._store.version:
            raise expired(int(version), self._store.version)
        options = options_of(request, target)
        if token and version not in ("", "0"):
            raise bad_request("specifying resource version is not allowed when using continue")
        if not token and version.isdigit() and int(version) > self._store.version:
            raise too_large_version(int(version), self._store.version)
        if token:
            page, metadata = self._pages.next(token, request.query)
        else:
            there = self._store.items(target.kind, target.namespace)
            chosen = options.chosen(there)
            page, metadata = self._pages.first(chosen, request.query.get("limit", ""), self._store.version)
            if options.selects:
                metadata.pop("remainingItemCount", None)
        if options.form == TABLE:
            body = tables.table(
                target.kind, [s.obj for s in page], metadata["resourceVersion"], head=True, remaining=metadata
            )
            return answers.json(body)
        if options.form != JSON:
            head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
            return answers.json(head | {"items": [partial_metadata(stored.obj) for stored in page]})
        head = {"kind": f"{target.kind.name}List", "apiVersion": target.kind.group_version, "metadata": metadata}
        items = [served_as(target.kind, stored).raw for stored in page]
        return await answers.joined(request, _encode(head)[:-1] + b',"items":[', items, b"]}")

    async def watch(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        if bodies.flag(request, "sendInitialEvents") and request.query.get("resourceVersionMatch") != "NotOlderThan":
            raise unprocessable("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
        return await self.watches.serve(request, target.kind, options_of(request, target))


def options_of(request: web.BaseRequest, target: Target) -> WatchOptions:
    """What is chosen, from the query. Raises Refused."""
    query = request.query
    since = query.get("resourceVersion", "")
    if since and not since.isdigit():
        raise bad_request(f"invalid resource version {since!r}")
    initial = bodies.flag(request, "sendInitialEvents")
    timeout = query.get("timeoutSeconds", "")
    for name in ("limit", "timeoutSeconds"):
        if query.get(name) and not _WHOLE_NUMBER.fullmatch(query[name]):
            raise bad_request(f"{name}: {query[name][:40]!r} is not a whole number")
    labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
    if target.name:
        fields = f"metadata.name={target.name}" + (f",{fields}" if fields else "")
    return WatchOptions(
        namespace=target.namespace,
        labels=label_selector(labels),
        fields=field_selector(fields, target.kind),
        of_metadata=is_of_metadata(fields),
        since=None if initial or since in ("", "0") else int(since),
        timeout_seconds=float(timeout) if timeout.isdigit() and int(timeout) else _WATCH_SECONDS_DEFAULT,
        bookmarks=bodies.flag(request, "allowWatchBookmarks"),
        initial_events=initial,
        form=bodies.wanted_form(request),
        selectors=(labels, fields),
    )
