"""One ADS stream as a state machine: requests and new resources go in, responses come out. It does no I/O.

What it holds to, for delta and state of the world alike:

- every name that is subscribed to is answered: with the resource, or with the fact that there is none;
- only what changed is sent, and only to a stream that subscribed to it; versions that a reconnecting client reports are believed;
- clusters come before what names them, and go after it: listeners and routes wait for clusters to be acknowledged, and a cluster's removal
  waits for listeners and routes;
- a changed cluster is followed by its endpoints again, even unchanged ones: Envoy 1.40 waits for them, 15 s in vain (measured);
- one unacknowledged response of a type is under way at most. What changes meanwhile merges, so a slow client gets the newest state, not a
  backlog;
- what a client refused is kept with its reason, and is not sent again until it is different.

What a client has is not kept: it is what there is now, but for a few names that differ. So a stream costs little, however much it was sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Any

from isthmus.envoy.resources import (
    BUNDLES,
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    NAME_TABLE,
    OWN_TRUST,
    ROUTES,
    SECRET,
    Changes,
    Resource,
    ResourceSet,
)
from isthmus.xds.wire import Delta, Encoded, Interest, Response, Told, full_response

_ORDER = (CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET, NAME_TABLE, BUNDLES, OWN_TRUST)
_WILDCARD = frozenset({CLUSTER, LISTENER, NAME_TABLE, BUNDLES, OWN_TRUST})
"""Types of which a client gets everything when it names nothing."""

_WAIT_FOR_CLUSTERS = frozenset({LISTENER, ROUTES})
_EVERYTHING = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeStatus:
    """One type on one stream, for tables. `error` is the text of the last refusal, empty once something was accepted after it."""

    type_url: str
    subscribed: int
    sent_nonce: str
    acknowledged_nonce: str
    error: str
    resources_sent: int = 0
    """On this stream, each time that one was sent. A client that had everything already was sent none."""

    @property
    def settled(self) -> bool:
        """Whether the client has answered all that was sent."""
        return self.sent_nonce == self.acknowledged_nonce


@dataclass(slots=True)
class _Type:
    """What the client subscribed to, has, and still has to answer, for one type."""

    wildcard: bool = False
    names: frozenset[str] = frozenset()
    known: bool = False
    """Whether the client has what there is, but for `differs`. Until then, it has what is in `reported`, and nothing else."""
    reported: dict[str, str] = field(default_factory=dict)
    differs: dict[str, str] = field(default_factory=dict)
    """Name → version that the client has, where that may be another one than there is. Empty: it knows that there is none."""
    owed: set[str] = field(default_factory=set)
    """Names to be answered even if nothing about them changed."""
    greeted: bool = False
    in_flight: str = ""
    awaited: bytes | None = None
    """The encoded acknowledgement of what is in flight; None if there is no such thing."""
    looked_at: bool = False
    """Whether nothing has happened since `is_quiet` was found true."""
    sent: str = ""
    acknowledged: str = ""
    error: str = ""
    resources_sent: int = 0
    retained: dict[str, Resource] = field(default_factory=dict)
    """State of the world: what the client has, kept to be sent again while its removal waits."""

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to look at."""
        return self.known and not self.differs and not self.owed and (self.greeted or not self.wildcard)


