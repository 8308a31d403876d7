"""Request bodies and the forms of answers: JSON, YAML and protobuf in; JSON, Table and metadata out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec
from aiohttp import web

from isthmus.apiserver import protobuf, yaml_bodies
from isthmus.apiserver.connections import connection_of
from isthmus.apiserver.status import Refused, bad_request, unsupported_media_type
from isthmus.apiserver.watching import JSON, METADATA, TABLE

BODY_BYTES_MAX = 3 * 1024 * 1024
_LONG_YAML = 32 * 1024
_PROTOBUF = "application/vnd.kubernetes.protobuf"


async def read(request: web.BaseRequest) -> bytes:
    """Raises Refused for a body that is too large or too slow, or when too many are coming already."""
    if request.content.is_eof() and request.content.total_bytes <= BODY_BYTES_MAX:
        return request.content.read_nowait()  # All of it has come with the head: there is nothing to wait for.
    connection = connection_of(request)
    try:
        with connection.receiving(request.content_length):
            async with asyncio.timeout(connection.limits.body_seconds):
                return await request.read()
    except TimeoutError:
        message = f"the request body did not come within {connection.limits.body_seconds:g} seconds"
        raise Refused(408, "Timeout", message) from None
    except web.HTTPRequestEntityTooLarge:
        raise Refused(413, "RequestEntityTooLarge", f"Request entity too large: limit is {BODY_BYTES_MAX}") from None


async def read_object(request: web.BaseRequest, *, strictly: bool = False) -> dict[str, Any]:
    """An object in any accepted encoding; an empty body is an empty object. Raises Refused; `strictly` also for a field that is said twice."""
    body = await read(request)
    content_type = media_type(request)
    if not body:
        return {}
    if content_type == _PROTOBUF or body.startswith(protobuf.MAGIC):
        try:
            return protobuf.decode(body)
        except protobuf.BadProtobuf as error:
            raise unsupported_media_type(f"the body of the request cannot be decoded: {error}") from None
    if content_type in ("application/json", "", "application/octet-stream", "text/plain"):
        found = _object(_from_json(body))
        if strictly:
            _refuse_fields_said_twice(body)
        return found
    if content_type in ("application/yaml", "application/apply-patch+yaml"):
        return _object(await _from_yaml(body))
    raise unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: application/json, "
        f"application/yaml, {_PROTOBUF}"
    )


def _from_json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"the object provided is unrecognized: {error}") from None


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object as they came: none is hidden by a later one of the same name."""


def _refuse_fields_said_twice(body: bytes) -> None:
    twice = list(_said_twice(json.loads(body, object_pairs_hook=_Pairs), ""))
    if twice:
        told = ", ".join(f'duplicate field "{path}"' for path in twice)
        raise bad_request(f"strict decoding error: {told}")


def _said_twice(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, _Pairs):
        names = set()
        for name, inside in value:
            field = f"{path}.{name}" if path else name
            if name in names:
                yield field
            names.add(name)
            yield from _said_twice(inside, field)
    elif isinstance(value, list):
        for index, inside in enumerate(value):
            yield from _said_twice(inside, f"{path}[{index}]")


async def _from_yaml(body: bytes) -> Any:
    """In a thread if it is long: a megabyte of YAML is read for a second, and others are served meanwhile."""
    try:
        return await asyncio.to_thread(yaml_bodies.decode, body) if len(body) > _LONG_YAML else yaml_bodies.decode(body)
    except ValueError as error:
        raise bad_request(f"the object provided is unrecognized: {error}") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("metadata", {}), dict | None):
        raise bad_request("the object provided is unrecognized: it is not an object with metadata")
    if value.get("metadata", {}) is None:
        value["metadata"] = {}
    return value


async def read_patch(request: web.BaseRequest) -> tuple[str, Any]:
    """The patch's media type, and the patch. Raises Refused."""
    body = await read(request)
    content_type = media_type(request)
    return content_type, await _from_yaml(body) if content_type == "application/apply-patch+yaml" else _from_json(body)


def media_type(request: web.BaseRequest) -> str:
    """Without parameters. A request without the header counts as JSON (the Python client sends none)."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def wanted_form(request: web.BaseRequest) -> str:
    """The first form in the Accept header that the server can give."""
    return _form(request.headers.get("Accept", ""))


@lru_cache(maxsize=256)
def _form(accept: str) -> str:
    for part in accept.split(","):
        options = part.strip().split(";")
        parameters = dict(option.strip().partition("=")[::2] for option in options[1:])
        if options[0].strip() not in ("application/json", "*/*", "application/*", ""):
            continue
        form = {"Table": TABLE, "PartialObjectMetadata": METADATA, "PartialObjectMetadataList": METADATA}.get(
            parameters.get("as", "")
        )
        if form == TABLE and parameters.get("v", "v1") != "v1":
            continue
        if form or not parameters.get("as"):
            return form or JSON
    return JSON


def flag(request: web.BaseRequest, name: str) -> bool:
    """As Go reads booleans: clients send `1`, `t`, `true` and `True`."""
    return request.query.get(name, "") in ("1", "t", "T", "true", "TRUE", "True")
