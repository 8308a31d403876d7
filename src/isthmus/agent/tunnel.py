"""A tunnel out of a network that nobody can reach: its inside dials out and keeps connections ready, its outside uses one for each that comes in.

Both ends prove who they are, by mutual TLS with the mesh's identities, and each accepts one service account only. What goes through is not
looked at: between networks it is the workloads' own mutual TLS, which ends nowhere in between. One connection of the tunnel carries one
connection of a caller, so nobody waits behind somebody else's bytes.

While it is idle the outside says `STILL` now and then, and the inside says it back. To use it, the outside says `USE` and the port that its caller
came in by; the inside answers `OPEN`, or `CLOSED` where nothing listens for that port.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from isthmus.agent.certificates import Certificate
from isthmus.model.identity import SpiffeId
from isthmus.model.names import Namespace
from isthmus.trust.svid import proven
from isthmus.trust.x509 import BadCertificate
from isthmus.xds.native_tls import load_key

STILL, USE, OPEN, CLOSED = b"\x00", b"\x01", b"\x02", b"\x03"
_PROTOCOL = "isthmus-tunnel"
_STILL_SECONDS = 3.0
_SILENT_SECONDS = 10.0
_ANSWER_SECONDS = 5.0
_WAIT_SECONDS = 5.0
_REDIAL_SECONDS = 0.5
_IDLE_MAX = 256
_CALLERS_MAX = 2048
_CHUNK = 64 * 1024

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Account:
    """A service account of the own trust domain."""

    namespace: Namespace
    name: str


class Refused(ConnectionError):
    """The other end is not who it should be."""


class _NothingListens(Exception):
    """Inside, where the caller wants to go: another connection of the tunnel would not help it."""


@dataclass(frozen=True, slots=True)
class Ends:
    """What both ends have: `certificate` is the newest, `peer` the only account that is accepted, `refused` is called where TLS does not
    let one in: the certificate may be of an authority that is not trusted any longer."""

    certificate: Callable[[], Certificate]
    peer: Account
    refused: Callable[[], None]

    def context(self, *, server: bool) -> ssl.SSLContext:
        """With what is newest now. The inside has one for each connection, the outside's listener begins anew with it."""
        own = self.certificate()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # The other end is known by its identity, not by a host name.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols([_PROTOCOL])
        context.load_verify_locations(cadata=own.roots_pem)
        load_key(context, chain_pem=own.chain_pem, key_pem=own.key_pem)
        return context

    def check(self, writer: asyncio.StreamWriter) -> None:
        """Raises Refused."""
        try:
            identity = proven(writer.get_extra_info("ssl_object"))
        except BadCertificate as error:
            raise Refused(f"the other end has no identity: {error}") from None
        wanted = SpiffeId.of_service_account(
            self.certificate().identity.trust_domain, self.peer.namespace, self.peer.name
        )
        if identity != wanted:
            raise Refused(f"the other end is {identity}, not {wanted}")


