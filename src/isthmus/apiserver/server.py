"""The HTTP surface: paths to operations, callers to users, errors to Status objects."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiohttp import web

from isthmus.apiserver import bodies, documents, patches, tables
from isthmus.apiserver.access import ANONYMOUS, Access, Attributes, User, forbidden_message
from isthmus.apiserver.kinds import Kind, Kinds
from isthmus.apiserver.objects import Objects
from isthmus.apiserver.persistence import StorageFailed
from isthmus.apiserver.selectors import field_selector, label_selector
from isthmus.apiserver.status import (
    Refused,
    bad_request,
    expired,
    method_not_allowed,
    no_such_path,
    unauthorized,
    unprocessable,
    unsupported_media_type,
)
from isthmus.apiserver.store import Object, Stored
from isthmus.apiserver.tokens import Tokens, discovery_document
from isthmus.apiserver.virtual import Virtual
from isthmus.apiserver.watching import JSON, TABLE, Watches, WatchOptions, partial_metadata

_encode = msgspec.json.Encoder().encode
_WATCH_SECONDS_DEFAULT = 1800.0
_CONFLICT_TRIES = 5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path names."""

    kind: Kind
    namespace: str
    name: str
    subresource: str


class ApiServer:
    """One application for all paths: they are data, not routes."""

    def __init__(self, objects: Objects, kinds: Kinds, access: Access, tokens: Tokens) -> None:
        self._objects = objects
        self._store = objects.store
        self._kinds = kinds
        self._access = access
        self._tokens = tokens
        self._virtual = Virtual(objects, access, tokens)
        self.watches = Watches(objects.store)

    def application(self) -> web.Application:
        application = web.Application(client_max_size=bodies.BODY_BYTES_MAX)
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Whatever happens, the client gets a Status, and other clients nothing of it."""
        try:
            user = self._user(request)
            return await self._route(request, user)
        except Refused as refusal:
            return _json(refusal.status, status=refusal.code)
        except StorageFailed as error:
            return _json(Refused(500, "InternalError", str(error)).status, status=500)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            # An object of a shape that the code did not expect: the object is at fault before the server is.
            log.warning("request failed", path=request.path, method=request.method, exc_info=error)
            message = f"the object provided is unrecognized: {type(error).__name__}: {error}"
            return _json(bad_request(message).status, status=400)

    def _user(self, request: web.Request) -> User:
        """By token, else by TLS client certificate, else anonymous. Raises Refused for a token that is not valid."""
        authorization = request.headers.get("Authorization", "")
        if authorization.lower().startswith("bearer "):
            user = self._access.user_of_token(authorization[7:].strip(), int(time.time()))
            if user is None:
                raise unauthorized()
        else:
            user = _user_of_certificate(request) or ANONYMOUS
        wanted = request.headers.get("Impersonate-User")
        return self._impersonated(user, wanted, request) if wanted else user

    def _impersonated(self, user: User, wanted: str, request: web.Request) -> User:
        self._require(user, Attributes(verb="impersonate", resource="users", name=wanted))
        groups = tuple(request.headers.getall("Impersonate-Group", []))
        if wanted.startswith("system:serviceaccount:"):
            groups += ("system:serviceaccounts", f"system:serviceaccounts:{wanted.split(':')[2]}")
        return User(wanted, (*groups, "system:authenticated"))

    def _require(self, user: User, wanted: Attributes) -> None:
        if not self._access.allows(user, wanted):
            raise Refused(403, "Forbidden", forbidden_message(user, wanted))

    async def _route(self, request: web.Request, user: User) -> web.StreamResponse:
        parts = [part for part in request.path.split("/") if part]
        if len(parts) >= 3 and parts[0] == "api" and parts[1] == "v1":
            return await self._resource(request, user, "", "v1", parts[2:])
        if len(parts) >= 4 and parts[0] == "apis":
            return await self._resource(request, user, parts[1], parts[2], parts[3:])
        self._require(user, Attributes(verb=request.method.lower(), path=request.path))
        return self._document(request, parts)

    def _document(self, request: web.Request, parts: list[str]) -> web.Response:
        """Everything that is no resource."""
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        accept = request.headers.get("Accept", "")
        match parts:
            case ["healthz" | "livez" | "readyz", *_]:
                return web.Response(text="ok")
            case ["version"]:
                return _json(documents.version_document())
            case ["api" | "apis"]:
                return _tagged(request, self._discovery(core=parts[0] == "api", accept=accept))
            case ["api", "v1"]:
                return _found(documents.resources("", "v1", self._kinds))
            case ["apis", group]:
                return _found(documents.group(group, self._kinds))
            case ["apis", group, version]:
                return _found(documents.resources(group, version, self._kinds))
            case ["openapi", "v3"]:
                return _tagged(request, documents.openapi_index(self._kinds))
            case ["openapi", "v3", "api", version]:
                return _json(documents.openapi_document("", version, self._kinds))
            case ["openapi", "v3", "apis", group, version]:
                return _json(documents.openapi_document(group, version, self._kinds))
            case [".well-known", "openid-configuration"]:
                return _json(discovery_document())
            case ["openid", "v1", "jwks"]:
                return _json(self._tokens.key_set())
            case []:
                return _json({"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]})
            case _:
                raise no_such_path()

    def _discovery(self, *, core: bool, accept: str) -> Object:
        """Exactly the aggregated version that the client can read; the legacy form for the others."""
        for version in ("v2", "v2beta1"):
            if f"v={version};as=APIGroupDiscoveryList" in accept.replace(" ", ""):
                return documents.aggregated(self._kinds, core=core, version=version)
        return documents.core_versions() if core else documents.groups(self._kinds)

    async def _resource(
        self, request: web.Request, user: User, group: str, version: str, parts: list[str]
    ) -> web.StreamResponse:
        virtual, namespace = self._virtual_target(group, version, parts)
        if virtual is not None:
            if request.method != "POST":
                raise method_not_allowed()
            self._require(user, Attributes(verb="create", group=group, resource=virtual.plural, namespace=namespace))
            body = await bodies.read_object(request)
            return _json(self._virtual.create(virtual, body, user, namespace), status=201)
        target = self._target(group, version, parts)
        verb = _verb(request, target)
        self._require(
            user,
            Attributes(
                verb=verb,
                group=group,
                resource=target.kind.plural,
                subresource=target.subresource,
                namespace=target.namespace or (target.name if target.kind.name == "Namespace" else ""),
                name=target.name,
            ),
        )
        return await self._verbs()[verb](request, target)

    def _virtual_target(self, group: str, version: str, parts: list[str]) -> tuple[Kind | None, str]:
        namespace = ""
        if len(parts) == 3 and parts[0] == "namespaces":
            namespace, parts = parts[1], parts[2:]
        return (self._kinds.find_virtual(group, version, parts[0]) if len(parts) == 1 else None), namespace

    def _target(self, group: str, version: str, parts: list[str]) -> Target:
        namespace = ""
        if len(parts) >= 3 and parts[0] == "namespaces" and self._is_inside_namespace(group, version, parts):
            namespace, parts = parts[1], parts[2:]
        kind = self._kinds.find(group, version, parts[0])
        if kind is None or len(parts) > 4:
            raise no_such_path()
        name = parts[1] if len(parts) > 1 else ""
        subresource = parts[2] if len(parts) > 2 else ""
        if subresource and subresource not in kind.subresources:
            raise no_such_path()
        if kind.namespaced and name and not namespace:
            raise no_such_path()
        return Target(kind=kind, namespace=namespace, name=name, subresource=subresource)

    def _is_inside_namespace(self, group: str, version: str, parts: list[str]) -> bool:
        """`namespaces/x/status` is a Namespace's own status; `namespaces/x/pods` are its Pods."""
        return self._kinds.find(group, version, parts[2]) is not None

    def _verbs(self) -> dict[str, Callable[[web.Request, Target], Awaitable[web.StreamResponse]]]:
        return {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    async def _get(self, request: web.Request, target: Target) -> web.StreamResponse:
        stored = self._store.get(target.kind, (target.namespace, target.name))
        if target.subresource == "scale":
            return _json(scale_of(target.kind, stored.obj))
        if target.subresource == "log":
            raise Refused(501, "NotImplemented", "logs are read with `isthmus logs`")
        form = bodies.wanted_form(request)
        if form == JSON:
            return web.Response(body=stored.raw, content_type="application/json")
        return self._formed(form, target.kind, stored)

    def _formed(self, form: str, kind: Kind, stored: Stored) -> web.Response:
        if form == TABLE:
            return _json(tables.table(kind, [stored.obj], str(stored.version), head=True))
        return _json(partial_metadata(stored.obj))

    async def _list(self, request: web.Request, target: Target) -> web.StreamResponse:
        """In pages if a limit is given; a page that continues an older list is of the present state, as far as names go."""
        version = request.query.get("resourceVersion", "")
        if (
            request.query.get("resourceVersionMatch") == "Exact"
            and version.isdigit()
            and int(version) < self._store.version
        ):
            raise expired(int(version), self._store.version)
        options = self._options(request, target)
        chosen = [stored for stored in self._store.items(target.kind, target.namespace) if options.matches(stored.obj)]
        page, metadata = _page(chosen, request.query.get("limit", ""), request.query.get("continue", ""))
        metadata["resourceVersion"] = str(self._store.version)
        if options.form == TABLE:
            body = tables.table(
                target.kind, [s.obj for s in page], metadata["resourceVersion"], head=True, remaining=metadata
            )
            return _json(body)
        if options.form != JSON:
            items = [partial_metadata(stored.obj) for stored in page]
            return _json(
                {
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                    "items": items,
                }
            )
        head = {"kind": f"{target.kind.name}List", "apiVersion": target.kind.group_version, "metadata": metadata}
        raw = _encode(head)[:-1] + b',"items":[' + b",".join(stored.raw for stored in page) + b"]}"
        return web.Response(body=raw, content_type="application/json")

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        if bodies.flag(request, "sendInitialEvents") and request.query.get("resourceVersionMatch") != "NotOlderThan":
            raise unprocessable("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
        return await self.watches.serve(request, target.kind, self._options(request, target))

    def _options(self, request: web.Request, target: Target) -> WatchOptions:
        query = request.query
        since = query.get("resourceVersion", "")
        if since and not since.isdigit():
            raise bad_request(f"invalid resource version {since!r}")
        initial = bodies.flag(request, "sendInitialEvents")
        timeout = query.get("timeoutSeconds", "")
        fields = query.get("fieldSelector", "")
        if target.name:
            fields = f"metadata.name={target.name}" + (f",{fields}" if fields else "")
        return WatchOptions(
            namespace=target.namespace,
            labels=label_selector(query.get("labelSelector", "")),
            fields=field_selector(fields, target.kind),
            since=None if initial or since in ("", "0") else int(since),
            timeout_seconds=float(timeout) if timeout.isdigit() and int(timeout) else _WATCH_SECONDS_DEFAULT,
            bookmarks=bodies.flag(request, "allowWatchBookmarks"),
            initial_events=initial,
            form=bodies.wanted_form(request),
        )

    async def _create(self, request: web.Request, target: Target) -> web.StreamResponse:
        body = await bodies.read_object(request)
        if target.subresource == "token":
            return _json(self._virtual.token(body, target.namespace, target.name), status=201)
        if target.subresource == "eviction":
            await self._objects.delete(target.kind, (target.namespace, target.name), body.get("deleteOptions") or {})
            return _json({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201}, status=201)
        if target.name:
            raise method_not_allowed()
        _check_kind(body, target.kind)
        named = (body.get("metadata") or {}).get("namespace", "")
        if target.kind.namespaced and named and target.namespace and named != target.namespace:
            raise bad_request(
                f"the namespace of the provided object does not match the namespace sent on the request "
                f"({named} != {target.namespace})"
            )
        namespace = target.namespace or named
        created = await self._objects.create(target.kind, body, namespace, dry_run=_dry_run(request))
        return self._changed(request, target.kind, created, status=201)

    async def _update(self, request: web.Request, target: Target) -> web.StreamResponse:
        body = await bodies.read_object(request)
        if target.subresource == "scale":
            return await self._scale(target, body, dry_run=_dry_run(request))
        _check_kind(body, target.kind)
        metadata = body.setdefault("metadata", {})
        if metadata.setdefault("name", target.name) != target.name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})"
            )
        if target.kind.namespaced:
            metadata["namespace"] = target.namespace
        changed = await self._objects.replace(
            target.kind, body, subresource=target.subresource, dry_run=_dry_run(request)
        )
        return self._changed(request, target.kind, changed)

    async def _patch(self, request: web.Request, target: Target) -> web.StreamResponse:
        """A patch without a resourceVersion is made again on what another writer left meanwhile."""
        content_type, patch = await bodies.read_patch(request)
        for attempt in range(_CONFLICT_TRIES):
            stored = self._store.get(target.kind, (target.namespace, target.name))
            if target.subresource == "scale":
                scaled = _patched(scale_of(target.kind, stored.obj), patch, content_type, target.kind)
                return await self._scale(target, scaled, dry_run=_dry_run(request))
            wanted = _patched(stored.obj, patch, content_type, target.kind)
            if (wanted["metadata"].get("name"), wanted["metadata"].get("namespace", "")) != (
                target.name,
                target.namespace,
            ):
                raise bad_request("the name and namespace of an object cannot be patched")
            try:
                changed = await self._objects.replace(
                    target.kind, wanted, subresource=target.subresource, dry_run=_dry_run(request)
                )
            except Refused as refusal:
                theirs = wanted["metadata"].get("resourceVersion") == str(stored.version)
                if refusal.reason == "Conflict" and theirs and attempt + 1 < _CONFLICT_TRIES:
                    continue
                raise
            return self._changed(request, target.kind, changed)
        raise AssertionError("the last try returns or raises")

    async def _scale(self, target: Target, scale: Object, *, dry_run: bool) -> web.StreamResponse:
        stored = self._store.get(target.kind, (target.namespace, target.name))
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or replicas < 0:
            raise unprocessable(f"spec.replicas: Invalid value: {replicas!r}: must be a whole number, 0 or more")
        wanted = stored.obj | {
            "spec": stored.obj["spec"] | {"replicas": replicas},
            "metadata": {k: v for k, v in stored.obj["metadata"].items() if k != "resourceVersion"},
        }
        changed = await self._objects.replace(target.kind, wanted, dry_run=dry_run)
        return _json(scale_of(target.kind, changed))

    async def _delete(self, request: web.Request, target: Target) -> web.StreamResponse:
        options = await bodies.read_object(request)
        grace = request.query.get("gracePeriodSeconds", "")
        if grace.isdigit():
            options.setdefault("gracePeriodSeconds", int(grace))
        obj, gone = await self._objects.delete(
            target.kind, (target.namespace, target.name), options, dry_run=_dry_run(request)
        )
        if not gone or target.kind.name == "Pod":
            return _json(obj)
        details = {
            "name": target.name,
            "group": target.kind.group,
            "kind": target.kind.plural,
            "uid": obj["metadata"]["uid"],
        }
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})

    async def _delete_collection(self, request: web.Request, target: Target) -> web.StreamResponse:
        options = await bodies.read_object(request)
        chosen = self._options(request, target)
        for stored in list(self._store.items(target.kind, target.namespace)):
            if chosen.matches(stored.obj):
                name = (stored.obj["metadata"].get("namespace", ""), stored.obj["metadata"]["name"])
                await self._objects.delete(target.kind, name, options, dry_run=_dry_run(request))
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    def _changed(self, request: web.Request, kind: Kind, obj: Object, *, status: int = 200) -> web.Response:
        form = bodies.wanted_form(request)
        if form == JSON:
            return _json(obj, status=status)
        return self._formed(form, kind, Stored(int(obj["metadata"].get("resourceVersion") or 0), obj, b""))


