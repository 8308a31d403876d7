"""The HTTP surface: who asks, for what, whether they may, and who answers. Errors become Status objects."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from isthmus.apiserver import answers, audit, bodies, documents, openapi
from isthmus.apiserver.access import Access, Attributes, User
from isthmus.apiserver.answers import Answer
from isthmus.apiserver.audit import Asked
from isthmus.apiserver.authors import Author, add_warnings, author_of
from isthmus.apiserver.callers import acting, caller_of
from isthmus.apiserver.connections import connection_of
from isthmus.apiserver.kinds import Kinds
from isthmus.apiserver.objects import Objects
from isthmus.apiserver.paths import Resources, Target, verb_of
from isthmus.apiserver.persistence import StorageFailed
from isthmus.apiserver.reading import Reading
from isthmus.apiserver.status import Refused, bad_request, internal_error, method_not_allowed, no_such_path
from isthmus.apiserver.store import Object
from isthmus.apiserver.tokens import Tokens, discovery_document
from isthmus.apiserver.virtual import Virtual
from isthmus.apiserver.watching import Watches
from isthmus.apiserver.writing import Writing

log = structlog.get_logger()


class ApiServer:
    """One answer for all paths: they are data, not routes."""

    def __init__(self, objects: Objects, kinds: Kinds, access: Access, tokens: Tokens, trail: audit.AuditLog) -> None:
        self._trail = trail
        self._kinds = kinds
        self._resources = Resources(kinds)
        self._access = access
        self._tokens = tokens
        self._virtual = Virtual(objects, access, tokens)
        reading, writing = Reading(objects.store), Writing(objects, self._virtual, access)
        self.watches: Watches = reading.watches
        self._reads: dict[str, Callable[[web.BaseRequest, Target], Awaitable[web.StreamResponse]]] = {
            "get": reading.get,
            "list": reading.list,
            "watch": reading.watch,
        }
        self._writes: dict[str, Callable[[web.BaseRequest, Target, Author], Awaitable[web.StreamResponse]]] = {
            "create": writing.create,
            "update": writing.update,
            "patch": writing.patch,
            "delete": writing.delete,
            "deletecollection": writing.delete_collection,
        }

    def http(self) -> web.Server:
        return web.Server(self._answer, request_factory=_request)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = connection_of(request)
        connection.begin()
        try:
            asked = _asked(request)
            response = _unexpected(request) or await self._settled(request, asked)
            self._tell(asked, response)
            return response
        finally:
            connection.end()

    def _tell(self, asked: Asked, response: web.StreamResponse) -> None:
        if audit.is_told(asked, response.status):
            name = response.name if isinstance(response, Answer) else ""
            self._trail.write(audit.event_of(asked, response.status, audit.now(), name))

    async def _settled(self, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
        """Whatever happens, the client gets a Status, and other clients nothing of it."""
        try:
            asked.user = caller_of(request, self._access)
            asked.acting = acting(request, asked.user, self._access)
            return await self._route(request, asked)
        except Refused as refusal:
            return answers.json(refusal.status, status=refusal.code)
        except StorageFailed as error:
            return answers.json(internal_error(str(error)).status, status=500)
        except ConnectionError:
            raise  # The client has gone: there is nobody to answer.
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
            # An object of a shape that the code did not expect: the object is at fault before the server is.
            log.warning("request failed", path=request.path[:200], method=request.method, **_where(error))
            message = f"the object provided is unrecognized: {type(error).__name__}: {error}"
            return answers.json(bad_request(message).status, status=400)
        except Exception as error:
            log.error("request failed", path=request.path[:200], method=request.method, **_where(error))
            return answers.json(internal_error(f"{type(error).__name__}: {error}").status, status=500)

    def _require(self, asked: Asked, wanted: Attributes, version: str = "") -> User:
        """Whoever asks, if he may. Raises Refused."""
        asked.attributes, asked.version = wanted, version
        assert asked.acting is not None, "known by now"
        self._access.require(asked.acting, wanted)
        asked.allowed = True
        return asked.acting

    async def _route(self, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
        named = self._resources.named(request.path)
        if named is not None:
            return await self._resource(request, asked, *named)
        self._require(asked, Attributes(verb=request.method.lower(), path=request.path))
        return self._document(request, [part for part in request.path.split("/") if part])

    async def _resource(
        self, request: web.BaseRequest, asked: Asked, version: str, target: Target
    ) -> web.StreamResponse:
        if not target.is_kept:
            if request.method != "POST":
                raise method_not_allowed()
            user = self._require(asked, target.attributes("create"), version)
            body = await bodies.read_object(request)
            return answers.json(self._virtual.create(target.kind, body, user, target.namespace), status=201)
        verb = verb_of(request, target)
        user = self._require(asked, target.attributes(verb, request.query.get("fieldSelector", "")), version)
        if verb in self._reads:
            return await self._reads[verb](request, target)
        author = author_of(request, user)
        asked.remarks = author.remarks
        try:
            response = await self._writes[verb](request, target, author)
        except Refused as refusal:
            response = answers.json(refusal.status, status=refusal.code)
        add_warnings(response, author)
        return response

    def _document(self, request: web.BaseRequest, parts: list[str]) -> web.StreamResponse:
        """Everything that is no resource."""
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        accept = request.headers.get("Accept", "")
        match parts:
            case ["healthz" | "livez" | "readyz", *_]:
                return web.Response(text="ok")
            case ["version"]:
                return answers.json(documents.version_document())
            case ["api" | "apis"]:
                return answers.tagged(request, self._discovery(core=parts[0] == "api", accept=accept))
            case ["api", "v1"]:
                return answers.found(documents.resources("", "v1", self._kinds))
            case ["apis", group]:
                return answers.found(documents.group(group, self._kinds))
            case ["apis", group, version]:
                return answers.found(documents.resources(group, version, self._kinds))
            case ["openapi", "v3"]:
                return answers.tagged(request, openapi.index(self._kinds))
            case ["openapi", "v3", "api", version]:
                return answers.raw(openapi.document("", version, self._kinds))
            case ["openapi", "v3", "apis", group, version]:
                return answers.raw(openapi.document(group, version, self._kinds))
            case ["openapi", "v2"]:
                body, media_type = openapi.swagger(accept)
                return answers.raw(body, media_type)
            case [".well-known", "openid-configuration"]:
                return answers.json(discovery_document())
            case ["openid", "v1", "jwks"]:
                return answers.json(self._tokens.key_set(), content_type="application/jwk-set+json")
            case []:
                return answers.json(
                    {
                        "paths": [
                            "/api",
                            "/apis",
                            "/healthz",
                            "/livez",
                            "/openapi/v2",
                            "/openapi/v3",
                            "/readyz",
                            "/version",
                        ]
                    }
                )
            case _:
                raise no_such_path()

    def _discovery(self, *, core: bool, accept: str) -> Object:
        """Exactly the aggregated version that the client can read; the legacy form for the others."""
        for version in ("v2", "v2beta1"):
            if f"v={version};as=APIGroupDiscoveryList" in accept.replace(" ", ""):
                return documents.aggregated(self._kinds, core=core, version=version)
        return documents.core_versions() if core else documents.groups(self._kinds)


def _asked(request: web.BaseRequest) -> Asked:
    return Asked(
        received=audit.now(),
        method=request.method,
        uri=request.raw_path,
        source=connection_of(request).client,
        agent=request.headers.get("User-Agent", ""),
    )


def _request(
    message: RawRequestMessage,
    content: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, content, protocol, writer, task, loop, client_max_size=bodies.BODY_BYTES_MAX)


def _unexpected(request: web.BaseRequest) -> web.StreamResponse | None:
    """`Expect: 100-continue` is the only expectation that there is (RFC 9110, 10.1.1)."""
    expected = request.headers.get("Expect")
    if expected is None:
        return None
    if expected.lower() != "100-continue":
        return answers.json(Refused(417, "BadRequest", "only 100-continue can be expected").status, status=417)
    assert request.transport is not None, "connected"
    request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


def _where(error: Exception) -> dict[str, str]:
    """What went wrong, and where, in few words: clients must not fill the log, nor their secrets get into it."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).stem}.{frame.name}:{frame.lineno}" for frame in frames[-3:]]
    return {"error": f"{type(error).__name__}: {error}"[:200], "at": " ".join(places)}
