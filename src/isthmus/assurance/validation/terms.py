"""Words that many kinds share: host names, addresses, ports, labels, workload selectors, visibility, target references."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

Object = dict[str, Any]
_DNS_LABEL = re.compile(r"[a-z0-9A-Z]([-a-z0-9A-Z]*[a-z0-9A-Z])?")
_SNI_LABEL = re.compile(r"[a-z0-9A-Z_]([-a-z0-9A-Z_]*[a-z0-9A-Z_])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_TARGET_KINDS = {
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("networking.istio.io", "ServiceEntry"),
    ("", "Service"),
    ("core", "Service"),
}


def dns_label(value: str) -> bool:
    return len(value) <= 63 and _DNS_LABEL.fullmatch(value) is not None


def bad_host(host: str, sni: bool = False) -> str:
    """Why this is not a DNS name whose first label may hold a wildcard at its start; "" when it is."""
    if not host:
        return "a host must not be empty"
    if len(host) > 255:
        return "a host is at most 255 characters long"
    if is_ip(host) or host == "*":
        return ""
    labels = host.removesuffix(".").split(".")
    first = labels[0].removeprefix("*").removeprefix("-") if labels[0].startswith("*") else labels[0]
    known = _SNI_LABEL if sni else _DNS_LABEL
    for label in ([first] if first else []) + labels[1:]:
        if len(label) > 63 or not known.fullmatch(label):
            return f"host {host!r} is invalid: {label!r} is not a DNS label (a wildcard stands only at the start)"
    return ""


def is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def is_cidr(value: str) -> bool:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return True


def bad_socket_path(address: str, abstract: bool = True) -> str:
    path = address.removeprefix("unix://")
    if path.startswith("@"):
        return "" if abstract else f"{address}: an abstract socket cannot be used here"
    if not path.startswith("/"):
        return f"{address}: a socket path must be absolute"
    return f"{address}: a socket must not be a folder" if path.endswith("/") else ""


def bad_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        return f"{value!r} is not a URL: {error}"
    if parts.scheme not in ("http", "https"):
        return f"{value!r}: the scheme must be http or https"
    return "" if parts.hostname and port != 0 else f"{value!r} has no host, or a bad port"


def selector(labels: Object, path: str) -> Iterator[str]:
    for key, value in labels.items():
        if not key or "*" in key or "*" in str(value):
            yield f"{path}: keys must not be empty, and wildcards are not supported: {key}={value}"


def labels(given: Object, path: str) -> Iterator[str]:
    for key, value in given.items():
        name = key.rpartition("/")[2]
        if not name or not _LABEL_VALUE.fullmatch(name) or len(name) > 63:
            yield f"{path}: {key!r} is not a label name"
        elif len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            yield f"{path}[{key}]: {value!r} is not a label value"


def export_to(values: list[str], path: str, none_allowed: bool = False) -> Iterator[str]:
    """Namespaces, `.` (own), `*` (all); `~` (none) where allowed, and then alone. None twice."""
    if len(set(values)) != len(values):
        yield f"{path}: a value is given twice"
    for value in values:
        if value == "~":
            if not none_allowed:
                yield f"{path}: ~ is not allowed for this kind"
        elif value not in (".", "*") and not dns_label(value):
            yield f"{path}: {value!r} is not a namespace"
    if len(values) > 1 and ("*" in values or "~" in values):
        yield f"{path}: * and ~ stand alone"


def targets(spec: Object) -> Iterator[str]:
    one = spec.get("targetRef")
    for reference in [*([one] if one else []), *(spec.get("targetRefs") or [])]:
        which = (reference.get("group", ""), reference["kind"])
        if which not in _TARGET_KINDS:
            yield f"spec.targetRefs: {which[0]}/{which[1]} cannot be targeted"
        if reference.get("namespace"):
            yield "spec.targetRefs: a target in another namespace is not supported"


def positive_port(port: Any, path: str) -> Iterator[str]:
    if not 1 <= int(port or 0) <= 65535:
        yield f"{path}: a port is between 1 and 65535, is {port}"