class Session:
    """The stream's state. `receive` and `publish` return the responses to send, in order. `encoded` is shared by a server's streams."""

    __slots__ = (
        "__weakref__",
        "_calm",
        "_clusters_sent",
        "_encoded",
        "_interest",
        "_last_number",
        "_only",
        "_resources",
        "_types",
        "delta",
        "expected",
    )

    def __init__(self, *, delta: bool, encoded: Encoded | None = None) -> None:
        self.delta = delta
        self._encoded = Encoded() if encoded is None else encoded
        self._types: dict[str, _Type] = {}
        """In the order of delivery."""
        self._resources: ResourceSet | None = None
        self._last_number = 0
        """Of the responses on this stream: they go up, so that an answer is to one of them alone."""
        self._interest: Interest | None = None
        """None until it is asked for."""
        self._calm = False
        """Whether the client has everything, and has answered it, in the delta protocol."""
        self._only: _Type | None = None
        """What is under way, where there is nothing else to do."""
        self._clusters_sent: set[str] = set()
        """Before the client asked for endpoints on this stream."""
        self.expected = b""
        """What `acknowledged` knows the answer to the last response by."""

    def publish(self, resources: ResourceSet, changes: Changes | None = None) -> list[Response]:
        """The newest resources that this client may have, and what is different from the last time; None: look for it."""
        if changes is None or not self._calm:
            return self._publish(resources, changes)
        # As others were told who had everything and want the same: what is due depends on nothing else.
        interest = self._interest
        if interest is None:
            types = tuple((type_url, state.wildcard, state.names) for type_url, state in self._types.items())
            interest = self._interest = self._encoded.interest(types)
        told = self._encoded.told(changes, interest)
        edition = resources.edition()
        if told is None or told.edition is not edition:
            responses = self._publish(resources, changes)
            self._remember(changes, interest, edition, len(responses))
            return responses
        response = told.response
        if response is None:
            self._resources = resources
            return []
        type_url = told.type_url
        if response.number <= self._last_number or resources.own.get(type_url):
            return self._publish(resources, changes)
        self._resources = resources
        self._calm = False
        state = self._only = self._types[type_url]
        state.resources_sent += response.resources
        self._encoded.count_sent(type_url)
        self._sent(state, response)
        return told.responses

    def _remember(self, changes: Changes, interest: Interest, edition: object, sent: int) -> None:
        """For the next stream like this one. Not where the order of types plays a part, or resources that only this client has."""
        assert self._resources is not None, "called for what was published"
        if self._calm:
            self._encoded.remember(Told(changes, interest, edition, "", None, []))
            return
        due = [type_url for type_url, state in self._types.items() if state.in_flight or not state.looked_at]
        type_url = due[0]
        if sent == len(due) == 1 and type_url != CLUSTER and not self._resources.own.get(type_url):
            latest = self._encoded.latest(type_url)
            self._encoded.remember(Told(changes, interest, edition, type_url, latest, [latest.message]))

    def _publish(self, resources: ResourceSet, changes: Changes | None) -> list[Response]:
        if changes is None and self._resources is not None:
            changes = _differences(self._resources, resources, self._types)
        self._resources = resources
        for type_url, changed in (changes or {}).items():
            state = self._types.get(type_url)
            if state is not None and state.known:
                for name, version in changed.items():
                    if state.wildcard or name in state.names:
                        state.differs.setdefault(name, version)
                        state.looked_at = False
        return self._due()

    def acknowledged(self, message: bytes) -> list[Response] | None:
        """What follows from a message that acknowledges what is under way and says nothing else; None for any other: decode it for `receive`.

        It is known by its bytes. This is what clients say nearly always, and it costs a comparison.
        """
        only = self._only
        if only is not None and only.awaited == message:
            only.acknowledged, only.in_flight, only.awaited, only.error = only.in_flight, "", None, ""
            self._only, self._calm = None, True
            return []
        for state in self._types.values():
            if state.awaited == message:
                state.acknowledged, state.in_flight, state.awaited, state.error = state.in_flight, "", None, ""
                return self._due()
        return None

    def receive(self, request: Any) -> list[Response]:
        """A DeltaDiscoveryRequest or DiscoveryRequest, as the stream's kind has it."""
        state = self._types.get(request.type_url)
        first = state is None
        if state is None:
            state = _Type()
            self._types = dict(
                sorted([*self._types.items(), (request.type_url, state)], key=lambda item: _rank(item[0]))
            )
        state.looked_at = False
        self._calm, self._only, self._interest = False, None, None
        if self.delta:
            self._answered(state, request)
            self._subscribe_delta(state, request, first=first)
        elif not self._receive_full(state, request, first=first):
            return []
        return self._due()

    @property
    def status(self) -> list[TypeStatus]:
        """Every type that the client has asked for, in the order of delivery."""
        return [
            TypeStatus(
                type_url=type_url,
                subscribed=len(self._resources.of_type(type_url))
                if state.wildcard and self._resources
                else len(state.names),
                sent_nonce=state.sent,
                acknowledged_nonce=state.acknowledged,
                error=state.error,
                resources_sent=state.resources_sent,
            )
            for type_url, state in self._types.items()
        ]

    def accepted(self, type_url: str, name: str) -> str:
        """The version of a resource that the client has, by its own answer to the newest; empty if it has yet to answer, or refused."""
        state = self._types.get(type_url)
        if state is None or self._resources is None or state.in_flight or state.error or not state.is_quiet:
            return ""
        resource = self._resources.of_type(type_url).get(name)
        return resource.version if resource is not None and state.wants(name) else ""

    @property
    def settled(self) -> bool:
        """Whether the client has answered everything, and nothing waits to be sent."""
        return all(not state.in_flight and not self._has_news(t, state) for t, state in self._types.items())

    def _answered(self, state: _Type, request: Any) -> None:
        """Takes an acknowledgement or refusal. The answer to an older response says nothing about the newest."""
        if request.response_nonce and request.response_nonce == state.in_flight:
            state.in_flight, state.awaited = "", None
            state.acknowledged = request.response_nonce
            state.error = request.error_detail.message if request.HasField("error_detail") else ""
            if state.error:
                self._encoded.count_refused(request.type_url)
        elif self.delta and state.error and request.response_nonce == state.acknowledged:
            # What an agent could not do at first it may have done since: then it says so.
            state.error = request.error_detail.message if request.HasField("error_detail") else ""

    def _subscribe_delta(self, state: _Type, request: Any, *, first: bool) -> None:
        added = set(request.resource_names_subscribe)
        gone = set(request.resource_names_unsubscribe)
        if not (first or added or gone):
            return
        if first:
            reported = request.initial_resource_versions
            # A quarter faster than `dict`, which asks for the keys first.
            state.reported = dict(zip(reported, map(reported.__getitem__, reported), strict=True))
        if _EVERYTHING in added or (first and not added and request.type_url in _WILDCARD):
            self._widen(request.type_url, state)
        if first and request.type_url == ENDPOINTS:
            state.owed |= added & self._clusters_sent
            self._clusters_sent.clear()
        added.discard(_EVERYTHING)
        if added:
            state.names = self._encoded.names(state.names | added)
        # A name asked for again is answered again: Envoy asks when it has forgotten the answer.
        state.owed |= {name for name in added if not first or name not in state.reported}
        if _EVERYTHING in gone:
            state.wildcard = False
        if gone:
            state.names = self._encoded.names(state.names - gone)
            self._forget(state, gone)

    def _widen(self, type_url: str, state: _Type) -> None:
        """From now on the client gets everything. What it has of it, by name, it keeps."""
        if state.known and self._resources is not None:
            current = self._resources.of_type(type_url)
            state.reported = {name: current[name].version for name in state.names if name in current} | state.differs
        state.wildcard, state.known = True, False
        state.differs = {}

    def _forget(self, state: _Type, names: set[str]) -> None:
        """The client does not want these any longer."""
        state.owed -= names
        if not state.wildcard:
            for name in names:
                state.differs.pop(name, None)
                state.reported.pop(name, None)
                state.retained.pop(name, None)

    def _receive_full(self, state: _Type, request: Any, *, first: bool) -> bool:
        """Whether the request is current. A stale one is ignored: its newer twin is under way."""
        if not first and request.response_nonce and request.response_nonce != state.sent:
            return False
        refused = request.HasField("error_detail")
        self._answered(state, request)
        names = self._encoded.names(frozenset(request.resource_names))
        if request.type_url in _WILDCARD and not names:
            state.wildcard = True
        if first or not request.response_nonce:
            state.known = False
            state.reported.clear()
            state.differs.clear()
            state.retained.clear()
            state.owed = set(names)
        elif not refused:
            state.owed |= names - state.names
        self._forget(state, set(state.names - names))
        state.names = names
        return True

    def _owe_endpoints(self, clusters: list[Resource]) -> None:
        """A changed cluster that is on its way: Envoy will wait for its endpoints, even for those that it has."""
        endpoints = self._types.get(ENDPOINTS)
        names = {cluster.name for cluster in clusters}
        if endpoints is None:
            self._clusters_sent |= names
        else:
            endpoints.owed |= endpoints.names & names
            endpoints.looked_at = False

    def _due(self) -> list[Response]:
        if self._resources is None:
            return []
        self._calm, self._only = self.delta, None
        responses = []
        for type_url, state in self._types.items():
            if not state.looked_at and not state.in_flight:
                response = None if state.is_quiet else self._response(type_url, state)
                if response is not None:
                    responses.append(response)
                state.looked_at = state.is_quiet
            self._calm = self._calm and state.looked_at and not state.in_flight
        return responses

    def _response(self, type_url: str, state: _Type) -> Response | None:
        if type_url in _WAIT_FOR_CLUSTERS and self._clusters_under_way():
            return None
        changed, removed = self._news(type_url, state)
        kept: dict[str, str] = {}
        if removed and type_url == CLUSTER and self._still_named(changed):
            has = state.differs if state.known else state.reported
            kept = {name: has[name] for name in removed if has.get(name)}
            removed = [name for name in removed if name not in kept]
        state.known, state.reported, state.differs = True, {}, kept
        greets = state.wildcard and not state.greeted
        if not changed and not removed and not greets:
            return None
        state.greeted = True
        return self._send(type_url, state, changed, removed)

    def _send(self, type_url: str, state: _Type, changed: list[Resource], removed: list[str]) -> Response:
        if type_url == CLUSTER:
            self._owe_endpoints(changed)
        state.resources_sent += len(changed)
        self._encoded.count_sent(type_url)
        if state.owed:
            # A new set, because one that was large stays large.
            state.owed = state.owed.difference([resource.name for resource in changed], removed)
        if not self.delta:
            nonce = state.in_flight = state.sent = str(self._encoded.number())
            return self._send_full(type_url, state, changed, removed, nonce)
        assert self._resources is not None, "sent only when there are resources"
        own = self._resources.own.get(type_url)
        parts = [changed]
        if own:
            parts = [[found for found in changed if (found.name in own) is mine] for mine in (False, True)]
        response = self._encoded.delta(type_url, parts, removed, after=self._last_number)
        self._sent(state, response)
        return response.message

    def _sent(self, state: _Type, response: Delta) -> None:
        self._last_number = response.number
        state.in_flight = state.sent = response.nonce
        state.awaited = self.expected = response.acknowledgement

    def _send_full(
        self, type_url: str, state: _Type, changed: list[Resource], removed: list[str], nonce: str
    ) -> Response:
        """Everything, for the types of which a response is the whole truth; for the others what changed, and empty for what is gone."""
        if type_url in _WILDCARD:
            for resource in changed:
                state.retained[resource.name] = resource
            for name in removed:
                state.retained.pop(name, None)
            body = [state.retained[name] for name in sorted(state.retained)]
        else:
            body = [*changed, *(empty for name in removed if (empty := _nothing(type_url, name)) is not None)]
        return full_response(type_url, body, _version(body), nonce)

    def _news(self, type_url: str, state: _Type) -> tuple[list[Resource], list[str]]:
        """What is new to the client, and what it has (or asked for) and is not there any more."""
        assert self._resources is not None, "asked only when there are resources"
        if state.known:
            current, has = self._resources.of_type(type_url), state.differs
            looked_at: Set[str] = has.keys() | state.owed if state.owed else has.keys()
        else:
            current, has = self._resources.whole(type_url), state.reported
            looked_at = self._unlike(type_url, state) | state.owed
        names = sorted(looked_at if state.wildcard else looked_at & state.names)
        if not has:  # Whoever has just come gets all that there is: thousands, so it is not asked of each.
            changed = [resource for name in names if (resource := current.get(name)) is not None]
            if len(changed) == len(names):
                return changed, []
            return changed, [name for name in names if name in state.owed and name not in current]
        changed, removed = [], []
        for name in names:
            resource = current.get(name)
            if resource is not None:
                if name in state.owed or has.get(name) != resource.version:
                    changed.append(resource)
            elif has.get(name) or name in state.owed:
                removed.append(name)
        return changed, removed

    def _unlike(self, type_url: str, state: _Type) -> Set[str]:
        """Names of which a client that has just come has reported something else than there is: of thousands that proxies have nearly none, so
        all of them are compared at once.
        """
        assert self._resources is not None, "asked only when there are resources"
        has = state.reported
        if not has:
            return self._resources.whole(type_url).keys() if state.wildcard else state.names
        versions = self._resources.versions(type_url)
        if state.wildcard:
            return {name for name, _ in has.items() ^ versions.items()}
        return {name for name, version in has.items() if versions.get(name) != version} | (state.names - has.keys())

    def _has_news(self, type_url: str, state: _Type) -> bool:
        return self._resources is not None and any(self._news(type_url, state))

    def _clusters_under_way(self) -> bool:
        clusters = self._types.get(CLUSTER)
        return clusters is not None and bool(clusters.in_flight)

    def _still_named(self, changed: list[Resource]) -> bool:
        """Whether listeners or routes that may name a removed cluster are still to be replaced."""
        if changed:
            return True
        others = ((t, self._types[t]) for t in _WAIT_FOR_CLUSTERS if t in self._types)
        return any(state.in_flight or self._has_news(type_url, state) for type_url, state in others)


