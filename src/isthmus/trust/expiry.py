"""Horizons: until when each certificate, authority and token is good. What has none says `never`; what cannot be read is never left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from isthmus.trust import x509


class Kind(StrEnum):
    """What ends."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"
    SERVING = "serving certificate"
    WORKLOAD = "workload certificate"
    TOKEN = "token"
    CLIENT = "client certificate"
    REVOCATIONS = "revocation list"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """One thing that ends. `where` is where it was found; `ends` is None for what does not end. `problem`: why it cannot be read."""

    cluster: str
    kind: Kind
    name: str
    where: str
    ends: datetime | None
    problem: str = ""


def of_certificates(cluster: str, where: str, pem: str, *, leaf: Kind = Kind.SERVING) -> Iterator[Horizon]:
    """One for each certificate in the text; `leaf` is what those are that sign nothing, unless they prove a SPIFFE ID."""
    try:
        certificates = x509.parse_certificates(pem)
    except x509.BadCertificate as error:
        yield unreadable(cluster, where, str(error))
        return
    for certificate in certificates:
        name = x509.called(certificate)
        if x509.may_sign(certificate):
            kind = Kind.ROOT if x509.is_self_signed(certificate) else Kind.INTERMEDIATE
        else:
            kind = Kind.WORKLOAD if name.startswith("spiffe://") else leaf
        yield Horizon(cluster=cluster, kind=kind, name=name, where=where, ends=certificate.not_valid_after_utc)


def of_revocations(cluster: str, where: str, pem: str) -> Iterator[Horizon]:
    """One for each list: when it has run out, everything that it is about is refused."""
    try:
        lists = x509.parse_revocations(pem)
    except x509.BadCertificate as error:
        yield unreadable(cluster, where, str(error))
        return
    for each in lists:
        name = each.issuer.rfc4514_string()
        yield Horizon(cluster=cluster, kind=Kind.REVOCATIONS, name=name, where=where, ends=each.next_update_utc)


def unreadable(cluster: str, where: str, problem: str) -> Horizon:
    """For what should have a horizon, and shows none."""
    return Horizon(cluster=cluster, kind=Kind.UNREADABLE, name="", where=where, ends=None, problem=problem)


def nearest_first(horizons: Iterable[Horizon]) -> list[Horizon]:
    """What cannot be read comes before all, what never ends after all. The same thing at the same place is told once."""

    def order(horizon: Horizon) -> tuple[int, float, str, str, str]:
        rank = 0 if horizon.problem else 2 if horizon.ends is None else 1
        ends = horizon.ends.timestamp() if horizon.ends else 0.0
        return rank, ends, horizon.cluster, horizon.where, horizon.name

    return sorted(set(horizons), key=order)


def alarming(horizons: Iterable[Horizon], until: datetime) -> list[Horizon]:
    """Those that have ended by then, and those of which nobody can say."""
    return [horizon for horizon in horizons if horizon.problem or (horizon.ends is not None and horizon.ends <= until)]
