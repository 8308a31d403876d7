"""What ServiceEntries and workloads outside clusters mean beyond their shapes."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.gateway import port_of
from isthmus.assurance.validation.problems import Problem, entry
from isthmus.assurance.validation.terms import (
    Object,
    bad_host,
    bad_socket_path,
    dns_label,
    export_to,
    is_cidr,
    labels,
    selector,
)
from isthmus.model.addresses import is_ip

_DNS = ("DNS", "DNS_ROUND_ROBIN")
_PROBES = ("httpGet", "tcpSocket", "exec", "grpc")


def service_entry(item: Object) -> Iterator[Problem]:
    spec = item["spec"]
    resolution, endpoints = spec.get("resolution", "NONE"), spec.get("endpoints") or []
    ports = spec.get("ports") or []
    yield from export_to(spec.get("exportTo") or [], "spec.exportTo", none_allowed=True)
    chosen = spec.get("workloadSelector")
    yield from selector((chosen or {}).get("labels") or {}, "spec.workloadSelector.labels")
    yield from _hosts(spec["hosts"], resolution, bool(endpoints))
    yield from _ports(ports)
    for index, address in enumerate(spec.get("addresses") or []):
        where = f"spec.addresses[{index}]"
        if not is_cidr(address):
            yield Problem(codes.NOT_AN_ADDRESS, where, f"{address!r} is neither an address nor a CIDR")
        elif "/" in address and resolution not in ("NONE", "STATIC"):
            yield Problem(codes.CONTRADICTION, where, f"a CIDR is only for NONE and STATIC, not for {resolution}")
    if resolution == "NONE" and endpoints:
        yield Problem(
            codes.CONTRADICTION, "spec.endpoints", "NONE has none", "use resolution STATIC or DNS for endpoints"
        )
    if resolution == "DNS_ROUND_ROBIN" and len(endpoints) > 1:
        yield Problem(codes.CONTRADICTION, "spec.endpoints", "DNS_ROUND_ROBIN has at most one")
    if resolution == "STATIC" and not endpoints and chosen is None:
        yield Problem(
            codes.HAS_NO_EFFECT,
            "spec.endpoints",
            "STATIC without endpoints or workloadSelector leads nowhere",
            "list endpoints, or select workloads",
        )
    named = {port["name"] for port in ports}
    for index, endpoint in enumerate(endpoints):
        where = f"spec.endpoints[{index}]"
        yield from workload(endpoint, where, only_addresses=resolution == "STATIC")
        if str(endpoint.get("address")).startswith("unix://") and len(ports) > 1:
            yield Problem(codes.CONTRADICTION, f"{where}.address", "a socket serves one port")
        for name in endpoint.get("ports") or {}:
            if name not in named:
                yield Problem(codes.CONTRADICTION, entry(f"{where}.ports", name), f"{name!r} is none of spec.ports")


def _hosts(hosts: list[str], resolution: str, has_endpoints: bool) -> Iterator[Problem]:
    for index, host in enumerate(hosts):
        where = f"spec.hosts[{index}]"
        if host == "*" or bad_host(host):
            yield Problem(codes.NOT_A_HOST, where, bad_host(host) or "* is not a host")
        elif host.startswith("*") and resolution in _DNS and not has_endpoints:
            yield Problem(codes.NOT_A_HOST, where, f"{host!r} cannot be looked up", "use resolution NONE, or endpoints")
        if host in hosts[:index]:
            yield Problem(codes.TWICE, where, f"{host!r} is given twice")


def _ports(ports: list[Object]) -> Iterator[Problem]:
    for index, port in enumerate(ports):
        where = f"spec.ports[{index}]"
        yield from port_of(port, where)
        for key in ("name", "number"):
            if any(port[key] == other[key] for other in ports[:index]):
                yield Problem(codes.TWICE, f"{where}.{key}", f"{key} {port[key]} is given twice")


def workload_entry(item: Object) -> Iterator[Problem]:
    spec = item["spec"]
    yield from workload(spec, "spec")
    if not spec.get("address") and spec.get("network"):
        yield Problem(
            codes.RISKY,
            "spec.address",
            "has no address: it is reached through its network's gateway only",
            "set the address, if callers of the same network need it",
        )


def workload_group(item: Object) -> Iterator[Problem]:
    spec = item["spec"]
    yield from labels((spec.get("metadata") or {}).get("labels") or {}, "spec.metadata.labels")
    template = spec["template"]
    yield from labels(template.get("labels") or {}, "spec.template.labels")
    for name in template.get("ports") or {}:
        if not dns_label(name):
            yield Problem(codes.NOT_A_NAME, entry("spec.template.ports", name), f"{name!r} is not a port name")
    probe = spec.get("probe")
    if probe is not None and not any(probe.get(way) is not None for way in _PROBES):
        yield Problem(codes.MISSING, "spec.probe", f"needs one of {', '.join(_PROBES)}")


def workload(given: Object, path: str, only_addresses: bool = False) -> Iterator[Problem]:
    """An endpoint of a ServiceEntry, or a WorkloadEntry."""
    address = given.get("address") or ""
    if address.startswith("unix://"):
        if bad_socket_path(address):
            yield Problem(codes.NOT_AN_ADDRESS, f"{path}.address", bad_socket_path(address))
        if given.get("ports"):
            yield Problem(codes.CONTRADICTION, f"{path}.ports", "a socket has none")
    elif not address:
        if not given.get("network"):
            yield Problem(codes.MISSING, f"{path}.address", "is required where no network is given")
    elif not is_ip(address) and (only_addresses or bad_host(address) or address.startswith("*")):
        fix = "use an IP address, or resolution DNS" if only_addresses else ""
        yield Problem(codes.NOT_AN_ADDRESS, f"{path}.address", f"{address!r} is not an address of this kind", fix)
    for name in given.get("ports") or {}:
        if not dns_label(name):
            yield Problem(codes.NOT_A_NAME, entry(f"{path}.ports", name), f"{name!r} is not a port name")
    yield from labels(given.get("labels") or {}, f"{path}.labels")
