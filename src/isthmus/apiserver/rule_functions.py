"""Functions that Kubernetes adds to CEL: addresses, URLs, quantities, lists, sets and patterns. Text that is none of its kind raises ValueError.

What CEL has no type for (a URL, an address, a quantity) is a map with one canonical entry, so that equal ones are equal.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from isthmus.apiserver.validation import PATTERN_TEXT_MAX, pattern_of

Function = Callable[..., Any]
Value = dict[str, Any]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Range = ipaddress.IPv4Network | ipaddress.IPv6Network

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(|[numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)")
_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}

TEXT, LIST, ANY, BOOL, INT = "string", "list", "dyn", "bool", "int"


def all_functions() -> Iterator[tuple[str, str, tuple[str, ...], Function]]:
    """Name (with a dot before it for what is called on its first argument), result, arguments, and what it does."""
    yield "isURL", BOOL, (TEXT,), _reads(_url)
    yield "url", ANY, (TEXT,), lambda text: {"url": _url(text).geturl()}
    yield ".getScheme", TEXT, (ANY,), lambda url: _split(url).scheme
    yield ".getHost", TEXT, (ANY,), lambda url: _split(url).netloc.rpartition("@")[2]
    yield ".getHostname", TEXT, (ANY,), lambda url: _split(url).hostname or ""
    yield ".getPort", TEXT, (ANY,), lambda url: str(_split(url).port or "")
    yield ".getEscapedPath", TEXT, (ANY,), lambda url: _split(url).path
    yield ".getQuery", ANY, (ANY,), lambda url: parse_qs(_split(url).query, keep_blank_values=True)
    yield from _of_addresses()
    yield from _of_quantities()
    yield from _of_lists()
    yield ".find", TEXT, (TEXT, TEXT), lambda text, pattern: next(iter(_matches(pattern, text)), "")
    yield ".findAll", ANY, (TEXT, TEXT), lambda text, pattern: _matches(pattern, text)
    yield (
        ".findAll",
        ANY,
        (TEXT, TEXT, INT),
        lambda text, pattern, most: _matches(pattern, text)[: most if most >= 0 else None],
    )


def _of_addresses() -> Iterator[tuple[str, str, tuple[str, ...], Function]]:
    yield "isIP", BOOL, (TEXT,), _reads(_address)
    yield "ip", ANY, (TEXT,), lambda text: {"ip": str(_address(text))}
    yield "ip.isCanonical", BOOL, (TEXT,), lambda text: str(_address(text)) == text
    yield ".family", INT, (ANY,), lambda ip: _ip(ip).version
    yield ".isUnspecified", BOOL, (ANY,), lambda ip: _ip(ip).is_unspecified
    yield ".isLoopback", BOOL, (ANY,), lambda ip: _ip(ip).is_loopback
    yield ".isLinkLocalUnicast", BOOL, (ANY,), lambda ip: _ip(ip).is_link_local
    yield ".isLinkLocalMulticast", BOOL, (ANY,), lambda ip: _is_link_local_multicast(_ip(ip))
    yield ".isGlobalUnicast", BOOL, (ANY,), lambda ip: _is_global_unicast(_ip(ip))
    yield "isCIDR", BOOL, (TEXT,), _reads(_range)
    yield "cidr", ANY, (TEXT,), lambda text: {"cidr": str(_range(text)), "address": text.partition("/")[0]}
    yield ".prefixLength", INT, (ANY,), lambda cidr: _cidr(cidr).prefixlen
    yield ".ip", ANY, (ANY,), lambda cidr: {"ip": str(_address(cidr["address"]))}
    yield ".masked", ANY, (ANY,), lambda cidr: cidr | {"address": str(_cidr(cidr).network_address)}
    yield ".containsIP", BOOL, (ANY, ANY), lambda cidr, ip: _ip(ip) in _cidr(cidr)
    yield ".containsCIDR", BOOL, (ANY, ANY), lambda outer, inner: _contains(_cidr(outer), _cidr(inner))


def _of_quantities() -> Iterator[tuple[str, str, tuple[str, ...], Function]]:
    yield "isQuantity", BOOL, (TEXT,), _reads(_number)
    yield "quantity", ANY, (TEXT,), lambda text: _quantity(_number(text))
    yield ".sign", INT, (ANY,), lambda one: _compared(_amount(one), Decimal())
    yield ".isInteger", BOOL, (ANY,), lambda one: _amount(one) == _amount(one).to_integral_value()
    yield ".asInteger", INT, (ANY,), lambda one: _whole(_amount(one))
    yield ".asApproximateFloat", "double", (ANY,), lambda one: float(_amount(one))
    yield ".add", ANY, (ANY, ANY), lambda one, other: _quantity(_amount(one) + _amount(other))
    yield ".sub", ANY, (ANY, ANY), lambda one, other: _quantity(_amount(one) - _amount(other))
    yield ".isGreaterThan", BOOL, (ANY, ANY), lambda one, other: _amount(one) > _amount(other)
    yield ".isLessThan", BOOL, (ANY, ANY), lambda one, other: _amount(one) < _amount(other)
    yield ".compareTo", INT, (ANY, ANY), lambda one, other: _compared(_amount(one), _amount(other))


def _of_lists() -> Iterator[tuple[str, str, tuple[str, ...], Function]]:
    yield (
        ".isSorted",
        BOOL,
        (LIST,),
        lambda items: all(one <= next_ for one, next_ in pairwise(items)),
    )
    yield ".sum", ANY, (LIST,), sum
    yield ".min", ANY, (LIST,), min
    yield ".max", ANY, (LIST,), max
    yield ".indexOf", INT, (LIST, ANY), lambda items, one: items.index(one) if one in items else -1
    yield ".lastIndexOf", INT, (LIST, ANY), _last_index
    yield "sets.contains", BOOL, (LIST, LIST), _has_all
    yield "sets.equivalent", BOOL, (LIST, LIST), lambda one, other: _has_all(one, other) and _has_all(other, one)
    yield "sets.intersects", BOOL, (LIST, LIST), lambda one, other: any(each in one for each in other)


def _reads(read: Function) -> Function:
    def check(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    return check


def _url(text: str) -> SplitResult:
    """An absolute one, or an absolute path, as Go's `url.ParseRequestURI` takes it."""
    parts = urlsplit(text)
    if not (parts.scheme or text.startswith("/")) or " " in text:
        raise ValueError(f"{text!r} is not a URL")
    return parts


