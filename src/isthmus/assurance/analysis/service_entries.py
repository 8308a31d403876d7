"""ServiceEntries: told apart by address, and not contradicting each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from isthmus.assurance.analysis.items import Index, Item
from isthmus.assurance.catalogue import routing as codes
from isthmus.model.issues import Issue

_CAPTURE, _ALLOCATE = "ISTIO_META_DNS_CAPTURE", "ISTIO_META_DNS_AUTO_ALLOCATE"


def needed_addresses(index: Index) -> Iterator[Issue]:
    metadata = (index.settings.mesh_config.get("defaultConfig") or {}).get("proxyMetadata") or {}
    captures = str(metadata.get(_CAPTURE, "")).lower() == "true"
    if captures and str(metadata.get(_ALLOCATE, "")).lower() == "true":
        return
    for entry in index.each("ServiceEntry"):
        status = entry.value.get("status")
        allocated = isinstance(status, dict) and bool(status.get("addresses"))
        if entry.spec.get("addresses") or (captures and allocated):
            continue
        for number, port in enumerate(entry.spec.get("ports") or []):
            if (port.get("protocol") or "TCP").upper() == "TCP":
                yield entry.finding(
                    codes.ADDRESSES_NEEDED,
                    f"port {port.get('number')} is plain TCP, and there is no address to tell its connections by",
                    path=f"spec.ports[{number}]",
                )


def conflicting_protocols(index: Index) -> Iterator[Issue]:
    claims: dict[tuple[str, int], list[tuple[Item, str, frozenset[str]]]] = defaultdict(list)
    for entry in index.each("ServiceEntry"):
        scope = frozenset(entry.namespace if name == "." else name for name in entry.spec.get("exportTo") or ["*"])
        for host in entry.spec.get("hosts") or []:
            for port in entry.spec.get("ports") or []:
                protocol = (port.get("protocol") or "TCP").upper()
                claims[host, port.get("number") or 0].append((entry, protocol, scope))
    found: dict[Item, list[str]] = defaultdict(list)
    for (host, number), several in claims.items():
        for entry, protocol, scope in several:
            others = {
                f"{other.full_name} ({second})"
                for other, second, seen in several
                if other is not entry and second != protocol and (scope & seen or "*" in scope | seen)
            }
            if others:
                found[entry].append(f"{host}:{number} is {protocol} here and not so in {', '.join(sorted(others))}")
    for entry, said in found.items():
        yield entry.finding(codes.CONFLICTING_PROTOCOLS, "; ".join(said))
