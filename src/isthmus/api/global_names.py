"""GlobalTrafficPolicy (admiral.io): how requests to a global name are spread over regions. Its fields keep the names that existing objects have."""

from __future__ import annotations

import msgspec

from isthmus.api.meta import KubernetesObject, Wire


class TrafficGroup(Wire, frozen=True):
    region: str = ""
    weight: int = 0


class GlobalOutlierDetection(Wire, frozen=True):
    base_ejection_time: int = msgspec.field(default=0, name="base_ejection_time")
    consecutive_gateway_errors: int = msgspec.field(default=0, name="consecutive_gateway_errors")
    interval: int = 0


class GlobalPolicy(Wire, frozen=True):
    """`lb_type` 0 is by topology, the nearest first; 1 is by the weights of `target`. `dns` is the older way of saying `dns_prefix`."""

    dns_prefix: str = ""
    dns: str = ""
    lb_type: int = 0
    target: list[TrafficGroup] = []
    outlier_detection: GlobalOutlierDetection | None = msgspec.field(default=None, name="outlier_detection")


class GlobalTrafficPolicySpec(Wire, frozen=True):
    policy: list[GlobalPolicy] = []
    selector: dict[str, str] = {}


class GlobalTrafficPolicy(KubernetesObject, frozen=True):
    spec: GlobalTrafficPolicySpec = msgspec.field(default_factory=GlobalTrafficPolicySpec)