class Outside:
    """Where callers come in. `serve_inside` is for connections of the inside, `serve_caller` for those of callers. How long a caller may be
    silent is for whoever it calls to say; but there are so many at most, and one more takes the place of the one that has been silent longest.
    """

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._idle: list[_Idle] = []
        self._came = asyncio.Event()
        self._callers: OrderedDict[asyncio.Task[None], None] = OrderedDict()
        """The one that has been silent longest comes first."""

    def inside(self) -> asyncio.Protocol:
        """For one more connection that dials in."""
        reader = asyncio.StreamReader()
        return asyncio.StreamReaderProtocol(reader, self.serve_inside)

    @property
    def ready(self) -> int:
        """Connections of the inside that wait for callers."""
        return len(self._idle)

    @property
    def callers(self) -> int:
        """Those that are connected, but for who has just made room."""
        return len(self._callers)

    async def serve_inside(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keeps it until it is used, or falls silent."""
        try:
            self._ends.check(writer)
        except Refused as error:
            log.warning("tunnel refused", reason=str(error), peer=writer.get_extra_info("peername"))
            writer.close()
            return
        if len(self._idle) >= _IDLE_MAX:
            writer.close()
            return
        idle = _Idle(reader, writer)
        self._idle.append(idle)
        self._came.set()
        try:
            await idle.wait_for_use()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            writer.close()
        finally:
            if idle in self._idle:
                self._idle.remove(idle)

    async def serve_caller(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Through the newest connection that waits. Without any, the caller waits a little, and is then refused."""
        if len(self._callers) >= _CALLERS_MAX:
            longest, _ = self._callers.popitem(last=False)
            longest.cancel()
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._callers[task] = None

        def heard() -> None:
            if task in self._callers:
                self._callers.move_to_end(task)

        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                inside = await self._opened(port)
            await joined((reader, writer), inside, heard)
        except _NothingListens:
            log.warning("nothing listens inside", port=port)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            log.warning("nobody inside answers", port=port)
        finally:
            await _ended(writer)
            self._callers.pop(task, None)

    async def _opened(self, port: int) -> Pair:
        """One that the inside has connected. One that breaks just then is passed over. Raises _NothingListens."""
        while True:
            while not self._idle:
                self._came.clear()
                await self._came.wait()
            idle = self._idle.pop()
            try:
                return await idle.use(port)
            except (OSError, asyncio.IncompleteReadError):
                idle.writer.close()
            except BaseException:  # It is used up, also where its caller has waited long enough, or has no use for it.
                idle.writer.close()
                raise


Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Idle:
    """A connection that waits. Its own task keeps it alive until a caller's takes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._turn = asyncio.Lock()
        self._used = asyncio.Event()

    async def wait_for_use(self) -> None:
        while not self._used.is_set():
            async with self._turn:
                if self._used.is_set():
                    return
                self.writer.write(STILL)
                await self.writer.drain()
                async with asyncio.timeout(_SILENT_SECONDS):
                    await self.reader.readexactly(1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STILL_SECONDS):
                    await self._used.wait()

    async def use(self, port: int) -> Pair:
        """Raises _NothingListens, and OSError and asyncio.IncompleteReadError where the connection is of no use."""
        self._used.set()
        async with self._turn, asyncio.timeout(_ANSWER_SECONDS):
            self.writer.write(USE + port.to_bytes(2))
            await self.writer.drain()
            answer = await self.reader.readexactly(1)
        if answer == CLOSED:
            raise _NothingListens
        if answer != OPEN:
            raise OSError(f"the inside answers {answer!r}")
        return self.reader, self.writer


class Inside:
    """Dials out. `targets` are host and port by the port that callers come in by."""

    def __init__(
        self, ends: Ends, outside: tuple[str, int], targets: Mapping[int, tuple[str, int]], spare: int
    ) -> None:
        self._ends = ends
        self._outside = outside
        self._targets = targets
        self._spare = spare
        self.waiting = 0
        self._taken = asyncio.Event()

    async def run(self) -> None:
        """Keeps so many connections ready. Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                while self.waiting < self._spare:
                    self.waiting += 1
                    tasks.create_task(self._one(), name="tunnel")
                self._taken.clear()
                await self._taken.wait()

    async def _one(self) -> None:
        """One connection, from its dialling to its end."""
        waits = True
        try:
            host, number = self._outside
            async with asyncio.timeout(_ANSWER_SECONDS):
                reader, writer = await asyncio.open_connection(host, number, ssl=self._ends.context(server=False))
            try:
                self._ends.check(writer)
                target = await self._asked(reader, writer)
                self._one_less()
                waits = False
                if target is not None:
                    await joined((reader, writer), target)
            finally:
                writer.close()
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            log.info("tunnel ended", error=str(error) or type(error).__name__)
            if isinstance(error, ssl.SSLError):
                self._ends.refused()
            await asyncio.sleep(_REDIAL_SECONDS)
        finally:
            if waits:
                self._one_less()

    def _one_less(self) -> None:
        self.waiting -= 1
        self._taken.set()

    async def _asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Pair | None:
        """The connection that the outside wants; None if there is none to be had."""
        while True:
            async with asyncio.timeout(_SILENT_SECONDS):
                word = await reader.readexactly(1)
            if word == STILL:
                writer.write(STILL)
                await writer.drain()
                continue
            port = int.from_bytes(await reader.readexactly(2))
            try:
                host, number = self._targets[port]
                async with asyncio.timeout(_ANSWER_SECONDS):
                    pair = await asyncio.open_connection(host, number)
            except (KeyError, OSError, TimeoutError):
                writer.write(CLOSED)
                await writer.drain()
                return None
            writer.write(OPEN)
            await writer.drain()
            return pair


async def joined(one: Pair, other: Pair, heard: Callable[[], None] = lambda: None) -> None:
    """Bytes go both ways until either side ends: then both do, because TLS has no half of a connection. `heard` is told of each that come."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            heard()
            writer.write(data)
            await writer.drain()

    ways = [
        asyncio.ensure_future(pass_on(one[0], other[1])),
        asyncio.ensure_future(pass_on(other[0], one[1])),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for _, writer in (one, other):
            writer.close()


async def _ended(writer: asyncio.StreamWriter) -> None:
    """Whoever does not take what is left for it in a few seconds does not get it."""
    writer.close()
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()