def scale_of(kind: Kind, obj: Object) -> Object:
    """The Scale of a Deployment or ReplicaSet (autoscaling/v1)."""
    metadata = {
        k: v
        for k, v in obj["metadata"].items()
        if k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    }
    labels = (obj["spec"].get("selector") or {}).get("matchLabels") or {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": obj["spec"].get("replicas", 0)},
        "status": {
            "replicas": obj.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }


def _patched(obj: Object, patch: Any, content_type: str, kind: Kind) -> Object:
    match content_type:
        case "application/json-patch+json":
            result = patches.json_patch(obj, patch)
        case "application/merge-patch+json":
            result = patches.merge_patch(obj, patch)
        case "application/strategic-merge-patch+json" if not kind.is_custom:
            result = patches.strategic_merge(obj, patch)
        case _:
            raise unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: "
                "application/json-patch+json, application/merge-patch+json"
                + ("" if kind.is_custom else ", application/strategic-merge-patch+json")
            )
    if not isinstance(result, dict) or not isinstance(result.get("metadata"), dict):
        raise bad_request("the patch leaves no object")
    return result


def _page(chosen: list[Stored], limit: str, token: str) -> tuple[list[Stored], dict[str, Any]]:
    if token:
        try:
            after = tuple(msgspec.json.decode(base64.urlsafe_b64decode(token), type=list[str]))
        except (msgspec.MsgspecError, binascii.Error, ValueError):
            raise bad_request("continue key is not valid") from None
        chosen = [s for s in chosen if (s.obj["metadata"].get("namespace", ""), s.obj["metadata"]["name"]) > after]
    size = int(limit) if limit.isdigit() and int(limit) else 0
    if not size or len(chosen) <= size:
        return chosen, {}
    last = chosen[size - 1].obj["metadata"]
    key = base64.urlsafe_b64encode(_encode([last.get("namespace", ""), last["name"]])).decode()
    return chosen[:size], {"continue": key, "remainingItemCount": len(chosen) - size}


