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

WELL_KNOWN = "/.well-known/openid-configuration"
_NOT_ASKED = "nobody has asked there yet (commands that read objects do not)"
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


def discovery_address(issuer: str) -> str:
    """Of the document in which an issuer says where its keys are (OpenID Connect Discovery 1.0, section 4). Raises ValueError."""
    parts = urlsplit(issuer)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(
            "there is neither jwks nor jwksUri, and the issuer is no address under which it could say where its keys are"
        )
    return issuer.rstrip("/") + WELL_KNOWN


def keys_address(issuer: str, document: str) -> str:
    """Where an issuer's document says that its keys are. Raises ValueError for what is no such document, or another issuer's."""
    try:
        said = json.loads(document)
    except (ValueError, RecursionError):
        raise ValueError("the issuer's document is not a JSON document") from None
    found = said.get("jwks_uri") if isinstance(said, dict) else None
    if not isinstance(found, str):
        raise ValueError("the issuer's document has no jwks_uri")
    if said.get("issuer") != issuer:
        raise ValueError(f"the document is of another issuer, {str(said.get('issuer'))[:200]!r}")
    check_address(found)
    return found


def addresses_of(rules: Iterable[RequestAuthentication], source: KeySource) -> tuple[str, ...]:
    """What the control plane is to fetch. An issuer's own document is none that proxies could follow."""
    tokens = [token for rule in rules for token in rule.rules]
    if source is KeySource.PROXIES:
        return tuple(sorted({token.discovery for token in tokens if token.discovery}))
    return tuple(sorted({token.address for token in tokens if token.address}))


def with_keys(
    rule: RequestAuthentication, fetched: Mapping[str, FetchedKeys], source: KeySource, cluster: ClusterId
) -> tuple[RequestAuthentication, tuple[Issue, ...]]:
    """The same with the keys that were fetched in place of their addresses. Where there are none yet, proxies fetch them; and where only
    the control plane may, or can (`discovery`), the issuer's tokens prove nothing until it has them.
    """
    issues = []
    tokens = []
    for token in rule.rules:
        by_proxy = source is not KeySource.CONTROL_PLANE and not token.discovery
        if token.jwks or (source is KeySource.PROXIES and by_proxy):
            tokens.append(token)
            continue
        known = fetched.get(token.address, FetchedKeys(wrong="" if by_proxy else _NOT_ASKED))
        if known.wrong:
            issues.append(_not_fetched(rule, token, known, cluster, by_proxy=by_proxy))
        if known.jwks:
            tokens.append(replace(token, jwks=known.jwks, jwks_uri="", discovery=""))
        elif by_proxy:
            tokens.append(token)
    return replace(rule, rules=tuple(tokens)), tuple(issues)


def _not_fetched(
    rule: RequestAuthentication, token: TokenRule, known: FetchedKeys, cluster: ClusterId, *, by_proxy: bool
) -> Issue:
    if known.jwks:
        meanwhile = f"those of {known.since} stay in use"
    elif by_proxy:
        meanwhile = "proxies try to fetch them"
    else:
        meanwhile = "its tokens prove nothing"
    return Issue(
        subject=Subject(cluster, "RequestAuthentication", rule.namespace, rule.name),
        code="ISM0306",
        severity=Severity.WARNING if known.jwks or by_proxy else Severity.ERROR,
        what=f"keys of {token.issuer} are not to be had from {token.address}: {known.wrong}; {meanwhile}",
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
