"""Parts of routes that several kinds have: destinations, weights, header changes, names of gateways."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem, entry
from isthmus.assurance.validation.terms import Object, bad_host, dns_label, positive_port
from isthmus.ingest.command_operators import bad_format

HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_CHANGEABLE = re.compile(r"[-_A-Za-z0-9]+")
_PSEUDO = (":authority", ":method", ":path", ":scheme")


def gateway_names(names: list[str], path: str) -> Iterator[Problem]:
    for index, name in enumerate(names):
        parts = name.split("/")
        if len(parts) > 2 or not all(parts) or ("/" not in name and bad_host(name)):
            yield Problem(codes.NOT_A_NAME, f"{path}[{index}]", f"{name!r} is not NAME or NAMESPACE/NAME")


def routes(ways: list[Object], path: str, required: bool) -> Iterator[Problem]:
    if not ways and required:
        yield Problem(codes.MISSING, path, "is required")
    for index, way in enumerate(ways):
        yield from destination(way["destination"], f"{path}[{index}].destination")
        yield from header_changes(way.get("headers"), f"{path}[{index}]")
    if len(ways) > 1 and sum(way.get("weight") or 0 for way in ways) == 0:
        yield Problem(codes.BAD_WEIGHTS, path, "the weights sum up to 0", "give each destination its share")


def destination(given: Object, path: str) -> Iterator[Problem]:
    host = given.get("host") or ""
    problem = bad_host(host)
    if problem:
        yield Problem(codes.NOT_A_HOST, f"{path}.host", problem)
    elif host.startswith("*"):
        yield Problem(codes.NOT_A_HOST, f"{path}.host", f"{host!r}: requests cannot be sent to a wildcard")
    if given.get("subset") and not dns_label(given["subset"]):
        yield Problem(codes.NOT_A_NAME, f"{path}.subset", f"{given['subset']!r} is not a DNS label")
    if given.get("port") is not None:
        yield from positive_port(given["port"].get("number"), f"{path}.port.number")


def header_changes(changes: Object | None, path: str) -> Iterator[Problem]:
    for side, change in (changes or {}).items():
        where = f"{path}.headers.{side}"
        for verb in ("set", "add", "remove"):
            given = change.get(verb) or []
            for key in given if isinstance(given, dict) else range(len(given)):
                name = str(key if isinstance(given, dict) else given[key])
                if not _CHANGEABLE.fullmatch(name) and not (verb == "set" and name in _PSEUDO):
                    yield Problem(
                        codes.BAD_HEADER,
                        entry(f"{where}.{verb}", key),
                        f"{name!r} is not the name of a header that can be changed",
                    )
                if isinstance(given, dict) and bad_format(given[key]):
                    yield Problem(codes.BAD_HEADER, entry(f"{where}.{verb}", key), bad_format(given[key]))
