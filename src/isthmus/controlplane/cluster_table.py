"""What is shown of remote clusters: the rows of `/debug/clusterz`, and the same as metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

_STATUSES = ("synced", "syncing", "timeout", "closed")


class ClusterRow(msgspec.Struct, frozen=True, kw_only=True):
    """`syncStatus` is one of Istio's words, `state` one of ours: syncing, live, stale, gone. Times are RFC 3339 or empty.

    `reason` is why the state is not `live`. `replacement` is what a changed kubeconfig waits for that has not taken its place yet.
    """

    id: str
    secretName: str
    syncStatus: str
    state: str
    staleSince: str
    standing: str
    lastContact: str
    server: str
    reason: str
    waitingFor: list[str]
    replacement: str
    credentialExpires: str
    callsItself: list[str]
    uid: str

    def left(self, since: str) -> ClusterRow:
        """The row of a cluster that nothing asks for any more."""
        return msgspec.structs.replace(
            self,
            syncStatus="closed",
            state="gone",
            staleSince=since,
            standing="",
            reason="",
            waitingFor=[],
            replacement="",
        )


def add_metrics(
    registry: CollectorRegistry, rows: Sequence[ClusterRow], events: Mapping[str, int], timeouts: int
) -> None:
    """Istio's metrics of remote clusters under Istio's names, then our own."""
    here = [row for row in rows if row.state != "gone"]
    managed = Gauge("istiod_managed_clusters", "Clusters that are read.", ["cluster_type"], registry=registry)
    managed.labels("local").set(1)
    managed.labels("remote").set(len(here))
    status = Gauge(
        "istiod_remote_cluster_sync_status", "1 for the state it is in.", ["cluster_id", "status"], registry=registry
    )
    expiry = Gauge(
        "isthmus_remote_cluster_credential_expiry_timestamp_seconds",
        "When the credentials for a remote cluster end; absent where they do not say.",
        ["cluster_id"],
        registry=registry,
    )
    contact = Gauge(
        "isthmus_remote_cluster_last_contact_timestamp_seconds",
        "When a remote cluster's API server was heard of last; absent if never.",
        ["cluster_id"],
        registry=registry,
    )
    stale = Gauge("isthmus_remote_cluster_stale", "1 while it does not answer.", ["cluster_id"], registry=registry)
    for row in here:
        for name in _STATUSES:
            status.labels(row.id, name).set(row.syncStatus == name)
        stale.labels(row.id).set(row.state == "stale")
        for gauge, moment in ((expiry, row.credentialExpires), (contact, row.lastContact)):
            if moment:
                gauge.labels(row.id).set(datetime.fromisoformat(moment).timestamp())
    registry.register(_Counters(events, timeouts))


class _Counters(Collector):
    """Counted elsewhere, shown here."""

    def __init__(self, events: Mapping[str, int], timeouts: int) -> None:
        self._events = events
        self._timeouts = timeouts

    def collect(self) -> list[CounterMetricFamily]:
        events = CounterMetricFamily("remote_cluster_secret_events", "Changes of remote secrets.", labels=["event"])
        for name, count in sorted(self._events.items()):
            events.add_metric([name], count)
        name = "remote_cluster_sync_timeouts"
        return [events, CounterMetricFamily(name, "Remote clusters that were not read in time.", self._timeouts)]
