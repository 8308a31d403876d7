"""Delivery: who may connect, and when they are told what.

The first change is computed and sent at once. The next waits a little, longer the more the last one cost, so that a burst becomes a few rounds and
reading, acknowledging and connecting are never starved. Nor is a change: what large rounds cost holds the next one up for a second at most, and who
has just come is not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from isthmus.controlplane.delivery_metrics import Convergence
from isthmus.controlplane.gateway_credentials import GatewayCredentials
from isthmus.controlplane.machines import Machines
from isthmus.controlplane.tables import Tables
from isthmus.controlplane.world import World
from isthmus.envoy.resources import SECRET, Changes, ResourceSet
from isthmus.ingest.machines import NotRegistered, registration_of
from isthmus.ingest.proxies import BadClaims, placed, proxy_of
from isthmus.model.snapshot import Snapshot
from isthmus.model.topology import Locality
from isthmus.model.views import Proxy
from isthmus.trust.authentication import Authenticator, Caller, CannotReview, NotAuthenticated
from isthmus.xds.directory import CallFacts, Newest, Refused
from isthmus.xds.health import HealthReport
from isthmus.xds.node import NodeClaims

_PAUSE_SECONDS_MIN = 0.005
_PAUSE_SECONDS_MAX = 1.0
_PAUSE_PER_COST = 2.0
_FIRST_SNAPSHOT_SECONDS = 60.0
_TELLING_SECONDS_MAX = 10.0
_TURN_SECONDS = 0.005
_TIMED_TOGETHER = 20
"""Streams that are told one after another within a millisecond: one look at the clock does for them."""
_RETRY_SECONDS = 1.0

log = structlog.get_logger()


class Delivery:
    """Connects proxies to what is derived for them. An xDS `Directory`."""

    def __init__(self, world: World, authenticator: Authenticator, machines: Machines) -> None:
        self._world = world
        self._machines = machines
        self._authenticator = authenticator
        self.tables = Tables()
        self._settling: asyncio.Event | None = None
        """Set when the settling that is under way is over."""
        self._begun = self._ended = 0
        """How often settling has begun; the last that came to its end."""
        self._feeds: dict[Newest, Proxy] = {}
        self._of: dict[Proxy, dict[Newest, None]] = {}
        self._credentials = GatewayCredentials(world.secrets)
        self._secrets: dict[Newest, dict[str, str]] = {}
        """Of those whose configuration names Secrets: the versions that they were given."""
        self._after_round = asyncio.Event()
        self._ready = asyncio.Event()
        self.rounds = 0
        self.convergence = Convergence()
        self._began = 0.0
        self._now = asyncio.get_running_loop().time
        self._waiting = 0
        """Feeds with news of a round that their streams have not taken yet."""
        self._untimed = 0
        """Feeds whose streams have taken theirs since the last look at the clock."""
        self._when_taken = self._taken
        self._all_told = asyncio.Event()

    async def run(self) -> None:
        """Learns every change of the world. Until cancelled; call it once the world is complete enough to be shown."""
        loop = asyncio.get_running_loop()
        while True:
            self._world.changed.clear()
            self._began = loop.time()
            reading = self._world.reading()
            self.tables.learn(reading.snapshot, reading.patch)
            await self._settle()
            self._renew_secrets()
            self._ready.set()
            self.rounds += 1
            self._after_round.set()
            self._after_round = asyncio.Event()
            await self._until_told()
            pause = (loop.time() - self._began) * _PAUSE_PER_COST
            await asyncio.sleep(min(max(_PAUSE_SECONDS_MIN, pause), _PAUSE_SECONDS_MAX))
            await self._world.changed.wait()

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set()

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest that proxies were told of; None before the first."""
        return self.tables.snapshot

    async def after_round(self) -> None:
        """Returns when the next round is over: the newest snapshot is that of `tables`."""
        await self._after_round.wait()

    async def after_each_round(self, act: Callable[[], Awaitable[bool]]) -> None:
        """Acts on what is there now, and again after each round; a second later, where `act` says that something has still to be done."""
        while True:
            rounds = self.rounds
            if not await act():
                await asyncio.sleep(_RETRY_SECONDS)
            elif rounds == self.rounds:
                await self.after_round()

    async def admit(self, claims: NodeClaims, call: CallFacts) -> Newest:
        """What the caller proved must agree with what it claims. Raises Refused."""
        caller = await self._authenticate(call, claims)
        try:
            proxy = proxy_of(claims.id, claims.metadata, Locality(*claims.locality), caller.identity)
        except BadClaims as error:
            raise Refused("INVALID_ARGUMENT", str(error)) from None
        _check(caller, proxy)
        await self._until_ready()
        imported = self._world.clusters.get(proxy.cluster)
        objects = imported.objects if imported is not None else {}
        proxy = placed(proxy, objects)
        try:
            registration = registration_of(proxy, claims.metadata, objects)
        except NotRegistered as error:
            log.warning("machine refused", node=claims.id, reason=str(error), peer=call.peer)
            raise Refused("FAILED_PRECONDITION", str(error)) from None
        feed = Newest()
        if registration is not None:
            proxy = registration.placed(proxy)
            self._machines.connected(feed, registration)
        self._feeds[feed] = proxy
        self._of.setdefault(proxy, {})[feed] = None
        self.tables.connect(proxy)
        try:
            await self._settle()
        except BaseException:  # Whoever called has hung up meanwhile.
            self.gone(feed)
            raise
        resources = self.tables.resources(proxy)
        if resources is not None:
            self._put(feed, proxy, resources, None)
            if feed in self._secrets:
                self._renew_secrets()
        log.info("proxy connected", node=claims.id, identity=str(caller.identity), how=caller.how, peer=call.peer)
        return feed

    def gone(self, feed: Newest) -> None:
        proxy = self._feeds.pop(feed)
        self._machines.gone(feed)
        self._secrets.pop(feed, None)
        if feed.when_taken is not None:
            self._one_less()
        del self._of[proxy][feed]
        if not self._of[proxy]:
            del self._of[proxy]
        self.tables.disconnect(proxy)
        log.info("proxy disconnected", node=proxy.id)

    def told(self, feed: Newest, health: HealthReport) -> None:
        self._machines.told(feed, health)

    def leaves(self, feed: Newest) -> None:
        for each in list(self._of[self._feeds[feed]]):
            each.end()

    def find(self, node_id: str) -> Proxy | None:
        """A connected proxy, by its whole node id or by NAME.NAMESPACE."""
        for proxy in self._feeds.values():
            if node_id in (proxy.id, proxy.id.split("~")[2]):
                return proxy
        return None

    async def _settle(self) -> None:
        """Returns when all that was due when it was called has been computed, and those whom it concerns have their news.

        Whoever asks while others wait is served together with them: in a storm, a round does not queue behind every newcomer.
        """
        asked = self._begun
        while self._ended <= asked:
            if self._settling is not None:
                await self._settling.wait()
            else:
                await self._settle_all()

    async def _settle_all(self) -> None:
        """A few milliseconds at a time, and each is told as soon as it is finished: nobody waits until others are computed, too."""
        self._begun += 1
        number, over = self._begun, asyncio.Event()
        self._settling = over
        try:
            turn = _Turn()
            for _ in self.tables.settling():
                if turn.is_over:
                    self._tell()
                    await turn.rest()
            self._tell()
            self._ended = number
        finally:
            self._settling = None
            over.set()

    def _tell(self) -> None:
        """What is new for those that are finished."""
        for proxy, changes in self.tables.changed().items():
            resources = self.tables.resources(proxy)
            if resources is not None:
                for feed in self._of[proxy]:
                    self._put(feed, proxy, resources, changes)

    def _put(self, feed: Newest, proxy: Proxy, resources: ResourceSet, changes: Changes | None) -> None:
        """With the Secrets that the resources name, in the place of their stand-ins."""
        if changes is None or SECRET in changes or feed in self._secrets:
            resources, changes = self._with_secrets(feed, proxy, resources, changes)
        if not feed.waits and not feed.is_new:
            feed.when_taken = self._when_taken
            self._waiting += 1
        feed.put(resources, changes)

    def _with_secrets(
        self, feed: Newest, proxy: Proxy, resources: ResourceSet, changes: Changes | None
    ) -> tuple[ResourceSet, Changes | None]:
        asked = resources.of_type(SECRET)
        given = self._secrets.pop(feed, {})
        if asked:
            resources = self._credentials.filled(resources, proxy.scope.namespace)
            self._secrets[feed] = {name: found.version for name, found in resources.of_type(SECRET).items()}
        if changes is not None and (asked or given):
            changes = {**changes, SECRET: {name: given.get(name, "") for name in given.keys() | asked.keys()}}
        return resources, changes

    def _taken(self) -> None:
        """A stream has sent its news, or has them under way."""
        self._untimed += 1
        if self._untimed >= _TIMED_TOGETHER:
            self._time()
        self._one_less()

    def _one_less(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._time()
            self._all_told.set()

    def _time(self) -> None:
        self.convergence.took(max(0.0, self._now() - self._began), self._untimed)
        self._untimed = 0

    async def _until_told(self) -> None:
        """Until every stream has taken its news: what sending costs is part of what a round costs. Streams take them also while their
        clients do not read; the time limit is for a transport that has stopped.
        """
        self._all_told.clear()
        if self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TELLING_SECONDS_MAX):
                    await self._all_told.wait()

    def _renew_secrets(self) -> None:
        """A Secret that has changed is sent at once to those who show it, though nothing else is different for them."""
        for feed, given in list(self._secrets.items()):
            proxy = self._feeds[feed]
            resources = self.tables.resources(proxy)
            if resources is not None:
                filled = self._credentials.filled(resources, proxy.scope.namespace).of_type(SECRET)
                if given != {name: found.version for name, found in filled.items()}:
                    self._put(feed, proxy, resources, {})
        self._world.report("gateway credentials", self._credentials.take_problems(self._world.config_cluster))

    async def _authenticate(self, call: CallFacts, claims: NodeClaims) -> Caller:
        try:
            return await self._authenticator.caller(call.metadata, call.peer_certificate)
        except NotAuthenticated as error:
            log.warning("proxy refused", node=claims.id, reason=str(error), peer=call.peer)
            raise Refused("UNAUTHENTICATED", "no valid certificate or token for this mesh") from None
        except CannotReview as error:
            log.warning("proxy has to wait", node=claims.id, reason=str(error), peer=call.peer)
            raise Refused("UNAVAILABLE", "the token cannot be reviewed now: try again") from None

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(_FIRST_SNAPSHOT_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            raise Refused("UNAVAILABLE", "the control plane has not read its clusters yet") from None


class _Turn:
    """Lets others run when this one has had its few milliseconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + _TURN_SECONDS

    @property
    def is_over(self) -> bool:
        return self._loop.time() > self._end

    async def rest(self) -> None:
        await asyncio.sleep(0)
        self._end = self._loop.time() + _TURN_SECONDS


def _check(caller: Caller, proxy: Proxy) -> None:
    """A namespace, service account or cluster that the credentials do not prove is a refused stream."""
    account = caller.identity.service_account
    if account is None:
        raise Refused("PERMISSION_DENIED", f"{caller.identity} names no service account")
    namespace, name = account
    if namespace != proxy.scope.namespace:
        raise Refused(
            "PERMISSION_DENIED",
            f"the node claims namespace {proxy.scope.namespace}, its credentials are of {namespace}",
        )
    _, _, of_pod = proxy.id.split("~")[2].rpartition(".")
    if of_pod != namespace:
        # The Pod's labels count as the proxy's own: nobody borrows those of another namespace.
        raise Refused(
            "PERMISSION_DENIED",
            f"the node id names a Pod of namespace {of_pod}, its credentials are of {namespace}",
        )
    if proxy.service_account and proxy.service_account != name:
        raise Refused(
            "PERMISSION_DENIED",
            f"the node claims service account {proxy.service_account}, its credentials are of {name}",
        )
    if caller.cluster is not None and caller.cluster != proxy.cluster:
        raise Refused(
            "PERMISSION_DENIED",
            f"the node claims cluster {proxy.cluster}, its token is of {caller.cluster}: give agent and remote secret one id",
        )
