"""What becomes of a trust domain's bundle as its endpoint is asked again and again (SPIFFE Federation, section 4). Pure: moments and answers
come in, and what is believed from then on comes out.

The last good bundle goes on counting for as long as there is no newer one, with its age. What an endpoint gives is not taken if its sequence
is lower than that of the one before: an old bundle may have authorities that were withdrawn. Whoever runs the mesh can hand over a
bundle by another way, with which everything begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from hashlib import sha256

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.model.bundles import BundleEndpoint
from isthmus.model.identity import TrustDomain
from isthmus.trust.spiffe_bundle import SpiffeBundle
from isthmus.trust.x509 import certificate_pem, to_der

BUNDLE_PORT = 15019
"""Where control planes publish their own bundle, by https_spiffe."""

REFRESH_USUAL = timedelta(minutes=5)
"""Where an endpoint gives no hint (section 4.1)."""

REFRESH_MIN, REFRESH_MAX = timedelta(seconds=10), timedelta(days=1)
_RETRY_MIN, _RETRY_MAX = timedelta(seconds=1), timedelta(minutes=5)


class Refusal(Enum):
    """What kind of reason there is for having no bundle, by a word that stays."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    NOT_AUTHENTICATED = "not-authenticated"
    NOT_AN_ENDPOINT = "not-an-endpoint"
    REDIRECT = "redirect"
    STATUS = "status"
    TOO_LARGE = "too-large"
    BAD_BUNDLE = "bad-bundle"
    SEQUENCE_WENT_BACK = "sequence-went-back"


class NotFetched(Exception):
    """An endpoint that gave no bundle: whose it is, where, and why."""

    def __init__(self, what: str, refusal: Refusal) -> None:
        super().__init__(what)
        self.refusal = refusal


class State(Enum):
    """`stale`: the last good one goes on, because the endpoint gave nothing better since."""

    PENDING = "pending"
    CURRENT = "current"
    STALE = "stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """One endpoint, and what is known from it. `authorities` (DER) None: nothing was ever fetched; empty: it says that nobody vouches any longer.
    `imported` stands for the bundle that was handed over when this began. `refusal` and `problem` are of the last attempt, empty if it was good.
    """

    endpoint: BundleEndpoint
    imported: str
    next_at: datetime
    authorities: tuple[bytes, ...] | None = None
    sequence: int | None = None
    refresh_hint_seconds: int | None = None
    fetched_at: datetime | None = None
    failing_since: datetime | None = None
    failures: int = 0
    refusal: str = ""
    problem: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        if self.authorities is None:
            return State.PENDING
        return State.STALE if self.problem else State.CURRENT

    @property
    def refresh(self) -> timedelta:
        """As the endpoint wishes, within bounds: a bundle that is asked for too seldom keeps authorities alive that were withdrawn."""
        hint = self.refresh_hint_seconds
        wished = timedelta(seconds=min(hint, REFRESH_MAX.total_seconds())) if hint else REFRESH_USUAL
        return min(max(wished, REFRESH_MIN), REFRESH_MAX)


def began(endpoint: BundleEndpoint, imported: str, now: datetime) -> Followed:
    """Nothing is known yet; it is asked at once."""
    return Followed(endpoint=endpoint, imported=imported, next_at=now)


def answered(before: Followed, bundle: SpiffeBundle, now: datetime) -> Followed:
    """The endpoint gave a bundle."""
    authorities = tuple(sorted(each.public_bytes(Encoding.DER) for each in bundle.x509_authorities))
    went_back = before.sequence is not None and bundle.sequence is not None and bundle.sequence < before.sequence
    if went_back and authorities != before.authorities:
        why = (
            f"the bundle's sequence went back from {before.sequence} to {bundle.sequence}: an older one is not taken;"
            " if it is meant, hand the new one over with `isthmus trust import`"
        )
        return _failed(before, Refusal.SEQUENCE_WENT_BACK, why, now)
    found = replace(
        before,
        authorities=authorities,
        sequence=before.sequence if went_back else bundle.sequence,
        refresh_hint_seconds=bundle.refresh_hint_seconds,
        fetched_at=now,
        failing_since=None,
        failures=0,
        refusal="",
        problem="",
        warnings=(*_warnings(before, bundle, authorities, now), *bundle.ignored),
    )
    return replace(found, next_at=now + found.refresh)


def failed(before: Followed, error: NotFetched, now: datetime) -> Followed:
    """It gave none. It is asked again soon, then less and less often, but not less often than it wished."""
    return _failed(before, error.refusal, str(error), now)


def withdrawn(before: Followed, after: Followed) -> list[str]:
    """Authorities that vouch no longer, as people know them."""
    gone = sorted(set(before.authorities or ()) - set(after.authorities or ()))
    return [x509.load_der_x509_certificate(each).subject.rfc4514_string() for each in gone]


def _failed(before: Followed, refusal: Refusal, why: str, now: datetime) -> Followed:
    wait = min(_RETRY_MIN * 2 ** min(before.failures, 16), _RETRY_MAX, before.refresh)
    return replace(
        before,
        next_at=now + wait,
        failing_since=before.failing_since or now,
        failures=before.failures + 1,
        refusal=refusal.value,
        problem=why,
    )


def _warnings(before: Followed, bundle: SpiffeBundle, authorities: Sequence[bytes], now: datetime) -> list[str]:
    found = []
    differs = before.authorities is not None and before.authorities != authorities
    if differs and bundle.sequence is not None and bundle.sequence == before.sequence:
        found.append(f"other authorities under the same sequence, {bundle.sequence}")
    if before.sequence is not None and bundle.sequence is not None and bundle.sequence < before.sequence:
        found.append(f"the same authorities under an older sequence: {bundle.sequence} after {before.sequence}")
    if before.sequence is not None and bundle.sequence is None:
        found.append(f"no sequence any longer; it was {before.sequence}")
    if not authorities:
        found.append("no authority: nobody of this trust domain is believed")
    over = [each for each in bundle.x509_authorities if each.not_valid_after_utc < now]
    if over:
        found.append(f"{len(over)} of {len(authorities)} authorities have expired")
    return found


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`Followed` as it is kept and shown. Times are RFC 3339, `authorities` PEM."""

    trust_domain: str
    url: str
    identity: str = ""
    imported: str = ""
    state: State
    next_at: datetime
    authorities: list[str] | None = None
    sequence: int | None = None
    refresh_hint_seconds: int | None = None
    fetched_at: datetime | None = None
    failing_since: datetime | None = None
    failures: int = 0
    refusal: str = ""
    problem: str = ""
    warnings: list[str] = []


