"""Transcripts of ADS streams: what the server has and what the client says are played to a Session, what it answers is written down.

new CDS a=1 b=1 | EDS a=1         everything that this client may have, from now on
> CDS                             a request; of a delta stream:  ack 1, nack 1 "why", +name, -name, has name=1
                                  of a state-of-the-world one:   ack 1, nack 1 "why", and all names that are wanted
< CDS 1: a=1 b=1 -c               a response: nonce, resources, removed names; `a=` is the resource that says "none"
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.envoy.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    NAME_TABLE,
    ROUTES,
    SECRET,
    Resource,
    ResourceSet,
)
from isthmus.xds.session import Session

TYPES = {"CDS": CLUSTER, "EDS": ENDPOINTS, "LDS": LISTENER, "RDS": ROUTES, "SDS": SECRET, "NDS": NAME_TABLE}
SHORT = {url: short for short, url in TYPES.items()}


class Talk:
    """One stream. `publish` and `say` take the rest of a line and return the lines of the answer."""

    @staticmethod
    def resource(name: str, revision: str) -> Resource:
        """Like every real one: field 1 is the name. Here, field 2 is all else there is."""
        parts = (len(name), name.encode(), len(revision), revision.encode())
        return Resource.of_bytes(name, b"\x0a%c%b\x12%c%b" % parts)

    def __init__(self, *, delta: bool) -> None:
        self.session = Session(delta=delta)

    def publish(self, text: str) -> list[str]:
        by_type = {}
        for part in text.split("|"):
            short, *items = part.split()
            by_type[TYPES[short]] = {name: self.resource(name, revision) for name, revision in map(pair, items)}
        return [self.shown(b"".join(response)) for response in self.session.publish(ResourceSet(by_type))]

    def say(self, text: str) -> list[str]:
        short, *words = shlex.split(text)
        request = self._delta(words) if self.session.delta else self._full(words)
        request.type_url = TYPES[short]
        return [self.shown(b"".join(response)) for response in self.session.receive(request)]

    def shown(self, response: bytes) -> str:
        if not self.session.delta:
            full = discovery_pb2.DiscoveryResponse.FromString(response)
            items = [shown_body(any_.value) for any_ in full.resources]
            return " ".join([f"< {SHORT[full.type_url]} {full.nonce}:", *items])
        delta = discovery_pb2.DeltaDiscoveryResponse.FromString(response)
        items = [shown_body(found.resource.value) for found in delta.resources]
        items += [f"-{name}" for name in delta.removed_resources]
        return " ".join([f"< {SHORT[delta.type_url]} {delta.nonce}:", *items])

    @staticmethod
    def _delta(words: list[str]) -> Any:
        request = discovery_pb2.DeltaDiscoveryRequest()
        names = iter(_answer(words, request))
        for word in names:
            if word == "has":
                name, revision = pair(next(names))
                request.initial_resource_versions[name] = Talk.resource(name, revision).version
            elif word.startswith("+"):
                request.resource_names_subscribe.append(word[1:])
            else:
                assert word.startswith("-"), word
                request.resource_names_unsubscribe.append(word[1:])
        return request

    @staticmethod
    def _full(words: list[str]) -> Any:
        request = discovery_pb2.DiscoveryRequest()
        request.resource_names.extend(_answer(words, request))
        return request


def _answer(words: list[str], request: Any) -> list[str]:
    """Takes the ack or nack that the words begin with; what is left."""
    if words[:1] == ["ack"]:
        request.response_nonce = words[1]
        return words[2:]
    if words[:1] == ["nack"]:
        request.response_nonce = words[1]
        request.error_detail.message = words[2]
        return words[3:]
    return words


def pair(text: str) -> tuple[str, str]:
    name, _, revision = text.partition("=")
    return name, revision


def shown_body(body: bytes) -> str:
    found = re.fullmatch(rb"\x0a.([\w.]+)(?:\x12.(\w+))?", body, re.DOTALL)
    assert found is not None, body
    return f"{found[1].decode()}={(found[2] or b'').decode()}"


def replay(text: str, *, delta: bool) -> list[str]:
    """The transcript with the answers that were really given."""
    talk = Talk(delta=delta)
    lines = []
    for line in text.strip().splitlines():
        line = line.strip()
        if line.startswith("<"):
            continue
        word, rest = line.split(maxsplit=1)
        lines += [line, *(talk.publish(rest) if word == "new" else talk.say(rest))]
    return lines


@pytest.fixture(scope="session")
def talk() -> type[Talk]:
    return Talk


@pytest.fixture
def delta_goes() -> Callable[[str], None]:
    """Plays a delta transcript, and holds it against what was really answered."""
    return lambda text: _same(text, delta=True)


@pytest.fixture
def full_goes() -> Callable[[str], None]:
    """The same for state of the world."""
    return lambda text: _same(text, delta=False)


def _same(text: str, *, delta: bool) -> None:
    assert replay(text, delta=delta) == [line.strip() for line in text.strip().splitlines()]