def _verb(request: web.Request, target: Target) -> str:
    match request.method:
        case "GET" | "HEAD":
            if bodies.flag(request, "watch"):
                return "watch"
            return "get" if target.name else "list"
        case "POST":
            return "create"
        case "PUT" if target.name:
            return "update"
        case "PATCH" if target.name:
            return "patch"
        case "DELETE":
            return "delete" if target.name else "deletecollection"
        case _:
            raise method_not_allowed()


def _check_kind(body: Object, kind: Kind) -> None:
    if body.get("kind", kind.name) != kind.name or body.get("apiVersion", kind.group_version) != kind.group_version:
        raise bad_request(
            f"{kind.name} in version {kind.group_version!r} cannot be handled as a {body.get('kind')} "
            f"in version {body.get('apiVersion')!r}"
        )


def _dry_run(request: web.Request) -> bool:
    return "All" in request.query.getall("dryRun", [])


def _user_of_certificate(request: web.Request) -> User | None:
    """CN is the user, each O a group: the certificate was verified by TLS."""
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    if not certificate:
        return None
    fields = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for key, value in fields if key == "commonName"), "")
    groups = tuple(value for key, value in fields if key == "organizationName")
    return User(name, (*groups, "system:authenticated")) if name else None


def _json(body: Object, *, status: int = 200) -> web.Response:
    return web.Response(body=_encode(body), status=status, content_type="application/json")


def _found(body: Object | None) -> web.Response:
    if body is None:
        raise no_such_path()
    return _json(body)


def _tagged(request: web.Request, body: Object) -> web.Response:
    """With an ETag: clients that have it get 304."""
    raw = _encode(body)
    tag = f'"{hashlib.sha256(raw).hexdigest()[:32].upper()}"'
    headers = {"ETag": tag, "Vary": "Accept", "Cache-Control": "public"}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    kind, version = body.get("kind"), str(body.get("apiVersion", "")).rpartition("/")[2]
    response = web.Response(body=raw, content_type="application/json", headers=headers)
    if kind == "APIGroupDiscoveryList":
        response.headers["Content-Type"] = (
            f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        )
    return response
