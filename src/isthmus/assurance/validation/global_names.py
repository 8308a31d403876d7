"""The shape of a GlobalTrafficPolicy, and what its parts mean together."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.shapes import LABELS, many, record, text, whole
from isthmus.assurance.validation.terms import Object

GLOBAL_TRAFFIC_POLICY = record({
    "selector": LABELS,
    "policy": many(record({
        "dns": text(), "dnsPrefix": text(), "lbType": whole(0, 1),
        "target": many(record({"region": text(), "weight": whole(0, 100)}, ("region",))),
        "outlier_detection": record({
            "base_ejection_time": whole(0), "consecutive_gateway_errors": whole(0), "interval": whole(0),
        }),
    })),
})  # fmt: skip

_BY_WEIGHT = 1


def global_traffic_policy(item: Object) -> Iterator[Problem]:
    """Weights are percentages of one whole, and one name is spread in one way."""
    seen: dict[str, int] = {}
    for index, policy in enumerate((item.get("spec") or {}).get("policy") or []):
        where = f"spec.policy[{index}]"
        total = sum(group.get("weight", 0) for group in policy.get("target") or [])
        if policy.get("lbType") == _BY_WEIGHT and total != 100:
            yield Problem(codes.BAD_WEIGHTS, f"{where}.target", f"the weights come to {total}, not 100")
        prefix = policy.get("dnsPrefix") or policy.get("dns") or "default"
        if prefix in seen:
            yield Problem(codes.TWICE, where, f"{prefix} has a policy already, spec.policy[{seen[prefix]}]")
        seen.setdefault(prefix, index)
