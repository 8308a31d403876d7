"""Messages between control planes of two meshes: one JSON object in a line, over TLS.

    asker   {"type":"hello","protocol":1,"mesh":"mesh-a","known":{NAME: VERSION, …}}
    teller  {"type":"news","changed":{NAME: {…}, …},"removed":[NAME, …],"more":false}
    asker   {"type":"taken","refused":{NAME: "why", …}}
    teller  {"type":"still"}                                   nothing new, but still there
    teller  {"type":"goodbye","why":"…"}                       and closes

A version is the hash of what it is a version of; so whoever comes again, to whichever replica, is told what has changed meanwhile and no more.
Fields that are not known are passed over: a newer side may say more. News that were split (`more`) count when the last part has come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

PORT = 15018
PROTOCOL = 1
APPLICATION_PROTOCOL = "isthmus-peers/1"
"""In ALPN."""

LINE_BYTES_MAX = 1 << 20
RESOURCE_BYTES_MAX = 1 << 18
NAME_CHARACTERS_MAX = 253
RESOURCES_MAX = 10_000
WHOLE_BYTES_MAX = 1 << 26
"""Of everything that one teller has told, names among it."""
_REFUSALS_MAX = 100
_PLAIN_CHARACTERS_MAX = 300


class Malformed(ValueError):
    """What the other side sent is no message: why."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """`mesh` is the asker's own; `known` are versions by name."""

    mesh: str
    protocol: int = PROTOCOL
    known: dict[str, str] = {}


class News(msgspec.Struct, frozen=True, tag="news"):
    changed: dict[str, msgspec.Raw] = {}
    removed: tuple[str, ...] = ()
    more: bool = False


class Taken(msgspec.Struct, frozen=True, tag="taken"):
    """`refused` says what of the news cannot be used, and why; it is told for people to see."""

    refused: dict[str, str] = {}


class Still(msgspec.Struct, frozen=True, tag="still"):
    pass


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye"):
    why: str = ""


FromAsker = Hello | Taken
FromTeller = News | Still | Goodbye


def encode(message: FromAsker | FromTeller) -> bytes:
    """A line."""
    return msgspec.json.encode(message) + b"\n"


def from_asker(line: bytes) -> FromAsker:
    """Raises Malformed."""
    found: FromAsker = decoded(line, FromAsker)
    return found


def from_teller(line: bytes) -> FromTeller:
    """Raises Malformed."""
    found: FromTeller = decoded(line, FromTeller)
    return found


def decoded(body: bytes, kind: Any) -> Any:
    """Of this type. Raises Malformed for whatever else it is, however deep."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None


def plain(text: str) -> str:
    """What a stranger says, for people to read: of bounded length, and without anything that a terminal would obey."""
    return "".join(each if each.isprintable() else "?" for each in text[:_PLAIN_CHARACTERS_MAX])


def plainly(refused: Mapping[str, str]) -> dict[str, str]:
    """The first refusals by name."""
    return {plain(name): plain(why) for name, why in sorted(refused.items())[:_REFUSALS_MAX]}


def version_of(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=12).hexdigest()


Resources = Mapping[str, bytes]
"""Encoded resources by name."""
