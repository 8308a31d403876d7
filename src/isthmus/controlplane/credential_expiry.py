"""When the credentials in a kubeconfig end, as far as they say so themselves. Nothing is verified: the API server does that."""

from __future__ import annotations

from datetime import datetime

from isthmus.kubernetes import token_claims
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.trust.x509 import BadCertificate, facts_of


def expiry_of(address: ApiAddress) -> datetime | None:
    """The first of them to end; None where they do not end, or do not say when."""
    ends = [token_claims.expiry_of(address.token), _certificate_expiry(address.client_certificate_pem)]
    return min((end for end in ends if end is not None), default=None)


def _certificate_expiry(pem: str) -> datetime | None:
    if not pem:
        return None
    try:
        return facts_of(pem).not_after
    except BadCertificate:
        return None
