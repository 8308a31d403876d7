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


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """Of what is issued: where nothing is asked for, and at most."""

    default: timedelta = DEFAULT_LIFETIME
    longest: timedelta = LIFETIME_MAX


_DEFAULTS = Lifetimes()


def decide(
    caller: SpiffeId,
    trust_domain: TrustDomain,
    requested_seconds: int,
    authority_ends: datetime,
    now: datetime,
    lifetimes: Lifetimes = _DEFAULTS,
) -> Grant | Refusal:
    """The caller's own identity, for the time asked for: the default if none is, never beyond the authority's own end."""
    if caller.trust_domain != trust_domain:
        return Refusal("UNAUTHENTICATED", "request authenticate failure")
    if requested_seconds > lifetimes.longest.total_seconds():
        why = f"requested validity of {requested_seconds} s is longer than {lifetimes.longest.total_seconds():.0f} s"
        return Refusal("INVALID_ARGUMENT", why)
    wanted = timedelta(seconds=requested_seconds) if requested_seconds > 0 else lifetimes.default
    left = authority_ends - now
    if left <= timedelta(0):
        return Refusal("UNAVAILABLE", "the certificate authority has expired")
    return Grant(caller, min(wanted, left))