def record_of(followed: Followed) -> Record:
    authorities = followed.authorities
    endpoint = followed.endpoint
    return Record(
        trust_domain=str(endpoint.trust_domain),
        url=endpoint.url,
        identity=str(endpoint.identity or ""),
        imported=followed.imported,
        state=followed.state,
        next_at=followed.next_at,
        authorities=None if authorities is None else [_pem(each) for each in authorities],
        sequence=followed.sequence,
        refresh_hint_seconds=followed.refresh_hint_seconds,
        fetched_at=followed.fetched_at,
        failing_since=followed.failing_since,
        failures=followed.failures,
        refusal=followed.refusal,
        problem=followed.problem,
        warnings=list(followed.warnings),
    )


def resumed(endpoint: BundleEndpoint, imported: str, kept: str, now: datetime) -> Followed:
    """From the record, after a restart or a change of the endpoint. Begins anew if another bundle was handed over since, or nothing can be read."""
    new = began(endpoint, imported, now)
    try:
        record = msgspec.json.decode(kept, type=Record)
        authorities = None
        if record.authorities is not None:
            authorities = tuple(sorted(der for pem in record.authorities for der in to_der(pem)))
    except (msgspec.DecodeError, ValueError):
        return new
    if record.imported != imported or record.trust_domain != str(endpoint.trust_domain):
        return new
    return replace(
        new,
        authorities=authorities,
        sequence=record.sequence,
        refresh_hint_seconds=record.refresh_hint_seconds,
        fetched_at=record.fetched_at,
        failing_since=record.failing_since,
        refusal=record.refusal,
        problem=record.problem,
        warnings=tuple(record.warnings),
    )


def digest_of(authorities: Sequence[bytes]) -> str:
    """Stands for a bundle that was handed over."""
    return sha256(b"".join(sorted(authorities))).hexdigest()[:16] if authorities else ""


def vouching(
    endpoint: BundleEndpoint,
    trusted: Sequence[tuple[TrustDomain, Sequence[bytes]]],
    own: Sequence[str],
    home: TrustDomain,
) -> list[str]:
    """The authorities (PEM) that vouch for the endpoint's server: the newest that there are of the server's own trust domain."""
    if endpoint.vouching == home:
        return list(own)
    return [_pem(each) for domain, found in trusted if domain == endpoint.vouching for each in found]


def _pem(der: bytes) -> str:
    return certificate_pem(x509.load_der_x509_certificate(der))
