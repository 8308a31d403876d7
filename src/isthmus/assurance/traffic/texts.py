"""Envoy's matchers of text, headers, paths and addresses, over their proto3 JSON form."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]

_NEEDLESS = re.compile("%(2d|2e|5f|7e|3[0-9]|[46][1-9a-f]|[57][0-9a])", re.I)
"""Letters, digits and `-._~`, encoded: they mean the same as they are (RFC 3986, 2.3)."""

_OLD_HEADER_MATCHES = {
    "exactMatch": "exact",
    "prefixMatch": "prefix",
    "suffixMatch": "suffix",
    "containsMatch": "contains",
    "safeRegexMatch": "safeRegex",
}


def matches_text(matcher: Object, value: str) -> bool:
    """A StringMatcher. Expressions have to match the whole text, as Envoy's do."""
    if "safeRegex" in matcher:
        return re.fullmatch(matcher["safeRegex"].get("regex", ""), value) is not None
    fold = matcher.get("ignoreCase", False)
    text = value.lower() if fold else value

    def wanted(key: str) -> str:
        return str(matcher[key]).lower() if fold else str(matcher[key])

    if "exact" in matcher:
        return text == wanted("exact")
    if "prefix" in matcher:
        return text.startswith(wanted("prefix"))
    if "suffix" in matcher:
        return text.endswith(wanted("suffix"))
    return "contains" in matcher and wanted("contains") in text


def matches_header(matcher: Object, headers: Mapping[str, str]) -> bool:
    """A HeaderMatcher. A header that is not there matches nothing, inverted or not, unless it is to count as empty."""
    found = headers.get(str(matcher.get("name", "")).lower())
    inverted = bool(matcher.get("invertMatch", False))
    said = _header_text(matcher)
    if said is None and "rangeMatch" not in matcher:
        wanted = bool(matcher.get("presentMatch", True))
        return ((found is not None) == wanted) != inverted
    if found is None and not matcher.get("treatMissingHeaderAsEmpty", False):
        return False
    value = found or ""
    if said is None:
        return _in_range(matcher["rangeMatch"], value) != inverted
    return matches_text(said, value) != inverted


def _header_text(matcher: Object) -> Object | None:
    if "stringMatch" in matcher:
        return dict(matcher["stringMatch"])
    return next(({new: matcher[old]} for old, new in _OLD_HEADER_MATCHES.items() if old in matcher), None)


def _in_range(limits: Object, value: str) -> bool:
    try:
        return int(limits.get("start", 0)) <= int(value) < int(limits.get("end", 0))
    except ValueError:
        return False


def path_of(target: str) -> str:
    """Without query and fragment."""
    return re.split(r"[?#]", target, maxsplit=1)[0]


def path_as_seen(manager: Object, target: str) -> str:
    """What policies and routes see of a path, in Envoy's order: encoded slashes, dots, repeated slashes. The query stays."""
    path = path_of(target)
    rest = target[len(path) :]
    if manager.get("pathWithEscapedSlashesAction") == "UNESCAPE_AND_FORWARD":
        path = re.sub("%2f", "/", re.sub("%5c", "\\\\", path, flags=re.I), flags=re.I)
    if manager.get("normalizePath"):
        path = normal_path(path)
    if manager.get("mergeSlashes"):
        path = re.sub("/+", "/", path)
    return path + rest


def normal_path(path: str) -> str:
    """RFC 3986, 5.2.4, as Envoy does with normalize_path: `/a/../b` is `/b`, so is `\\b`, and what need not be encoded is not."""
    path = _NEEDLESS.sub(lambda found: chr(int(found[1], 16)), path.replace("\\", "/"))
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if path.endswith(("/.", "/..")):
        kept.append("")
    return "/" + "/".join(kept)


def matches_template(template: str, path: str) -> bool:
    """A URI template: `*` is one segment, `**` any number, `{name}` and `{name=pattern}` are these with a name."""
    pattern = re.sub(r"\{[^}=]*\}", "*", template)
    pattern = re.sub(r"\{[^}=]*=([^}]*)\}", r"\1", pattern)
    expression = "".join(
        {"**": ".*", "*": "[^/]+"}.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*)", pattern)
    )
    return re.fullmatch(expression, path) is not None


def is_within(block: Object, address: str) -> bool:
    """Whether an address is in a CidrRange. What is no IP address is in none."""
    try:
        network = ipaddress.ip_network(f"{block['addressPrefix']}/{block.get('prefixLen', 0)}", strict=False)
        return ipaddress.ip_address(address) in network
    except (KeyError, ValueError):
        return False
