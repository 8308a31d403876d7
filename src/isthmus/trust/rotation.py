"""The life of a root, from prepared over active and tainted to revoked: what is written down about it, and what each step has to wait for.

A mesh's authority is one Secret in each cluster with a control plane of its own. Its `root-cert.pem` are the roots that are trusted, its other
entries what signs. A step changes these Secrets; what they do not tell, which roots are tainted and since when, is in a ConfigMap beside
them. Control planes answer a question there with how far their proxies are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from isthmus.model.trust import NOTHING_ASKED, OwnTrust
from isthmus.trust import x509

PLUGGED_IN, SELF_SIGNED = "cacerts", "istio-ca-secret"
PREPARED, PREVIOUS = "isthmus-prepared-authority", "isthmus-previous-authority"
"""Secrets with an authority: what signs, the first of the two that is there; what is to sign next, and what signed before."""

CONFIG_MAP = "isthmus-trust"
REPORTS = "isthmus-trust-reports"
"""A ConfigMap, too, with an entry for each control plane: the answer to the newest question."""

QUESTION, ROOTS, CUT, EVICTED = "question", "roots", "cut", "evicted"
"""The entries of the first one. The last says, by fingerprint, which roots were made to leave a cluster behind."""


class RootState(StrEnum):
    PREPARED = "prepared"
    """Trusted, and signs nothing yet."""
    ACTIVE = "active"
    """What is signed leads to it."""
    TRUSTED = "trusted"
    """As prepared, but by nobody's step: somebody has added it."""
    RETIRING = "retiring"
    """It has been active, and is trusted still."""
    TAINTED = "tainted"
    """Trusted, but nothing may lead to it any longer."""
    REVOKED = "revoked"
    """Not trusted any longer."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is written down about one root, by its fingerprint."""

    state: RootState
    since: datetime
    subject: str = ""


