"""What controllers have written about objects, CRDs included."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.assurance.analysis.items import Index, Item, Object
from isthmus.assurance.catalogue import gateways, objects
from isthmus.model.issues import Issue

_GATEWAY_API = "gateway.networking.k8s.io"
_BUNDLE = "gateway.networking.k8s.io/bundle-version"
# Since gateway-api 1.5 TLSRoute is a v1 kind; older CRDs have no version that is read.
_BUNDLE_MIN = {"tlsroutes": (1, 5)}
_KINDS = (
    ("Service", ""), ("ServiceEntry", ""), ("AuthorizationPolicy", ""), ("RequestAuthentication", ""),
    ("WorkloadEntry", ""), ("Gateway", _GATEWAY_API), ("HTTPRoute", ""), ("GRPCRoute", ""), ("TLSRoute", ""),
    ("TCPRoute", ""), ("GatewayClass", ""),
)  # fmt: skip
# Whose conditions they are, of the kinds that others write conditions to, too.
_OURS = ("istio.io/", "isthmus.io/")
_SHARED = ("Service",)
_PARTLY = "PartiallyInvalid"


def conditions(index: Index) -> Iterator[Issue]:
    for kind, group in _KINDS:
        for item in index.each(kind, group):
            status = item.value.get("status")
            if isinstance(status, dict):
                yield from _status(item, status)


def _status(item: Item, status: Object) -> Iterator[Issue]:
    given = [("status.conditions", status.get("conditions"))]
    for number, parent in enumerate(_list(status.get("parents"))):
        if isinstance(parent, dict):
            given.append((f"status.parents[{number}].conditions", parent.get("conditions")))
    for path, several in given:
        for number, condition in enumerate(_list(several)):
            if not isinstance(condition, dict):
                continue
            type_, reason = str(condition.get("type")), str(condition.get("reason"))
            if item.kind in _SHARED and not type_.startswith(_OURS):
                continue
            if condition.get("status") == "False" or reason == _PARTLY:
                said = condition.get("message") or reason
                yield item.finding(objects.BAD_CONDITION, f"{type_} ({reason}): {said}", path=f"{path}[{number}]")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def crd_versions(index: Index) -> Iterator[Issue]:
    for crd in index.each("CustomResourceDefinition"):
        plural, _, group = crd.name.partition(".")
        found = re.match(r"v(\d+)\.(\d+)", crd.annotations.get(_BUNDLE, ""))
        needed = _BUNDLE_MIN.get(plural) if group == _GATEWAY_API else None
        if needed and found and (int(found[1]), int(found[2])) < needed:
            yield crd.finding(
                gateways.OLD_GATEWAY_API,
                f"is of Gateway API {crd.annotations[_BUNDLE]}, older than v{needed[0]}.{needed[1]}",
            )
