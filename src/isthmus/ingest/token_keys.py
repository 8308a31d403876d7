"""Keys that tokens are checked with (JSON Web Key Sets). Envoy refuses a whole listener for a set without a usable key, so this is known before.

Keys that are at an address come in from outside, like objects do: whoever reads a mesh hands in what was fetched.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId
from isthmus.model.security import FetchedKeys, KeySource, RequestAuthentication, TokenRule

_FIELDS = {"RSA": ("n", "e"), "EC": ("x", "y"), "oct": ("k",), "OKP": ("x",)}
"""What each type of key has to have (RFC 7518, section 6; RFC 8037)."""


def check_keys(text: str) -> None:
    """Raises ValueError, with the reason, where no key of the set can be used."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("jwks is not a JSON document") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not keys:
        raise ValueError("jwks has no list of keys, or an empty one")
    if not any(_is_usable(key) for key in keys):
        raise ValueError(f"jwks has no key of type {', '.join(_FIELDS)} with all of its fields")


def check_address(text: str) -> None:
    """Raises ValueError, with the reason, for a jwksUri that nobody can fetch from."""
    try:
        parts = urlsplit(text)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ValueError(f"jwksUri cannot be read: {error}") from None
    if not is_usable:
        raise ValueError("there is neither jwks nor a jwksUri that begins with http:// or https:// and a host")


def addresses_of(rules: Iterable[RequestAuthentication], source: KeySource) -> tuple[str, ...]:
    """What the control plane is to fetch."""
    if source is KeySource.PROXIES:
        return ()
    return tuple(sorted({token.jwks_uri for rule in rules for token in rule.rules if token.jwks_uri}))


def with_keys(
    rule: RequestAuthentication, fetched: Mapping[str, FetchedKeys], source: KeySource, cluster: ClusterId
) -> tuple[RequestAuthentication, tuple[Issue, ...]]:
    """The same with the keys that were fetched in place of their addresses. Where there are none yet, proxies fetch them; and where only
    the control plane may, the issuer's tokens prove nothing until it has them.
    """
    if source is KeySource.PROXIES:
        return rule, ()
    issues = tuple(
        _not_fetched(rule, token, known, source, cluster)
        for token in rule.rules
        if (known := fetched.get(token.jwks_uri)) is not None and known.wrong
    )
    tokens = []
    for token in rule.rules:
        known = fetched.get(token.jwks_uri, FetchedKeys()) if token.jwks_uri else FetchedKeys()
        if known.jwks:
            tokens.append(replace(token, jwks=known.jwks, jwks_uri=""))
        elif token.jwks or source is KeySource.HYBRID:
            tokens.append(token)
    return replace(rule, rules=tuple(tokens)), issues


def _not_fetched(
    rule: RequestAuthentication, token: TokenRule, known: FetchedKeys, source: KeySource, cluster: ClusterId
) -> Issue:
    if known.jwks:
        meanwhile = f"those of {known.since} stay in use"
    elif source is KeySource.HYBRID:
        meanwhile = "proxies try to fetch them"
    else:
        meanwhile = "its tokens prove nothing"
    return Issue(
        subject=Subject(cluster, "RequestAuthentication", rule.namespace, rule.name),
        code="ISM0306",
        severity=Severity.WARNING if known.jwks or source is KeySource.HYBRID else Severity.ERROR,
        what=f"keys of {token.issuer} are not to be had from {token.jwks_uri}: {known.wrong}; {meanwhile}",
        fix="make the address answer the control plane with a key set, or paste the set into jwks",
        field="spec.jwtRules",
    )


def _is_usable(key: object) -> bool:
    if not isinstance(key, dict) or key.get("kty") not in _FIELDS:
        return False
    return all(_is_encoded(key.get(field)) for field in _FIELDS[key["kty"]])


def _is_encoded(value: object) -> bool:
    if not isinstance(value, str) or not value:
        return False
    try:
        base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return False
    return True
