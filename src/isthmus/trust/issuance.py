"""May this caller have that certificate, and for how long? Pure rules; the gRPC code's name goes with each refusal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from isthmus.model.identity import SpiffeId, TrustDomain

DEFAULT_LIFETIME = timedelta(hours=24)
LIFETIME_MAX = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Grant:
    """The certificate to issue."""

    identity: SpiffeId
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class Refusal:
    """`code` is the name of a gRPC status; `message` is what the caller is told."""

    code: str
    message: str


def decide(
    caller: SpiffeId, trust_domain: TrustDomain, requested_seconds: int, authority_ends: datetime, now: datetime
) -> Grant | Refusal:
    """The caller's own identity, for the time asked for: a day if none is, never beyond the authority's own end."""
    if caller.trust_domain != trust_domain:
        return Refusal("UNAUTHENTICATED", "request authenticate failure")
    if requested_seconds > LIFETIME_MAX.total_seconds():
        days = LIFETIME_MAX.days
        return Refusal("INVALID_ARGUMENT", f"requested validity of {requested_seconds} s is longer than {days} days")
    wanted = timedelta(seconds=requested_seconds) if requested_seconds > 0 else DEFAULT_LIFETIME
    left = authority_ends - now
    if left <= timedelta(0):
        return Refusal("UNAVAILABLE", "the certificate authority has expired")
    return Grant(caller, min(wanted, left))
