"""Keys that tokens are checked with: fetched from the addresses that RequestAuthentications name, and kept.

One task for each address, so that an issuer that hangs holds up no other. What was fetched last stays in use until there is something newer or
nobody names the address any more: an issuer that is away changes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import random
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from socket import AddressFamily
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.kept_keys import KeptKeys
from isthmus.controlplane.world import World
from isthmus.ingest.token_keys import WELL_KNOWN, check_keys, keys_address
from isthmus.model.security import FetchedKeys

REFRESH_SECONDS = 20 * 60.0
"""As in Istio."""

_TRY_SECONDS = 5.0
_BYTES_MAX = 1 << 20
_AT_ONCE = 32
_RETRY_SECONDS_MIN, _RETRY_SECONDS_MAX = 1.0, 60.0
_JITTER = 0.1
"""Part of a wait by which it is longer or shorter, so that control planes that started together do not ask together."""

_Ranges = tuple[IPv4Network | IPv6Network, ...]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFetching:
    """`roots` is a file of certificates that are trusted beside the system's. `blocked` addresses are not called: whoever may write a
    RequestAuthentication says where the control plane connects to.
    """

    refresh_seconds: float = REFRESH_SECONDS
    blocked: _Ranges = ()
    roots: str = ""

    def trust(self) -> ssl.SSLContext:
        """Whom to believe that it is an issuer. Raises OSError for a file of roots that cannot be read."""
        trust = ssl.create_default_context()
        if self.roots:
            trust.load_verify_locations(cadata=Path(self.roots).read_text())
        return trust


class NoKeys(Exception):
    """Why an address gave no key set that can be used."""


class TokenKeys:
    """Fetches what the newest snapshot names, and tells the world what there is."""

    def __init__(self, world: World, delivery: Delivery, rules: KeyFetching, kept: KeptKeys) -> None:
        self._world = world
        self._delivery = delivery
        self._rules = rules
        self._kept = kept
        self._found: dict[str, FetchedKeys] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Until cancelled. Raises OSError for a file of roots that cannot be read."""
        resolver, trust = _Unblocked(self._rules.blocked), self._rules.trust()
        connector = aiohttp.TCPConnector(resolver=resolver, ssl=trust, force_close=True)
        timeout = aiohttp.ClientTimeout(total=_TRY_SECONDS)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session,
            asyncio.TaskGroup() as tasks,
        ):
            while True:
                snapshot = self._delivery.snapshot
                self._follow_all(snapshot.key_addresses if snapshot else (), session, tasks)
                await self._delivery.after_round()

    def _follow_all(self, addresses: Iterable[str], session: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        wanted = set(addresses)
        for gone in self._tasks.keys() - wanted:
            self._tasks.pop(gone).cancel()
            self._found.pop(gone, None)
            self._kept.forget(gone)
        for new in sorted(wanted - self._tasks.keys()):
            self._tasks[new] = tasks.create_task(self._follow(new, session), name=f"keys at {new}")
        self._world.set_keys(self._found)

    async def _follow(self, address: str, session: aiohttp.ClientSession) -> None:
        """Fetches again after the usual time; after a failure soon, and then less and less often."""
        retry = _RETRY_SECONDS_MIN
        good, since = "", ""
        kept = self._kept.recalled(address)
        if kept is not None:
            good, since = kept.jwks, kept.at.isoformat(timespec="seconds")
            self._tell(address, FetchedKeys(good, "", since))
        while True:
            try:
                async with self._at_once:
                    good = await keys_at(address, session, self._rules.blocked)
            except NoKeys as error:
                self._tell(address, FetchedKeys(good, str(error), since))
                wait = min(retry, self._rules.refresh_seconds)
                retry = min(retry * 2, _RETRY_SECONDS_MAX)
            else:
                since = datetime.now(UTC).isoformat(timespec="seconds")
                self._kept.keep(address, good)
                self._tell(address, FetchedKeys(good))
                wait, retry = self._rules.refresh_seconds, _RETRY_SECONDS_MIN
            await asyncio.sleep(wait * random.uniform(1 - _JITTER, 1 + _JITTER))

    def _tell(self, address: str, found: FetchedKeys) -> None:
        before = self._found.get(address)
        if found == before:
            return
        if found.wrong:
            log.warning("keys of tokens not fetched", address=address, error=found.wrong, kept=bool(found.jwks))
        else:
            log.info("keys of tokens fetched", address=address)
        self._found[address] = found
        self._world.set_keys(self._found)


async def keys_at(address: str, session: aiohttp.ClientSession, blocked: _Ranges) -> str:
    """The key set there; or, where an issuer's own document is there, the one that it leads to. Raises NoKeys."""
    issuer = address.removesuffix(WELL_KNOWN)
    if issuer == address:
        return await fetch(address, session, blocked)
    document = await _text_at(address, session, blocked)
    try:
        where = keys_address(issuer, document)
    except ValueError as error:
        try:
            # An issuer may end in a slash, which its document's address does not show.
            where = keys_address(f"{issuer}/", document)
        except ValueError:
            raise NoKeys(str(error)) from None
    return await fetch(where, session, blocked)


async def fetch(address: str, session: aiohttp.ClientSession, blocked: _Ranges) -> str:
    """The key set there, one that can be used. Raises NoKeys."""
    text = await _text_at(address, session, blocked)
    try:
        check_keys(text)
    except ValueError as error:
        raise NoKeys(str(error)) from None
    return text


async def _text_at(address: str, session: aiohttp.ClientSession, blocked: _Ranges) -> str:
    """Redirects are not followed: the address is what was written. Raises NoKeys."""
    body = bytearray()
    try:
        host = urlsplit(address).hostname or ""
        if _is_blocked(host, blocked):
            raise NoKeys(f"{host} is blocked by BLOCKED_CIDRS_IN_JWKS_URIS")
        # What is small when it comes may be large when it is unpacked.
        plain = {"Accept-Encoding": "identity"}
        async with session.get(address, allow_redirects=False, headers=plain) as response:
            if response.status != 200:
                raise NoKeys(f"the answer is {response.status} {response.reason}")
            packed = response.headers.get("Content-Encoding", "identity")
            if packed != "identity":
                raise NoKeys(f"the answer is packed ({packed[:20]}), which nobody has asked for")
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _BYTES_MAX:
                    raise NoKeys(f"the answer is larger than {_BYTES_MAX} bytes")
        return body.decode()
    except TimeoutError:
        raise NoKeys(f"no whole answer within {_TRY_SECONDS:g} seconds") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NoKeys(str(error) or type(error).__name__) from None


class _Unblocked(AbstractResolver):
    """Names as the system knows them, without addresses that must not be called. It is asked for each connection, so what a name means
    cannot change between the check and the call.
    """

    def __init__(self, blocked: _Ranges) -> None:
        self._system = aiohttp.ThreadedResolver()
        self._blocked = blocked

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_INET
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        kept = [each for each in found if not _is_blocked(each["host"], self._blocked)]
        if found and not kept:
            raise OSError(errno.EACCES, f"{host} is blocked by BLOCKED_CIDRS_IN_JWKS_URIS")
        return kept

    async def close(self) -> None:
        await self._system.close()


def _is_blocked(host: str, blocked: _Ranges) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    plain = address.ipv4_mapped if isinstance(address, IPv6Address) and address.ipv4_mapped else address
    return any(plain in each for each in blocked)
