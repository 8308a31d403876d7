"""Whatever is published and acknowledged in whatever order: in the end the client has the newest, and on the way nothing dangles."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, Changes, ResourceSet
from isthmus.xds.session import Session
from isthmus.xds.wire import Encoded, Response

NAMES = ("a", "b", "c")
WILDCARD = (CLUSTER, LISTENER)
TYPES = (CLUSTER, ENDPOINTS, LISTENER)

World = dict[str, dict[str, str]]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Clusters, endpoints of some of them, and listeners each of which names (as its revision) a cluster that there is."""
    clusters = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from("123")))
    endpoints = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from("123")))
    named = st.sampled_from(sorted(clusters)) if clusters else st.nothing()
    listeners = draw(st.dictionaries(st.sampled_from("lm"), named)) if clusters else {}
    return {CLUSTER: clusters, ENDPOINTS: endpoints, LISTENER: listeners}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), worlds()),
        st.tuples(st.just("answer"), st.integers(0, 5)),
        st.tuples(st.just("want"), st.sampled_from(NAMES)),
        st.tuples(st.just("unwant"), st.sampled_from(NAMES)),
        st.tuples(st.just("reconnect"), st.none()),
    ),
    max_size=25,
)


@dataclass
class Client:
    """Does as Envoy does: asks for clusters, endpoints, listeners; applies a response when it gets to it, and then acknowledges it."""

    delta: bool
    make: Any
    told_names: bool
    encoded: Encoded = field(default_factory=Encoded)
    newest: ResourceSet | None = None
    session: Session = field(init=False)
    has: dict[str, dict[str, str]] = field(default_factory=lambda: {t: {} for t in TYPES})
    wanted: set[str] = field(default_factory=lambda: {"a"})
    unread: deque[Any] = field(default_factory=deque)
    nonces: dict[str, str] = field(default_factory=dict)

    def connect(self) -> None:
        self.session = Session(delta=self.delta, encoded=self.encoded)
        self.unread.clear()
        self.nonces.clear()
        if self.newest is not None:
            self.session.publish(self.newest)
        for type_url in TYPES:
            request = self.request(type_url)
            if self.delta:
                request.resource_names_subscribe.extend(sorted(self.wanted) if type_url == ENDPOINTS else ())
                for name, revision in self.has[type_url].items():
                    request.initial_resource_versions[name] = self.make(name, revision).version
            self.say(request)

    def publish(self, world: World) -> None:
        before, self.newest = self.newest, resources_of(world, self.make)
        self.hear(self.session.publish(self.newest, changed_since(before, self.newest) if self.told_names else None))

    def want(self, name: str, yes: bool) -> None:
        if (name in self.wanted) == yes:
            return
        (self.wanted.add if yes else self.wanted.discard)(name)
        if not yes:
            self.has[ENDPOINTS].pop(name, None)
        request = self.request(ENDPOINTS)
        if self.delta:
            (request.resource_names_subscribe if yes else request.resource_names_unsubscribe).append(name)
        else:
            request.response_nonce = self.nonces.get(ENDPOINTS, "")
        self.say(request)

    def request(self, type_url: str) -> Any:
        if self.delta:
            return discovery_pb2.DeltaDiscoveryRequest(type_url=type_url)
        names = sorted(self.wanted) if type_url == ENDPOINTS else ()
        return discovery_pb2.DiscoveryRequest(type_url=type_url, resource_names=names)

    def say(self, request: Any) -> None:
        self.hear(self.session.receive(request))

    def hear(self, responses: list[Response]) -> None:
        kind = discovery_pb2.DeltaDiscoveryResponse if self.delta else discovery_pb2.DiscoveryResponse
        self.unread.extend(kind.FromString(b"".join(response)) for response in responses)
        under_way = [response.type_url for response in self.unread]
        assert len(under_way) == len(set(under_way)), "one response of a type is under way at most"

    def answer(self) -> None:
        if not self.unread:
            return
        response = self.unread.popleft()
        has = self.has[response.type_url]
        bodies = (
            [found.resource.value for found in response.resources]
            if self.delta
            else [r.value for r in response.resources]
        )
        if not self.delta and response.type_url in WILDCARD:
            has.clear()
        for name, revision in map(read, bodies):
            if response.type_url in WILDCARD or name in self.wanted:
                has[name] = revision
            if not revision:
                has.pop(name, None)
        for name in response.removed_resources if self.delta else ():
            has.pop(name, None)
        self.nonces[response.type_url] = response.nonce
        acknowledgement = self.request(response.type_url)
        acknowledgement.response_nonce = response.nonce
        known = self.session.acknowledged(acknowledgement.SerializeToString()) if self.delta else None
        if known is None:
            self.say(acknowledgement)
        else:
            self.hear(known)


