"""Leases: which one of several candidates may write. The decision alone; `lease_client` asks the API server.

As Kubernetes' own components do it: the holder renews a Lease; a candidate takes one that has not changed for as long as it says. Clocks of
different machines are never compared: what counts is how long a candidate itself has seen no change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """`duration_seconds`: how long others leave an unchanged Lease alone; a holder that could not renew it for `renew_seconds` gives up."""

    duration_seconds: int = 15
    renew_seconds: float = 10.0
    retry_seconds: float = 2.0


class Candidate:
    """One who wants to hold a Lease, and what it has seen of it."""

    def __init__(self, identity: str, terms: LeaseTerms) -> None:
        self.identity = identity
        self._terms = terms
        self._seen: tuple[object, ...] = ()
        self._changed_at = 0.0

    def claim(self, lease: Object | None, now: float, stamp: str) -> Object | None:
        """The Lease as it should be written, to hold it from now on; None while it is another's. `now` is a clock that never jumps."""
        spec = (lease or {}).get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        seen = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._changed_at = seen, now
        if holder not in ("", self.identity):
            lasts = spec.get("leaseDurationSeconds")
            if now - self._changed_at < (lasts if isinstance(lasts, int) else self._terms.duration_seconds):
                return None
        renewed = holder == self.identity
        transitions = int(spec.get("leaseTransitions") or 0) + (0 if renewed or not lease else 1)
        return {
            **(lease or {}),
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self._terms.duration_seconds,
                "acquireTime": spec.get("acquireTime", stamp) if renewed else stamp,
                "renewTime": stamp,
                "leaseTransitions": transitions,
            },
        }

    def release(self, lease: Object, stamp: str) -> Object | None:
        """The Lease given back, so that another need not wait; None if it is not ours."""
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") != self.identity:
            return None
        return {**lease, "spec": {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": stamp}}
