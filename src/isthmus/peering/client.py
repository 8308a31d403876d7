"""The asker's end: one connection to a control plane of another mesh, until it ends. Coming again is the caller's."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping

from isthmus.peering.messages import LINE_BYTES_MAX, Goodbye, Hello, News, Still, Taken, encode, from_teller, plain
from isthmus.peering.session import Hearing

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 30.0
"""Three times as long as a teller is ever silent."""


class PeerUnavailable(Exception):
    """The other mesh's control plane cannot be heard: why."""


async def listen(
    address: str,
    context: ssl.SSLContext,
    *,
    server_name: str,
    mesh: str,
    hearing: Hearing,
    believe: Callable[[ssl.SSLObject], None],
    refused: Callable[[], Mapping[str, str]],
) -> AsyncGenerator[bool, None]:
    """Whether there are news in `hearing`, each time that the teller is heard. Never ends but with PeerUnavailable.

    `believe` raises ValueError for a teller that is not the one that is meant; nothing is said to it. `refused` is asked after news: what
    of them cannot be used.
    """
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=context, server_hostname=server_name, limit=LINE_BYTES_MAX
            )
        try:
            believe(writer.get_extra_info("ssl_object"))
            writer.write(encode(Hello(mesh=mesh, known=hearing.known)))
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = from_teller(await reader.readuntil())
                match message:
                    case Still():
                        yield False
                    case Goodbye(why=why):
                        raise PeerUnavailable(f"{address} refuses us: {plain(why)}")
                    case News() as news if hearing.take(news):
                        yield True
                        writer.write(encode(Taken(refused=dict(refused()))))
                        async with asyncio.timeout(SILENCE_SECONDS):
                            await writer.drain()
        finally:
            hearing.interrupted()
            writer.close()
            with contextlib.suppress(OSError):
                writer.transport.abort()
    except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
        raise PeerUnavailable(f"{address}: {str(error) or type(error).__name__}") from None