def resources_of(world: World, make: Any) -> ResourceSet:
    return ResourceSet({t: {n: make(n, r) for n, r in found.items()} for t, found in world.items()})


def changed_since(before: ResourceSet | None, newest: ResourceSet) -> Changes | None:
    if before is None:
        return None
    pairs = {t: (before.of_type(t), newest.of_type(t)) for t in TYPES}
    return {
        t: {n: old[n].version if n in old else "" for n in old.keys() | new.keys() if old.get(n) != new.get(n)}
        for t, (old, new) in pairs.items()
    }


def read(body: bytes) -> tuple[str, str]:
    length = body[1]
    return body[2 : 2 + length].decode(), body[4 + length :].decode()


def play(client: Client, todo: list[tuple[str, Any]], *, reconnecting: bool, connecting: bool = True) -> list[World]:
    """Every state of the client's on the way, and the last."""
    seen = []
    if connecting:
        client.connect()
    for word, what in todo:
        match word:
            case "publish":
                client.publish(what)
            case "answer":
                for _ in range(what):
                    client.answer()
                    seen.append({t: dict(found) for t, found in client.has.items()})
            case "want" | "unwant":
                client.want(what, word == "want")
            case "reconnect" if reconnecting:
                client.connect()
    while client.unread:
        client.answer()
        seen.append({t: dict(found) for t, found in client.has.items()})
    return seen


@pytest.mark.parametrize("told_names", [True, False], ids=["told what changed", "told nothing"])
@pytest.mark.parametrize("delta", [True, False], ids=["delta", "state of the world"])
@settings(max_examples=300, deadline=None)
@given(steps, worlds())
def test_in_the_end_the_client_has_what_is_newest(talk, delta, told_names, todo, last):
    client = Client(delta, talk.resource, told_names)

    play(client, [*todo, ("publish", last)], reconnecting=True)

    expected = {**last, ENDPOINTS: {n: r for n, r in last[ENDPOINTS].items() if n in client.wanted}}
    assert client.has == expected
    assert client.session.settled


@pytest.mark.parametrize("told_names", [True, False], ids=["told what changed", "told nothing"])
@pytest.mark.parametrize("delta", [True, False], ids=["delta", "state of the world"])
@settings(max_examples=300, deadline=None)
@given(steps)
def test_on_the_way_no_listener_names_a_cluster_that_the_client_does_not_have(talk, delta, told_names, todo):
    client = Client(delta, talk.resource, told_names)

    seen = play(client, todo, reconnecting=False)

    for state in seen:
        assert set(state[LISTENER].values()) <= set(state[CLUSTER])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), steps), max_size=8), worlds())
def test_clients_that_are_told_the_same_together_all_have_what_is_newest(talk, todo, last):
    encoded = Encoded()
    clients = [Client(True, talk.resource, True, encoded) for _ in range(3)]
    for client in clients:
        client.connect()

    for number, its in [*todo, (0, [("publish", last)])]:
        play(clients[number], [step for step in its if step[0] != "publish"], reconnecting=True, connecting=False)
        for world in (what for word, what in its if word == "publish"):
            before, newest = clients[0].newest, resources_of(world, talk.resource)
            changes = changed_since(before, newest)
            for client in clients:
                client.newest = newest
                client.hear(client.session.publish(newest, changes))
    for client in clients:
        play(client, [], reconnecting=False, connecting=False)

    for client in clients:
        assert client.has == {**last, ENDPOINTS: {n: r for n, r in last[ENDPOINTS].items() if n in client.wanted}}
        assert client.session.settled
