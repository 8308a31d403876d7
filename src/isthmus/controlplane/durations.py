"""How long something took, counted for Prometheus."""

from __future__ import annotations

from bisect import bisect_left

from prometheus_client.core import HistogramMetricFamily, Metric


class Durations:
    """A histogram of seconds. `buckets` are upper bounds, the smallest first."""

    def __init__(self, name: str, meaning: str, buckets: tuple[float, ...]) -> None:
        self._name = name
        self._meaning = meaning
        self._buckets = buckets
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0

    def took(self, seconds: float, times: int = 1) -> None:
        self._counts[bisect_left(self._buckets, seconds)] += times
        self._sum += seconds * times

    @property
    def metric(self) -> Metric:
        total, buckets = 0, []
        for bound, count in zip([*map(str, self._buckets), "+Inf"], self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return HistogramMetricFamily(self._name, self._meaning, buckets=buckets, sum_value=self._sum)
