"""MeshConfig's extensionProviders, as far as they decide on requests. The others are named, not guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.api.meta import PortNumber, Wire
from isthmus.ingest.checked import WHOLE_MAX
from isthmus.ingest.command_operators import bad_format
from isthmus.ingest.mesh_values import read_as
from isthmus.ingest.route_limits import CONTROL, HEADER, HEADER_BYTES_MAX
from isthmus.model.durations import seconds_of
from isthmus.model.security import AuthorizationProvider


class _Body(Wire, frozen=True):
    max_request_bytes: int = 0
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class _Service(Wire, frozen=True):
    """envoyExtAuthzHttp, and the part of it that envoyExtAuthzGrpc has, too."""

    service: str
    port: PortNumber
    timeout: str = "600s"
    fail_open: bool = False
    status_on_error: str = "403"
    path_prefix: str = ""
    include_request_headers_in_check: list[str] = []
    include_headers_in_check: list[str] = []
    include_additional_headers_in_check: dict[str, str] = {}
    include_request_body_in_check: _Body | None = None
    headers_to_upstream_on_allow: list[str] = []
    headers_to_downstream_on_deny: list[str] = []
    headers_to_downstream_on_allow: list[str] = []


_STATUSES = frozenset((
    100, *range(200, 209), 226, *range(300, 306), 307, 308, *range(400, 418), *range(421, 425), 426, 428, 429, 431, *range(500, 509), 510, 511,
))  # fmt: skip
"""What Envoy can answer with where a provider does not."""
_KINDS = {"envoyExtAuthzHttp": False, "envoyExtAuthzGrpc": True}


def providers_of(config: Mapping[str, Any]) -> tuple[tuple[AuthorizationProvider, ...], tuple[str, ...]]:
    """Those that decide on requests, sorted by name; and what is wrong with the ones that cannot be used."""
    found: list[AuthorizationProvider] = []
    wrong: list[str] = []
    said = config.get("extensionProviders") or ()
    for index, entry in enumerate(said if isinstance(said, Sequence) else ()):
        for kind, is_grpc in _KINDS.items():
            if isinstance(entry, Mapping) and kind in entry:
                try:
                    found.append(_provider(str(entry.get("name", "")), entry[kind], is_grpc))
                except ValueError as error:
                    wrong.append(f"extensionProviders[{index}].{kind}: {error}: the provider is left out")
    return tuple(sorted(found)), tuple(wrong)


def _provider(name: str, raw: object, is_grpc: bool) -> AuthorizationProvider:
    said = read_as(_Service, raw)
    timeout = seconds_of(said.timeout)
    status = int(said.status_on_error)
    body = said.include_request_body_in_check or _Body()
    if status not in _STATUSES:
        raise ValueError(f"statusOnError {said.status_on_error!r:.20} is no status that Envoy knows")
    if not 0 <= body.max_request_bytes <= WHOLE_MAX:
        raise ValueError(f"maxRequestBytes {body.max_request_bytes} is not between 0 and {WHOLE_MAX}")
    if said.path_prefix and (not said.path_prefix.startswith("/") or CONTROL.search(said.path_prefix)):
        raise ValueError(f"pathPrefix {said.path_prefix!r:.60} does not begin with /")
    for header, value in said.include_additional_headers_in_check.items():
        if (
            header.startswith(":")
            or not HEADER.fullmatch(header)
            or CONTROL.search(value)
            or max(len(header), len(value)) > HEADER_BYTES_MAX
        ):
            raise ValueError(f"{header!r:.60} is no header that can be added")
        if why := bad_format(value):
            raise ValueError(why)
    return AuthorizationProvider(
        name=name,
        host=said.service.rpartition("/")[2].lower(),
        port=said.port,
        grpc=is_grpc,
        timeout_seconds=timeout,
        fail_open=said.fail_open,
        status_on_error=status,
        path_prefix=said.path_prefix,
        request_headers=tuple(said.include_request_headers_in_check or said.include_headers_in_check),
        added_headers=tuple(sorted(said.include_additional_headers_in_check.items())),
        to_upstream_on_allow=tuple(said.headers_to_upstream_on_allow),
        to_caller_on_deny=tuple(said.headers_to_downstream_on_deny),
        to_caller_on_allow=tuple(said.headers_to_downstream_on_allow),
        body_bytes=body.max_request_bytes,
        allow_partial_body=body.allow_partial_message,
        pack_as_bytes=body.pack_as_bytes,
    )
