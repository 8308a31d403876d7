"""Annotations in Istio's name: known, in the right place, with a value that can be used."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.analysis.annotation_table import ANNOTATIONS, ANY_KIND, SET_BY_INJECTION
from isthmus.assurance.analysis.items import Index, Item
from isthmus.assurance.catalogue import objects as codes
from isthmus.model.issues import Issue

_KINDS = ("Namespace", "Service", "Pod", "Deployment")
_CNI_CHECK = "istio-validation"
_NOT_OURS = ("config.istio.io", "operator.istio.io", "isthmus.io")


def annotated(index: Index) -> Iterator[Issue]:
    for kind in _KINDS:
        for item in index.each(kind):
            for name, value in item.annotations.items():
                yield from _annotation(item, name, value)


def _annotation(item: Item, name: str, value: str) -> Iterator[Issue]:
    known = ANNOTATIONS.get(name)
    path = f"metadata.annotations['{name}']"
    if known is None:
        domain = name.partition("/")[0]
        if domain.endswith("istio.io") and domain not in _NOT_OURS:
            yield item.finding(codes.UNKNOWN_ANNOTATION, f"annotation {name} is not known", path=path)
        return
    if item.kind not in known.kinds and ANY_KIND not in known.kinds:
        kinds = ", ".join(known.kinds)
        yield item.finding(codes.MISPLACED_ANNOTATION, f"annotation {name} is for {kinds} only", path=path)
    if known.bad(value):
        yield item.finding(codes.INVALID_ANNOTATION, f"annotation {name}: {known.bad(value)}", path=path)
    if known.is_deprecated:
        yield item.finding(codes.DEPRECATED_ANNOTATION, f"annotation {name} is outdated", path=path)
    if known.is_alpha and not (name in SET_BY_INJECTION and _has_cni_check(item)):
        yield item.finding(codes.ALPHA_ANNOTATION, f"annotation {name} is in its alpha phase", path=path)


def _has_cni_check(item: Item) -> bool:
    return any(container.get("name") == _CNI_CHECK for container in item.spec.get("initContainers") or [])
