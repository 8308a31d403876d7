"""The questions about identity and trust that `isthmus batch` answers. Certificates and bundles are given as text or as a file's path."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

Object = dict[str, Any]

_FETCH_SECONDS = 10.0


def _spiffe_parse(params: Object) -> Object:
    from isthmus.model.identity import SpiffeId, trust_domain_of

    if "id" in params:
        return _judged(lambda: {"id": str(SpiffeId.parse(str(params["id"])))})
    return _judged(lambda: {"trustDomain": str(trust_domain_of(str(params["trustDomain"])))})


def _spiffe_bundle(params: Object) -> Object:
    from isthmus.model.identity import trust_domain_of
    from isthmus.trust.spiffe_bundle import parse_bundle

    document = Path(params["file"]).read_bytes()

    def read() -> Object:
        bundle = parse_bundle(trust_domain_of(params["trustDomain"]), document)
        return {
            "x509Authorities": len(bundle.x509_authorities),
            "jwtAuthorities": len(bundle.jwt_authorities),
            "sequence": bundle.sequence,
            "refreshHintSeconds": bundle.refresh_hint_seconds,
            "warnings": list(bundle.ignored),
        }

    return _judged(read)


def _spiffe_x509svid(params: Object) -> Object:
    from isthmus.trust.svid import parse_svid

    chain = _pem(params["chain"])
    return _judged(lambda: {"id": str(parse_svid(chain).identity)})


def _spiffe_verify(params: Object) -> Object:
    from isthmus.model.identity import TrustDomain
    from isthmus.trust.verification import verified_identity
    from isthmus.trust.x509 import parse_certificates

    chain, at = _pem(params["chain"]), _moment(params["time"])
    bundles = {
        TrustDomain.parse(name): [authority for pem in pems for authority in parse_certificates(_pem(pem))]
        for name, pems in params["bundles"].items()
    }
    return _judged(lambda: {"id": str(verified_identity(chain, bundles, at))})


def _spiffe_fetch(params: Object) -> Object:
    """`error` is there when any endpoint failed; `bundles` has what the others gave."""
    import asyncio

    from isthmus.model.identity import TrustDomain
    from isthmus.trust.bundle_client import fetch_bundles

    endpoints = {TrustDomain.parse(name): str(url) for name, url in params["endpoints"].items()}
    trusted = [_pem(pem) for pem in params.get("trustedCAs") or ()]
    seconds = float(params.get("timeoutSeconds") or _FETCH_SECONDS)
    fetched = asyncio.run(fetch_bundles(endpoints, trusted_pem=trusted, seconds=seconds))
    answer: Object = {"bundles": {str(name): bundle.x509_authorities_pem for name, bundle in fetched.bundles.items()}}
    if fetched.failures:
        answer["error"] = "; ".join(str(failure) for _, failure in sorted(fetched.failures.items()))
    return answer


def _ca(params: Object) -> Object:
    from datetime import UTC

    from isthmus.trust.explaining import explain

    return explain(params, params["request"], datetime.now(UTC))


def _xfcc_trusted(params: Object) -> Object:
    from isthmus.trust.forwarded import is_trusted_peer

    return {"trusted": is_trusted_peer(params["peer"], params.get("trustedCIDRs") or "")}


def _xfcc_identities(params: Object) -> Object:
    from isthmus.trust.forwarded import forwarded_identities

    return {"identities": forwarded_identities(params["header"])}


TRUST_VERBS: dict[str, Callable[[Object], Object]] = {
    "ca": _ca,
    "spiffe-parse": _spiffe_parse,
    "spiffe-bundle": _spiffe_bundle,
    "spiffe-x509svid": _spiffe_x509svid,
    "spiffe-verify": _spiffe_verify,
    "spiffe-fetch": _spiffe_fetch,
    "xfcc-trusted": _xfcc_trusted,
    "xfcc-identities": _xfcc_identities,
}


def _judged(read: Callable[[], Object]) -> Object:
    """What is wrong with the thing asked about is an answer; only a bad question is an error."""
    try:
        return {"valid": True, "errors": [], **read()}
    except ValueError as error:
        return {"valid": False, "errors": [str(error)]}


def _pem(value: str) -> str:
    return value if "-----BEGIN" in value else Path(value).read_text()


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time: {text!r} has no time zone; write it like 2026-01-01T12:00:00Z")
    return moment
