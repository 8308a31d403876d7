"""What both transports of ADS are given: who may connect, what each client gets, and which calls there are besides.

It knows no mesh and no transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from isthmus.envoy.resources import Changes, ResourceSet
from isthmus.xds.health import HealthReport
from isthmus.xds.node import NodeClaims
from isthmus.xds.session import Session
from isthmus.xds.wire import Encoded

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
DELTA = "DeltaAggregatedResources"
FULL = "StreamAggregatedResources"
REQUEST_BYTES_MAX = 4 * 1024 * 1024
FIRST_REQUEST_SECONDS = 15.0
GRACE_SECONDS = 0.2
"""What a stopping server gives its clients to take the last words."""

NO_NODE = "the first request must carry the node"


class Refused(Exception):
    """A caller that gets nothing: the gRPC status code's name, and a message for the caller."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """What the transport knows about a caller: metadata as sent, the verified peer certificate (PEM, or empty; others may
    follow it), its address."""

    metadata: Mapping[str, str]
    peer_certificate: str
    peer: str


News = tuple[ResourceSet, Changes | None]
"""What a client may have now, and what of it is different from what it had before; None at first."""


class Newest:
    """Carries resources from one writer to one reader. The reader gets the newest; of what it missed in between it gets the names."""

    __slots__ = ("__weakref__", "_changes", "_listener", "_value", "_wanted", "end", "is_new", "waits", "when_taken")

    def __init__(self) -> None:
        self.when_taken: Callable[[], None] | None = None
        """Called once, when the reader takes what was put: a writer may wait until all its readers have."""
        self.waits = False
        """Whether something was put that was not taken."""
        self.is_new = True
        """Whether nothing has been taken yet."""
        self._value: ResourceSet | None = None
        self._changes: Changes | None = {}
        self._wanted = asyncio.Event()
        self._listener: Callable[[], None] = self._wanted.set
        self.end: Callable[[], None] = lambda: None
        """Ends the reader's stream. Set by whoever serves it."""

    def put(self, value: ResourceSet, changes: Changes | None = None) -> None:
        """`changes` are those since the last `put`; None if that is not known."""
        self._value = value
        if changes is None or not self.waits:
            self._changes = changes
        elif self._changes is not None:
            both = {kind: {**changed, **self._changes.get(kind, {})} for kind, changed in changes.items()}
            self._changes = {**self._changes, **both}
        if not self.waits:
            self.waits = True
            self._listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """From now on `listener` is called with each `put`, and nobody waits in `take`. It takes the value when it pleases."""
        self._listener = listener

    def taken(self) -> News | None:
        """The newest, or None if that was taken already."""
        if not self.waits or self._value is None:
            return None
        self.waits = self.is_new = False
        changes, self._changes = self._changes, {}
        if self.when_taken is not None:
            told, self.when_taken = self.when_taken, None
            told()
        return self._value, changes

    async def take(self) -> News:
        """The newest, once there is one that was not taken yet."""
        while (found := self.taken()) is None:
            self._wanted.clear()
            await self._wanted.wait()
        return found


class Directory(Protocol):
    """Who may connect, and what each client gets."""

    async def admit(self, claims: NodeClaims, call: CallFacts) -> Newest:
        """Where the client's resources will appear. Raises Refused."""
        ...

    def gone(self, feed: Newest) -> None:
        """The client that this feed was for has disconnected."""
        ...

    def told(self, feed: Newest, health: HealthReport) -> None:
        """The client has said how its application is."""
        ...

    def leaves(self, feed: Newest) -> None:
        """The client has said that its proxy goes to another control plane: all streams of that proxy end."""
        ...


Unary = Callable[[bytes, CallFacts], Awaitable[bytes]]
"""A method with one request and one response, both encoded. Raises Refused."""


@dataclass(slots=True, eq=False)
class Stream:
    """A connected client, for tables. `number` orders streams by age."""

    number: int
    node_id: str
    user_agent: str
    peer: str
    session: Session
    cluster: str


class Streams:
    """Who is connected, over whichever transport, and what they share."""

    def __init__(self) -> None:
        self.encoded = Encoded()
        self.sent_bytes = 0
        self._streams: dict[Stream, None] = {}
        self._opened = 0

    @property
    def all(self) -> list[Stream]:
        """Live streams, oldest first."""
        return list(self._streams)

    def add(self, claims: NodeClaims, call: CallFacts, session: Session) -> Stream:
        self._opened += 1
        stream = Stream(
            number=self._opened,
            node_id=claims.id,
            user_agent=claims.user_agent,
            peer=call.peer,
            session=session,
            cluster=str(claims.metadata.get("CLUSTER_ID", "")),
        )
        self._streams[stream] = None
        return stream

    def remove(self, stream: Stream) -> None:
        del self._streams[stream]
