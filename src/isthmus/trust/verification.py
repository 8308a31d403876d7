"""Should a certificate be believed? Its chain is followed to an authority of the trust domain that it names, and of no other.

Bundles stay apart (SPIFFE-Federation section 4.2): in one pool, any trust domain's authority could vouch for all the others. The path is
RFC 5280's (X509-SVID section 5.1), followed by the cryptography package: signatures, validity of every certificate in the path at the
given moment, path lengths and name constraints. It knows no constraint on URI names and refuses a chain that has one, which X509-SVID
section 4.2 foresees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509 import verification as path

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust.svid import parse_svid
from isthmus.trust.x509 import BadCertificate, may_sign

Authorities = Sequence[x509.Certificate]


def verified_identity(chain_pem: str, bundles: Mapping[TrustDomain, Authorities], at: datetime) -> SpiffeId:
    """Who the chain proves its holder to be. Raises BadCertificate, saying why nobody."""
    svid = parse_svid(chain_pem)
    trust_domain = svid.identity.trust_domain
    authorities = bundles.get(trust_domain, ())
    if not authorities:
        raise BadCertificate(f"{svid.identity}: there is no authority for trust domain {trust_domain}")
    if not all(may_sign(authority) for authority in authorities):
        raise BadCertificate(
            f"among the authorities for trust domain {trust_domain} is a certificate that may not sign"
        )
    verifier = (
        path.PolicyBuilder()
        .store(path.Store(list(authorities)))
        .time(at)
        .extension_policies(ca_policy=_AUTHORITIES, ee_policy=path.ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        verifier.verify(svid.leaf, list(svid.intermediates))
    except path.VerificationError as error:
        raise BadCertificate(
            f"{svid.identity}: the authorities for {trust_domain} do not vouch for it: {error}"
        ) from None
    return svid.identity


def _signs_certificates(_policy: path.Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    """Intermediates have a key usage, see `svid`; a root may have none (RFC 5280 section 6.1: it is an input, not part of the path)."""
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an authority without 'keyCertSign' as key usage")


def _is_authority(_policy: path.Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("an authority without the CA flag")


# What SPIFFE asks of authorities, not what browsers do: key identifiers and DNS names are nobody's duty here.
_AUTHORITIES = (
    path.ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, path.Criticality.AGNOSTIC, _is_authority)
    .may_be_present(x509.KeyUsage, path.Criticality.AGNOSTIC, _signs_certificates)
)
