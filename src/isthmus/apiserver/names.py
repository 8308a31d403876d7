"""Which texts are names: of objects, labels, ports, addresses. Each function says what is wrong, in the words that clients know."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_PART = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_PART})?"
_KEY = "[-._a-zA-Z0-9]+"
_LABEL_MAX, _SUBDOMAIN_MAX = 63, 253
_QUALIFIED_MAX = _SUBDOMAIN_MAX + 1 + _LABEL_MAX
_PATTERNS = {pattern: re.compile(pattern) for pattern in (_LABEL, _SUBDOMAIN, _PART, _VALUE, _KEY)}

PROTOCOLS = ("SCTP", "TCP", "UDP")
"""Of ports, of containers and of Services."""

_CHARACTERS = "alphanumeric characters, '-', '_' or '.'"
_ENDS = "must start and end with an alphanumeric character"
_OF_PARTS = f"must consist of {_CHARACTERS}, and {_ENDS} (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_PART}')"


def _used(pattern: str, *examples: str) -> str:
    told = ",  or ".join(f"'{example}'" for example in examples)
    return f"(e.g. {told}, regex used for validation is '{pattern}')"


def _longer(text: str, most: int, unit: str = "bytes") -> Iterator[str]:
    if len(text.encode()) > most:
        yield f"must be no more than {most} {unit}"


class _Right:
    """Tells whether a text is right. Most come again: those that were right are remembered, within a bound of bytes."""

    def __init__(self, is_right: Callable[[str], object], longest: int, kept_max: int = 4096) -> None:
        self._is_right = is_right
        self._longest = longest
        self._kept_max = kept_max
        self._kept: set[str] = set()

    def __call__(self, text: str) -> bool:
        kept = self._kept
        if text in kept:
            return True
        if len(text) > self._longest or not self._is_right(text):
            return False
        if len(kept) >= self._kept_max:
            kept.clear()
        kept.add(text)
        return True

    def all(self, texts: Collection[str]) -> bool:
        """Of many at once, without a step of the interpreter for each that is known."""
        return self._kept.issuperset(texts) or all(map(self, texts))


is_label = _Right(_PATTERNS[_LABEL].fullmatch, _LABEL_MAX)
is_subdomain = _Right(_PATTERNS[_SUBDOMAIN].fullmatch, _SUBDOMAIN_MAX)
is_qualified = _Right(lambda text: not any(_qualified(text)), _QUALIFIED_MAX)
is_label_value = _Right(_PATTERNS[_VALUE].fullmatch, _LABEL_MAX)


def label(text: str) -> Iterator[str]:
    """One label of a DNS name."""
    if is_label(text):
        return
    yield from _longer(text, _LABEL_MAX, "characters")
    if "." in text and _PATTERNS[_SUBDOMAIN].fullmatch(text):
        yield "must not contain dots"
    elif not _PATTERNS[_LABEL].fullmatch(text):
        consist = f"must consist of lower case alphanumeric characters or '-', and {_ENDS}"
        yield f"a lowercase RFC 1123 label {consist} {_used(_LABEL, 'my-name', '123-abc')}"


def subdomain(text: str) -> Iterator[str]:
    """A DNS name, as most objects' names are."""
    if is_subdomain(text):
        return
    yield from _longer(text, _SUBDOMAIN_MAX, "characters")
    if not _PATTERNS[_SUBDOMAIN].fullmatch(text):
        consist = f"must consist of lower case alphanumeric characters, '-' or '.', and {_ENDS}"
        yield f"a lowercase RFC 1123 subdomain {consist} {_used(_SUBDOMAIN, 'example.com')}"


def path_segment(text: str) -> Iterator[str]:
    """Anything that a path of the API can hold, as the names of roles."""
    if text in (".", ".."):
        yield f"may not be '{text}'"
    yield from (f"may not contain '{letter}'" for letter in "/%" if letter in text)


def qualified(text: str) -> Iterator[str]:
    """The key of a label or an annotation: a name, behind a DNS name and a slash or not."""
    if not is_qualified(text):
        yield from _qualified(text)


def _qualified(text: str) -> Iterator[str]:
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        yield f"a valid label key {_OF_PARTS} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return
    if slash and not prefix:
        yield "prefix part must be non-empty"
    elif slash:
        yield from (f"prefix part {fault}" for fault in subdomain(prefix))
    if not name:
        yield "name part must be non-empty"
    yield from (f"name part {fault}" for fault in _longer(name, 63))
    if not _PATTERNS[_PART].fullmatch(name):
        yield f"name part {_OF_PARTS}"


def label_value(text: str) -> Iterator[str]:
    if is_label_value(text):
        return
    yield from _longer(text, 63)
    if not _PATTERNS[_VALUE].fullmatch(text):
        consist = f"must be an empty string or consist of {_CHARACTERS}, and {_ENDS}"
        yield f"a valid label {consist} {_used(_VALUE, 'MyValue', 'my_value', '12345')}"


def config_key(text: str) -> Iterator[str]:
    """Of a ConfigMap or a Secret: it becomes the name of a file."""
    yield from _longer(text, 253, "characters")
    if not _PATTERNS[_KEY].fullmatch(text):
        yield f"a valid config key must consist of {_CHARACTERS} {_used(_KEY, 'key.name', 'KEY_NAME', 'key-name')}"
    elif text in (".", ".."):
        yield f"must not be '{text}'"
    elif text.startswith(".."):
        yield "must not start with '..'"


def port_name(text: str) -> Iterator[str]:
    """Of a container's port, and of what a Service's port leads to."""
    yield from _longer(text, 15, "characters")
    if not re.fullmatch("[-a-z0-9]+", text):
        yield "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search("[a-z]", text):
        yield "must contain at least one letter (a-z)"
    if "--" in text:
        yield "must not contain consecutive hyphens"
    if text.startswith("-") or text.endswith("-"):
        yield "must not begin or end with a hyphen"


def port(number: object) -> Iterator[str]:
    if not isinstance(number, int) or not 1 <= number <= 65535:
        yield "must be between 1 and 65535, inclusive"


def address(text: str) -> Iterator[str]:
    """An IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        is_padded = re.fullmatch(r"\d+(\.\d+){3}", text) and all(int(part) < 256 for part in text.split("."))
        yield (
            "must not have leading 0s" if is_padded else "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        )


def endpoint_address(text: str) -> Iterator[str]:
    """An IP address at which another machine can be. Not one that means this machine, or this link."""
    if faults := list(address(text)):
        yield from faults
        return
    found = ipaddress.ip_address(text)
    if found.is_unspecified:
        yield f"may not be unspecified ({text})"
    if found.is_loopback:
        yield "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    if found.is_link_local:
        yield "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    if text.startswith("224.0.0.") or (found.version == 6 and found in _LINK_MULTICAST):
        yield "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"


_USABLE = re.compile(
    r"(?!127\.|169\.254\.|224\.0\.0\.|0\.0\.0\.0$)(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}"
)
_IPV4_MAX = 15
_LINK_MULTICAST = ipaddress.ip_network("ff02::/16")


is_usable_ipv4 = _Right(_USABLE.fullmatch, _IPV4_MAX, kept_max=16384)
"""Most endpoints' addresses, told without taking them apart. What is not one may be right all the same, as `endpoint_address` says."""


def network(text: str) -> Iterator[str]:
    try:
        ipaddress.ip_network(text.strip(), strict=False)
        if "/" in text:
            return
    except ValueError:
        pass
    yield "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
