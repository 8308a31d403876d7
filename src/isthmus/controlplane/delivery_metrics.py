"""What delivery counts of itself: under Istio's names where Istio has one, so that dashboards made for it show something here."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from isthmus.controlplane.durations import Durations
from isthmus.envoy.resources import (
    BUNDLES,
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    NAME_TABLE,
    OWN_TRUST,
    ROUTES,
    SECRET,
)
from isthmus.xds.directory import Streams

_SHORT = {
    CLUSTER: "cds",
    ENDPOINTS: "eds",
    LISTENER: "lds",
    EXTENSION: "ecds",
    ROUTES: "rds",
    SECRET: "sds",
    NAME_TABLE: "nds",
    BUNDLES: "bundles",
    OWN_TRUST: "own_trust",
}
_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0)
"""Istio's, which begin at 0.1, and finer ones below."""


class Convergence(Durations):
    """How long it took, from the beginning of a round, until what is new was sent to a proxy."""

    def __init__(self) -> None:
        super().__init__(
            "pilot_proxy_convergence_time",
            "Seconds from the beginning of a round until a proxy was sent what is new.",
            _BUCKETS,
        )


class _Collector:
    def __init__(self, streams: Streams, convergence: Convergence, scopes: int, stocks: int) -> None:
        self._streams = streams
        self._convergence = convergence
        self._scopes = scopes
        self._stocks = stocks

    def collect(self) -> Iterator[Metric]:
        encoded = self._streams.encoded
        yield GaugeMetricFamily("pilot_xds", "Connected xDS streams.", value=len(self._streams.all))
        yield self._convergence.metric
        yield _by_type("pilot_xds_pushes", "Responses sent, by type.", encoded.sent)
        yield _by_type("pilot_total_xds_rejects", "Responses that proxies refused, by type.", encoded.refused)
        yield GaugeMetricFamily("isthmus_scopes", "Tables that connected proxies share.", value=self._scopes)
        yield GaugeMetricFamily(
            "isthmus_stocks", "Different sets of clusters and endpoints that scopes share.", value=self._stocks
        )
        for name, meaning, value in (
            ("isthmus_xds_bodies_encoded", "Bodies of responses that were put together.", encoded.made),
            (
                "isthmus_xds_bodies_shared",
                "Bodies of responses that were there already, for another stream.",
                encoded.shared,
            ),
            (
                "isthmus_xds_sent_bytes",
                "Bytes sent to proxies by the native transport, before encryption.",
                self._streams.sent_bytes,
            ),
        ):
            yield CounterMetricFamily(name, meaning, value=value)


def add_delivery_metrics(
    registry: CollectorRegistry, streams: Streams, convergence: Convergence, scopes: int, stocks: int
) -> None:
    registry.register(_Collector(streams, convergence, scopes, stocks))


def _by_type(name: str, meaning: str, counts: dict[str, int]) -> Metric:
    """Untyped, because a counter's name would be given an ending that Istio's does not have."""
    family = Metric(name, meaning, "unknown")
    for type_url, count in sorted(counts.items()):
        family.add_sample(name, {"type": _SHORT.get(type_url, type_url)}, count)
    return family
