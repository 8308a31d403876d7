"""Secrets that Gateways refer to: there, readable, a pair, and not expired."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from datetime import datetime

from isthmus.assurance.analysis.gateways import NETWORKING, is_default, selector_of, servers_of, workloads_of
from isthmus.assurance.analysis.items import Index, Item
from isthmus.assurance.catalogue import gateways as codes
from isthmus.assurance.catalogue import routing
from isthmus.assurance.catalogue.code import Code
from isthmus.model.issues import Issue
from isthmus.trust.x509 import BadCertificate, matches, parse_certificates, parse_key

_PAIRS = (("tls.crt", "tls.key"), ("cert", "key"))
_GATEWAY_API = "gateway.networking.k8s.io"


def gateway_credentials(index: Index) -> Iterator[Issue]:
    for gateway in index.each("Gateway", NETWORKING):
        for number, server in enumerate(servers_of(gateway)):
            tls = server.get("tls") or {}
            names = [name for name in [tls.get("credentialName"), *(tls.get("credentialNames") or [])] if name]
            for name in names:
                path = f"spec.servers[{number}].tls.credentialName"
                yield from _credential(index, gateway, name, path, tls.get("mode") or "")
    for gateway in (*index.each("Gateway", _GATEWAY_API), *index.each("ListenerSet", _GATEWAY_API)):
        for number, listener in enumerate(gateway.spec.get("listeners") or []):
            for place, reference in enumerate((listener.get("tls") or {}).get("certificateRefs") or []):
                if reference.get("kind", "Secret") != "Secret":
                    continue
                path = f"spec.listeners[{number}].tls.certificateRefs[{place}]"
                namespace = reference.get("namespace") or gateway.namespace
                yield from _secret(index, gateway, namespace, reference.get("name") or "", path)


def _credential(index: Index, gateway: Item, name: str, path: str, mode: str) -> Iterator[Issue]:
    """A gateway reads Secrets of its own namespace: the one that its Pods are in."""
    namespaces = {pod.namespace for pod in workloads_of(index, gateway)}
    if not namespaces and is_default(selector_of(gateway)):
        namespaces = {index.settings.root_namespace}
    if not namespaces:
        yield gateway.finding(
            routing.NOT_FOUND, f"no Pod is selected, so there is nobody to read Secret {name}", path=path
        )
    for namespace in sorted(namespaces):
        yield from _secret(index, gateway, namespace, name, path)


def _secret(index: Index, gateway: Item, namespace: str, name: str, path: str) -> Iterator[Issue]:
    secrets = [secret for secret in index.anywhere("Secret") if (secret.namespace, secret.name) == (namespace, name)]
    if not secrets and "Secret" not in index.unread:
        yield gateway.finding(routing.NOT_FOUND, f"there is no Secret {namespace}/{name}", path=path)
    if not secrets:
        return
    code, problem = bad_pair(secrets[0], index.settings.now)
    if problem:
        yield gateway.finding(code, f"Secret {namespace}/{name} {problem}", path=path)


def bad_pair(secret: Item, now: datetime | None) -> tuple[Code, str]:
    """Why this Secret is not a certificate with its key; "" when it is."""
    data, plain = secret.value.get("data") or {}, secret.value.get("stringData") or {}
    pair = next((pair for pair in _PAIRS if set(pair) <= data.keys() | plain.keys()), None)
    if pair is None:
        return codes.INVALID_CREDENTIAL, "has neither tls.crt and tls.key nor cert and key"
    try:
        pem, key_pem = (plain.get(name) or base64.b64decode(data[name], validate=True).decode() for name in pair)
    except (binascii.Error, UnicodeDecodeError):
        return codes.INVALID_CREDENTIAL, "has values that are not base64 of text"
    try:
        chain = parse_certificates(pem)
        leaf, key = chain[0], parse_key(key_pem)
    except (BadCertificate, IndexError) as error:
        return codes.INVALID_CREDENTIAL, f"cannot be read: {error}"
    if now is not None and leaf.not_valid_after_utc <= now:
        return codes.INVALID_CREDENTIAL, f"has a certificate that expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M}Z"
    return codes.WRONG_KEY, "" if matches(leaf, key) else "has a key that is not the certificate's"