def _rank(type_url: str) -> tuple[int, str]:
    return (_ORDER.index(type_url) if type_url in _ORDER else len(_ORDER), type_url)


def _differences(old: ResourceSet, new: ResourceSet, types: Iterable[str]) -> Changes:
    """What is different in these types, with the versions that there were."""
    found: dict[str, dict[str, str]] = {}
    for type_url in types:
        before, after = old.of_type(type_url), new.of_type(type_url)
        changed = {name: was.version for name, was in before.items() if name not in after or after[name] != was}
        changed |= {name: "" for name in after if name not in before}
        if changed:
            found[type_url] = changed
    return found


def _version(resources: list[Resource]) -> str:
    """One version for a whole response: equal for equal ones."""
    digest = hashlib.blake2b(digest_size=8)
    for resource in resources:
        digest.update(f"{resource.name}\0{resource.version}\0".encode())
    return digest.hexdigest()


def _nothing(type_url: str, name: str) -> Resource | None:
    """The resource that says "none" to a client without a way to be told of a removal. Field 1 is the name in both messages."""
    if type_url not in (ENDPOINTS, ROUTES):
        return None
    encoded = name.encode()
    length = len(encoded)
    prefix = bytes((0x0A, length)) if length < 0x80 else bytes((0x0A, (length & 0x7F) | 0x80, length >> 7))
    return Resource.of_bytes(name, prefix + encoded)
