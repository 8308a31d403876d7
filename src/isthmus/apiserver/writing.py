"""Writing objects: what a request's body means, and what is done with it."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from msgspec.structs import replace

from isthmus.apiserver import answers, bodies, faults, patches
from isthmus.apiserver.access import Access
from isthmus.apiserver.authors import STRICT, Author, is_dry_run
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.objects import Objects
from isthmus.apiserver.paths import Target
from isthmus.apiserver.reading import options_of
from isthmus.apiserver.scales import scale_of, scaled
from isthmus.apiserver.status import (
    Refused,
    bad_request,
    invalid_fields,
    method_not_allowed,
    unprocessable,
    unsupported_media_type,
)
from isthmus.apiserver.store import Object
from isthmus.apiserver.virtual import Virtual

_CONFLICT_TRIES = 5
_BORN_WITH_STATUS = frozenset({"Node"})
"""Who reports a machine says at once what it is. Of other kinds a status is written apart, by who has the right to."""
_ANSWERED_WITH = frozenset({"Pod", "Service", "ServiceAccount", "PersistentVolume", "PersistentVolumeClaim"})
"""Whose deletion is answered with the object that has gone; others' with a Status. Clients with types rely on it."""


class Writing:
    """Answers `create`, `update`, `patch`, `delete` and `deletecollection`. Every method may raise Refused."""

    def __init__(self, objects: Objects, virtual: Virtual, access: Access) -> None:
        self._objects = objects
        self._access = access
        self._store = objects.store
        self._virtual = virtual

    async def create(self, request: web.BaseRequest, target: Target, author: Author) -> web.StreamResponse:
        body = await bodies.read_object(request, strictly=author.validation == STRICT)
        if target.subresource == "token":
            return answers.json(self._virtual.token(body, target.namespace, target.name), status=201)
        if target.subresource == "eviction":
            await self._objects.delete(
                target.kind, (target.namespace, target.name), body.get("deleteOptions") or {}, author
            )
            return answers.json({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201}, status=201)
        if target.name:
            raise method_not_allowed()
        _check_kind(body, target.kind)
        named = (body.get("metadata") or {}).get("namespace", "")
        if target.kind.namespaced and named and target.namespace and named != target.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        namespace = target.namespace or named
        if "status" in target.kind.subresources and target.kind.name not in _BORN_WITH_STATUS:
            body.pop("status", None)  # A developer's Pod does not say by itself that it is ready, and where.
        created = await self._objects.create(target.kind, body, namespace, author)
        return answers.changed(request, target.kind, created, self._store, status=201)

    async def update(self, request: web.BaseRequest, target: Target, author: Author) -> web.StreamResponse:
        body = await bodies.read_object(request, strictly=author.validation == STRICT)
        if target.subresource == "scale":
            return await self._scale(target, body, author)
        _check_kind(body, target.kind)
        metadata = body.setdefault("metadata", {})
        if metadata.setdefault("name", target.name) != target.name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})"
            )
        if target.kind.namespaced:
            metadata["namespace"] = target.namespace
        changed = await self._objects.replace(target.kind, body, subresource=target.subresource, author=author)
        return answers.changed(request, target.kind, changed, self._store)

    async def patch(self, request: web.BaseRequest, target: Target, author: Author) -> web.StreamResponse:
        """A patch without a resourceVersion is made again on what another writer left meanwhile."""
        content_type, patch = await bodies.read_patch(request)
        if content_type == "application/apply-patch+yaml":
            return await self._apply(request, target, patch, author)
        if "force" in request.query:
            raise unprocessable("PatchOptions: force: Forbidden: may not be specified for non-apply patch")
        for attempt in range(_CONFLICT_TRIES):
            stored = self._store.get(target.kind, (target.namespace, target.name))
            if target.subresource == "scale":
                scale = _patched(scale_of(target.kind.scale, stored.obj), patch, content_type, target.kind)
                return await self._scale(target, scale, author)
            wanted = _patched(stored.obj, patch, content_type, target.kind)
            if (wanted["metadata"].get("name"), wanted["metadata"].get("namespace", "")) != (
                target.name,
                target.namespace,
            ):
                said = wanted["metadata"].get("name")
                raise bad_request(f"the name of the object ({said}) does not match the name on the URL ({target.name})")
            if wanted["metadata"].get("uid") != stored.obj["metadata"]["uid"]:
                uid = wanted["metadata"].get("uid")
                found = faults.invalid("metadata.uid", uid, ["field is immutable"])
                raise invalid_fields(target.kind, target.name, list(found))
            try:
                changed = await self._objects.replace(
                    target.kind, wanted, subresource=target.subresource, author=author
                )
            except Refused as refusal:
                theirs = wanted["metadata"].get("resourceVersion") == str(stored.version)
                if refusal.reason == "Conflict" and theirs and attempt + 1 < _CONFLICT_TRIES:
                    continue
                raise
            return answers.changed(request, target.kind, changed, self._store)
        raise AssertionError("the last try returns or raises")

    async def _apply(self, request: web.BaseRequest, target: Target, config: Any, author: Author) -> web.StreamResponse:
        """Server-side apply: the configuration's fields become the manager's."""
        if not request.query.get("fieldManager"):
            raise unprocessable("PatchOptions: fieldManager: Required value: is required for apply patch")
        if not isinstance(config, dict) or not isinstance(config.get("metadata", {}), dict):
            raise bad_request("the configuration that is applied is not an object with metadata")
        if config.get("kind") != target.kind.name or config.get("apiVersion") != target.kind.group_version:
            raise bad_request(
                f"the configuration must say apiVersion: {target.kind.group_version} and kind: {target.kind.name}"
            )
        metadata = config.setdefault("metadata", {})
        if metadata.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if target.subresource == "scale":
            raise unsupported_media_type("apply is not accepted for scale: apply the object, or patch its scale")
        said = (metadata.setdefault("name", target.name), metadata.get("namespace") or target.namespace)
        if said != (target.name, target.namespace):
            raise bad_request("the name and namespace of the configuration do not match those in the URL")
        if target.kind.namespaced:
            metadata["namespace"] = target.namespace
        if self._store.find(target.kind, (target.namespace, target.name)) is None:
            self._access.require(author.user, target.attributes("create"))
        force = bodies.flag(request, "force")
        obj, is_new = await self._objects.apply(
            target.kind, config, target.namespace, target.subresource, author, force=force
        )
        return answers.changed(request, target.kind, obj, self._store, status=201 if is_new else 200)

    async def _scale(self, target: Target, scale: Object, author: Author) -> web.StreamResponse:
        said = (scale.get("metadata") or {}).get("resourceVersion")
        stored = self._store.get(target.kind, (target.namespace, target.name))
        wanted = scaled(target.kind.scale, stored.obj, scale)
        wanted["metadata"] = {k: v for k, v in stored.obj["metadata"].items() if k != "resourceVersion"}
        if said:
            wanted["metadata"]["resourceVersion"] = said
        changed = await self._objects.replace(target.kind, wanted, author=author)
        return answers.json(scale_of(target.kind.scale, changed))

    async def delete(self, request: web.BaseRequest, target: Target, author: Author) -> web.StreamResponse:
        options = await bodies.read_object(request)
        author = _as_options_say(author, options)
        grace = request.query.get("gracePeriodSeconds", "")
        if grace.isdigit():
            options.setdefault("gracePeriodSeconds", int(grace))
        obj, gone = await self._objects.delete(target.kind, (target.namespace, target.name), options, author)
        if not gone or (target.kind.name in _ANSWERED_WITH and not target.kind.is_custom):
            return answers.json(obj)
        details = {
            "name": target.name,
            "group": target.kind.group,
            "kind": target.kind.plural,
            "uid": obj["metadata"]["uid"],
        }
        return answers.json(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )

    async def delete_collection(self, request: web.BaseRequest, target: Target, author: Author) -> web.StreamResponse:
        options = await bodies.read_object(request)
        author = _as_options_say(author, options)
        chosen = options_of(request, target)
        for stored in list(self._store.items(target.kind, target.namespace)):
            if chosen.matches(stored):
                await self._objects.delete(target.kind, stored.name, options, author)
        return answers.json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})


def _patched(obj: Object, patch: Any, content_type: str, kind: Kind) -> Object:
    match content_type:
        case "application/json-patch+json":
            result = patches.json_patch(obj, patch)
        case "application/merge-patch+json":
            result = patches.merge_patch(obj, patch)
        case "application/strategic-merge-patch+json" if not kind.is_custom:
            result = patches.strategic_merge(obj, patch, kind.name)
        case _:
            raise unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: "
                "application/json-patch+json, application/merge-patch+json"
                + ("" if kind.is_custom else ", application/strategic-merge-patch+json")
            )
    if not isinstance(result, dict) or not isinstance(result.get("metadata"), dict):
        raise bad_request("the patch leaves no object")
    return result


def _check_kind(body: Object, kind: Kind) -> None:
    if body.get("kind", kind.name) != kind.name or body.get("apiVersion", kind.group_version) != kind.group_version:
        raise bad_request(
            f"{kind.name} in version {kind.group_version!r} cannot be handled as a {body.get('kind')} "
            f"in version {body.get('apiVersion')!r}"
        )


def _as_options_say(author: Author, options: Object) -> Author:
    """A deletion's options are in its body as well as in its query."""
    return replace(author, dry_run=author.dry_run or is_dry_run(options.get("dryRun")))