def _split(url: Value) -> SplitResult:
    return urlsplit(url["url"])


def _address(text: str) -> Address:
    address = ipaddress.ip_address(text)
    if address.version == 6 and (address.scope_id or address.ipv4_mapped):
        raise ValueError(f"{text!r} has a zone, or an IPv4 address in it")
    return address


def _ip(value: Value) -> Address:
    return _address(value["ip"])


def _is_link_local_multicast(address: Address) -> bool:
    local = "224.0.0.0/24" if address.version == 4 else "ff02::/16"
    return address in ipaddress.ip_network(local)


def _is_global_unicast(address: Address) -> bool:
    special = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    return not special and str(address) != "255.255.255.255"


def _range(text: str) -> Range:
    if "/" not in text:
        raise ValueError(f"{text!r} has no length of a prefix")
    return ipaddress.ip_network(text, strict=False)


def _cidr(value: Value) -> Range:
    return _range(value["cidr"])


def _contains(outer: Range, inner: Range) -> bool:
    if isinstance(outer, ipaddress.IPv4Network):
        return isinstance(inner, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, ipaddress.IPv6Network) and inner.subnet_of(outer)


def _number(text: str) -> Decimal:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a quantity")
    digits, suffix = found.groups()
    try:
        return (
            Decimal(digits + suffix) if suffix[:1] in ("e", "E") and suffix[1:] else Decimal(digits) * _SUFFIXES[suffix]
        )
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a quantity") from None


def _quantity(number: Decimal) -> Value:
    return {"quantity": f"{number.normalize():f}"}


def _amount(value: Value) -> Decimal:
    return Decimal(value["quantity"])


def _whole(number: Decimal) -> int:
    if number != number.to_integral_value():
        raise ValueError(f"{number} is not an integer")
    return int(number)


def _compared(one: Decimal, other: Decimal) -> int:
    return (one > other) - (one < other)


def _last_index(items: list[Any], one: Any) -> int:
    return len(items) - 1 - items[::-1].index(one) if one in items else -1


def _has_all(items: list[Any], wanted: list[Any]) -> bool:
    return all(each in items for each in wanted)


def _matches(pattern: str, text: str) -> list[str]:
    readable = pattern_of(pattern)
    if readable is None:
        raise ValueError(f"{pattern!r} is not a pattern that can be read")
    if len(text) > PATTERN_TEXT_MAX:
        raise ValueError(f"a text of {len(text)} characters is not looked at, but up to {PATTERN_TEXT_MAX}")
    return [match.group() for match in readable.finditer(text)]
