"""Drains: sending traffic away from a cluster for a while. What a ConfigMap asks for, and how much of its traffic each cluster keeps by now.

`isthmus drain` writes an entry for a cluster into the ConfigMap `isthmus-drains` of the system namespace; every control plane that takes its
configuration there follows it by its own clock. A cluster's share goes down in steps from 100 to 0 percent, stays there until the drain
ends, and comes back in steps. At 0 its endpoints come after all others, so a service that is nowhere else is still answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec

from isthmus.api.core import ConfigMap
from isthmus.controlplane.world import World
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import CONFIG_MAPS
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace

CONFIG_MAP = "isthmus-drains"
_STEP_PERCENT = 10
_STEPS = 100 // _STEP_PERCENT


class Drain(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """From `since` on, a cluster gives its traffic away over some seconds; at `until` it begins to take it back."""

    since: datetime
    until: datetime
    over_seconds: float = 10.0

    def share(self, now: datetime) -> int:
        """Percent of its traffic that the cluster has at a moment."""
        taken = sum(moment <= now for moment in self._steps(self.since) if moment <= self.until)
        taken_back = sum(moment <= now for moment in self._steps(self.until))
        return 100 - _STEP_PERCENT * max(0, taken - taken_back)

    def next_step(self, now: datetime) -> datetime | None:
        """When the share may change next; None once the drain is over."""
        moments = (*self._steps(self.since), *self._steps(self.until))
        return min((moment for moment in moments if moment > now), default=None)

    def _steps(self, begin: datetime) -> list[datetime]:
        """When each is taken: the first at once, so that the last leaves nothing."""
        step = timedelta(seconds=self.over_seconds / _STEPS)
        return [begin + step * number for number in range(_STEPS)]


@dataclass(frozen=True, slots=True)
class Asked:
    """The drains of a ConfigMap, and the entries that cannot be read, with the reason."""

    drains: Mapping[ClusterId, Drain]
    wrong: Mapping[str, str]


def asked(data: Mapping[str, str]) -> Asked:
    """One entry for each cluster id; an entry that cannot be read drains nothing."""
    drains: dict[ClusterId, Drain] = {}
    wrong: dict[str, str] = {}
    for cluster, text in data.items():
        try:
            drain = msgspec.json.decode(text, type=Drain)
        except msgspec.MsgspecError as error:
            wrong[cluster] = str(error)
            continue
        if drain.since.tzinfo is None or drain.until.tzinfo is None or drain.until < drain.since:
            wrong[cluster] = "since and until are moments with a time zone, in this order"
        else:
            drains[ClusterId(cluster)] = drain
    return Asked(drains, wrong)


class Drains:
    """Follows the ConfigMap, and tells the world each cluster's share as time goes by."""

    def __init__(self, client: ApiClient, world: World, cluster: ClusterId, namespace: Namespace) -> None:
        self._world = world
        self._cluster = cluster
        self._namespace = namespace
        self._changed = asyncio.Event()
        self._config: Reflector[ConfigMap] = Reflector(
            client,
            CONFIG_MAPS,
            partial(msgspec.json.decode, type=ConfigMap),
            lambda _: self._changed.set(),
            namespace=namespace,
            selector={"fieldSelector": f"metadata.name={CONFIG_MAP}"},
            optional=True,
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._config.run(), name="watch drains")
            while True:
                self._changed.clear()
                found = self._config.values.get((self._namespace, CONFIG_MAP))
                said = asked(found.data if found else {})
                now = datetime.now(UTC)
                self._world.set_shares({cluster: drain.share(now) for cluster, drain in said.drains.items()})
                self._world.report("drains", [self._issue(cluster, why) for cluster, why in said.wrong.items()])
                steps = [step for drain in said.drains.values() if (step := drain.next_step(now)) is not None]
                wait = (min(steps) - now).total_seconds() if steps else None
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    def _issue(self, cluster: str, why: str) -> Issue:
        return Issue(
            subject=Subject(self._cluster, "ConfigMap", self._namespace, CONFIG_MAP),
            code="ISM0206",
            severity=Severity.ERROR,
            what=f"the entry for {cluster} cannot be read, and drains nothing: {why}",
            fix="write it with `isthmus drain`, or delete it with `isthmus undrain`",
            field=f"data.{cluster}",
        )
