"""Words that many kinds share: host names, addresses, ports, labels, workload selectors, visibility, target references."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem, entry
from isthmus.model.addresses import is_ip
from isthmus.model.regular_expressions import not_re2

Object = dict[str, Any]
_DNS_LABEL = re.compile(r"[a-z0-9A-Z]([-a-z0-9A-Z]*[a-z0-9A-Z])?")
_SNI_LABEL = re.compile(r"[a-z0-9A-Z_]([-a-z0-9A-Z_]*[a-z0-9A-Z_])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TARGET_KINDS = {
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("networking.istio.io", "ServiceEntry"),
    ("", "Service"),
    ("core", "Service"),
}


def dns_label(value: str) -> bool:
    return len(value) <= 63 and _DNS_LABEL.fullmatch(value) is not None


@lru_cache(maxsize=1024)
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
    for label in ([first] if first or not labels[0] else []) + labels[1:]:
        if len(label) > 63 or not known.fullmatch(label):
            return f"host {host!r} is invalid: {label!r} is not a DNS label (a wildcard stands only at the start)"
    return ""


def covers(host: str, name: str) -> bool:
    """Whether the host, or its wildcard, stands for the name too."""
    return host == name or (host.startswith("*") and name.endswith(host[1:]))


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


def bad_url(value: str, schemes: tuple[str, ...] = ("http", "https")) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        return f"{value!r} is not a URL: {error}"
    if parts.scheme not in schemes:
        return f"{value!r}: the scheme must be {' or '.join(name for name in schemes if name)}"
    if _ESCAPE.search(value) or " " in value:
        return f"{value!r} is not a URL: it has a bad escape or a space"
    needs_host = parts.scheme in ("http", "https")
    return f"{value!r} has no host, or a bad port" if needs_host and (not parts.hostname or port == 0) else ""


def selector(labels: Object, path: str) -> Iterator[Problem]:
    for key, value in labels.items():
        if not key:
            yield Problem(codes.BAD_LABEL, path, "keys must not be empty")
        elif "*" in key or "*" in str(value):
            yield Problem(codes.BAD_LABEL, entry(path, key), f"wildcards are not supported: {key}={value}")


def labels(given: Object, path: str) -> Iterator[Problem]:
    for key, value in given.items():
        name = key.rpartition("/")[2]
        if not name or not _LABEL_VALUE.fullmatch(name) or len(name) > 63:
            yield Problem(codes.BAD_LABEL, entry(path, key), f"{key!r} is not a label name")
        elif len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            yield Problem(codes.BAD_LABEL, entry(path, key), f"{value!r} is not a label value")


def export_to(values: list[str], path: str, none_allowed: bool = False) -> Iterator[Problem]:
    """Namespaces, `.` (own), `*` (all); `~` (none) where allowed, and then alone. None twice."""
    if len(set(values)) != len(values):
        yield Problem(codes.BAD_VISIBILITY, path, "a value is given twice")
    for index, value in enumerate(values):
        if value == "~":
            if not none_allowed:
                yield Problem(codes.BAD_VISIBILITY, entry(path, index), "~ is not allowed for this kind")
        elif value not in (".", "*") and not dns_label(value):
            yield Problem(codes.BAD_VISIBILITY, entry(path, index), f"{value!r} is not a namespace")
    if len(values) > 1 and ("*" in values or "~" in values):
        yield Problem(codes.BAD_VISIBILITY, path, "* and ~ stand alone")


def targets(spec: Object) -> Iterator[Problem]:
    one = spec.get("targetRef")
    named = [("spec.targetRef", one)] if one else []
    named += [(f"spec.targetRefs[{index}]", each) for index, each in enumerate(spec.get("targetRefs") or [])]
    for path, reference in named:
        which = (reference.get("group", ""), reference["kind"])
        if which not in _TARGET_KINDS:
            yield Problem(codes.BAD_TARGET, path, f"{which[0]}/{which[1]} cannot be targeted")
        if reference.get("namespace"):
            yield Problem(codes.BAD_TARGET, f"{path}.namespace", "a target in another namespace is not supported")


def selected(spec: Object) -> Iterator[Problem]:
    """What a policy is bound to."""
    yield from selector((spec.get("selector") or {}).get("matchLabels") or {}, "spec.selector.matchLabels")
    yield from targets(spec)


def positive_port(port: Any, path: str) -> Iterator[Problem]:
    if not 1 <= int(port or 0) <= 65535:
        yield Problem(codes.BAD_PORT, path, f"a port is between 1 and 65535, is {port}")


def regex(value: str, path: str) -> Iterator[Problem]:
    """RE2, and not empty."""
    if not value:
        yield Problem(codes.BAD_REGEX, path, "a regular expression must not be empty")
        return
    problem = not_re2(value)
    if problem:
        yield Problem(codes.BAD_REGEX, path, f"{value!r} is not a regular expression: {problem}")