class Behind(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy that has not done what it is asked, and why."""

    proxy: str
    cluster: str
    why: str


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One control plane's answer. Roots are fingerprints; `behind` are some of the proxies that are `behind_total`."""

    question: str
    signs_under: str
    shows: str
    roots: tuple[str, ...]
    prepared: str = ""
    refusal: str = ""
    asked: OwnTrust = NOTHING_ASKED
    proxies: int = 0
    behind: tuple[Behind, ...] = ()
    behind_total: int = 0


def records_of(data: Mapping[str, str]) -> dict[str, Record]:
    """From the ConfigMap. Raises ValueError for what cannot be read."""
    try:
        return msgspec.json.decode(data.get(ROOTS, "{}"), type=dict[str, Record])
    except msgspec.MsgspecError as error:
        raise ValueError(f"entry {ROOTS} of ConfigMap {CONFIG_MAP} cannot be read: {error}") from None


def tainted(records: Mapping[str, Record], roots: Iterable[str], active: str) -> tuple[str, ...]:
    """Of the roots that are trusted. What signs is never among them: everything would be renewed for ever."""
    return tuple(
        sorted(
            root for root in roots if root != active and root in records and records[root].state is RootState.TAINTED
        )
    )


class ClusterTrust(msgspec.Struct, frozen=True, kw_only=True):
    """What one cluster with a control plane of its own has: the roots that are trusted (fingerprint → PEM), which of them signs, and which
    signs next; what is written down; and the newest answers of its control planes, None for one that has not answered.
    """

    name: str
    roots: dict[str, str]
    active: str
    prepared: str = ""
    records: dict[str, Record] = {}
    reports: dict[str, Report | None] = {}


class Root(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A root, over all clusters."""

    fingerprint: str
    subject: str
    state: RootState
    since: datetime | None
    trusted_by: tuple[str, ...]
    signs_in: tuple[str, ...]


class Waiting(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """For whom a step waits, and why. `proxy` is empty where a control plane itself is waited for."""

    cluster: str
    control_plane: str
    why: str
    proxy: str = ""

    def __str__(self) -> str:
        return f"{self.cluster}: {self.proxy or self.control_plane}: {self.why}"


def roots_of(clusters: Sequence[ClusterTrust]) -> list[Root]:
    """Every root that is trusted somewhere or was, what signs first."""
    pems = {root: pem for cluster in clusters for root, pem in cluster.roots.items()}
    known = {root: None for cluster in clusters for root in (*cluster.roots, *cluster.records)}
    found = []
    for fingerprint in known:
        records = [cluster.records[fingerprint] for cluster in clusters if fingerprint in cluster.records]
        newest = max(records, key=lambda record: record.since, default=None)
        signs_in = tuple(cluster.name for cluster in clusters if cluster.active == fingerprint)
        trusted_by = tuple(cluster.name for cluster in clusters if fingerprint in cluster.roots)
        state = _state(newest, signs=bool(signs_in), trusted=bool(trusted_by))
        found.append(
            Root(
                fingerprint=fingerprint,
                subject=x509.subject(pems[fingerprint]) if fingerprint in pems else newest.subject if newest else "",
                state=state,
                since=newest.since if newest is not None and newest.state is state else None,
                trusted_by=trusted_by,
                signs_in=signs_in,
            )
        )
    order = [RootState.ACTIVE, RootState.PREPARED, RootState.RETIRING, RootState.TRUSTED, RootState.TAINTED]
    return sorted(
        found, key=lambda root: (order.index(root.state) if root.state in order else len(order), root.fingerprint)
    )


def _state(record: Record | None, *, signs: bool, trusted: bool) -> RootState:
    """What is the case comes before what is written down."""
    if signs:
        return RootState.ACTIVE
    if not trusted:
        return RootState.REVOKED
    if record is None or record.state is RootState.REVOKED:
        return RootState.TRUSTED
    return RootState.RETIRING if record.state is RootState.ACTIVE else record.state


def unanswered(clusters: Iterable[ClusterTrust]) -> Iterator[Waiting]:
    """Control planes that have not answered, or refuse what is plugged in."""
    for cluster in clusters:
        if not cluster.reports:
            yield Waiting(cluster=cluster.name, control_plane="", why="no control plane runs there")
        for name, report in cluster.reports.items():
            if report is None:
                yield Waiting(cluster=cluster.name, control_plane=name, why="the control plane has not answered")
            elif report.refusal:
                yield Waiting(cluster=cluster.name, control_plane=name, why=f"refused: {report.refusal}")


def behind(clusters: Iterable[ClusterTrust]) -> Iterator[Waiting]:
    """Proxies that have not done yet what their control plane asks."""
    for cluster in clusters:
        for name, report in cluster.reports.items():
            for each in report.behind if report is not None else ():
                yield Waiting(cluster=each.cluster or cluster.name, control_plane=name, proxy=each.proxy, why=each.why)
            more = report.behind_total - len(report.behind) if report is not None else 0
            if more > 0:
                yield Waiting(cluster=cluster.name, control_plane=name, proxy=f"{more} more proxies", why="not named")


def not_prepared(clusters: Sequence[ClusterTrust], root: str) -> list[Waiting]:
    """What keeps a prepared root from being active: everybody has to trust it, and to have let in who shows a certificate of it."""
    found = list(unanswered(clusters))
    for cluster, name, report in _reports(clusters):
        if cluster.active == root:
            continue
        if root not in report.roots or report.prepared != root or root not in report.asked.proved:
            found.append(
                Waiting(cluster=cluster.name, control_plane=name, why="the control plane has not seen the new root")
            )
    return [*found, *behind(clusters)]


def not_active(clusters: Sequence[ClusterTrust], root: str) -> list[Waiting]:
    """Which control planes do not sign under the root yet, or show a certificate of another one."""
    found = list(unanswered(clusters))
    for cluster, name, report in _reports(clusters):
        if report.signs_under != root:
            found.append(Waiting(cluster=cluster.name, control_plane=name, why="it signs under another root"))
        elif report.shows != root:
            found.append(
                Waiting(cluster=cluster.name, control_plane=name, why="it shows a certificate of another root")
            )
    return [*found, *behind(clusters)]


def still_in_use(clusters: Sequence[ClusterTrust], root: str) -> list[Waiting]:
    """Who has, or may have, a certificate that leads to a tainted root."""
    found = list(unanswered(clusters))
    for cluster, name, report in _reports(clusters):
        if root == report.signs_under or root == report.shows:
            found.append(
                Waiting(cluster=cluster.name, control_plane=name, why="the control plane itself uses the root")
            )
        elif root in report.roots and root not in report.asked.tainted:
            found.append(
                Waiting(cluster=cluster.name, control_plane=name, why="the control plane has not tainted the root")
            )
    return [*found, *behind(clusters)]


def not_revoked(clusters: Sequence[ClusterTrust], root: str) -> list[Waiting]:
    """Who trusts the root still."""
    found = list(unanswered(clusters))
    for cluster, name, report in _reports(clusters):
        if root in report.roots:
            found.append(Waiting(cluster=cluster.name, control_plane=name, why="the control plane trusts the root"))
    return [*found, *behind(clusters)]


def _reports(clusters: Iterable[ClusterTrust]) -> Iterator[tuple[ClusterTrust, str, Report]]:
    for cluster in clusters:
        for name, report in cluster.reports.items():
            if report is not None:
                yield cluster, name, report
