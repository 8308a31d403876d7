"""EnvoyFilters whose operation does not do what it seems to say."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.analysis.items import Index, Item, Object
from isthmus.assurance.catalogue import policies as codes
from isthmus.model.issues import Issue

_RELATIVE = {"INSERT_BEFORE", "INSERT_AFTER", "REPLACE", "REMOVE"}
_WITHOUT_ADD = {"ROUTE_CONFIGURATION", "HTTP_ROUTE"}
_REPLACEABLE = {"HTTP_FILTER", "NETWORK_FILTER", "VIRTUAL_HOST"}


def patches(index: Index) -> Iterator[Issue]:
    for item in index.each("EnvoyFilter"):
        relative = False
        for number, patch in enumerate(item.spec.get("configPatches") or []):
            found = list(_patch(item, patch, f"spec.configPatches[{number}]", relative))
            relative = relative or any(issue.code == codes.RELATIVE_OPERATION.id for issue in found)
            yield from found


def _patch(item: Item, patch: Object, path: str, said_already: bool) -> Iterator[Issue]:
    operation = (patch.get("patch") or {}).get("operation") or ""
    target = patch.get("applyTo") or ""
    if operation == "REPLACE" and target not in _REPLACEABLE:
        yield item.finding(codes.WRONG_REPLACE, f"REPLACE does nothing for {target}", path=path)
        return
    if operation == "ADD" and target in _WITHOUT_ADD:
        yield item.finding(codes.WRONG_ADD, f"ADD does nothing for {target}", path=path)
        return
    if operation == "REMOVE" and target in _WITHOUT_ADD:
        yield item.finding(codes.WRONG_REMOVE, f"REMOVE does nothing for {target}", path=path)
        return
    if operation not in _RELATIVE or item.spec.get("priority"):
        return
    if not said_already:
        yield item.finding(codes.RELATIVE_OPERATION, f"{operation} is relative, and there is no priority", path=path)
    version = ((patch.get("match") or {}).get("proxy") or {}).get("proxyVersion")
    if version:
        yield item.finding(
            codes.RELATIVE_WITH_VERSION,
            f"{operation} is relative, for proxies {version}, without a priority",
            path=path,
        )
