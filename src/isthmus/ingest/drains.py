"""Drains: sending traffic away from a cluster for a while. What a ConfigMap asks for, and how much of its traffic each cluster keeps at a moment.

`isthmus drain` writes an entry for a cluster into the ConfigMap `isthmus-drains` of the system namespace. A cluster's share goes down in steps
from 100 to 0 percent, stays there until the drain ends, and comes back in steps. At 0 its endpoints come after all others, so a service that
is nowhere else is still answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from isthmus.model.names import ClusterId

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
