"""An authority whose key is not here: a signer puts into certificates what a signing request asks for.

So a request is looked at before it is approved, because the signer will not, and the certificate is looked at before it is used, because a signer
may give anything. Its roots are what was configured, never what came with a certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from isthmus.model.identity import SpiffeId
from isthmus.trust.authority import ServingCertificate, root_above
from isthmus.trust.svid import parse_svid
from isthmus.trust.verification import verified_identity
from isthmus.trust.x509 import (
    UNREADABLE,
    BadCertificate,
    certificate_pem,
    fingerprint,
    load_request,
    parse_certificates,
)

USAGES = ("digital signature", "key encipherment", "server auth", "client auth")
"""What a workload's certificate is for, as the Kubernetes API names it."""
_BOTH_ENDS = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})


@dataclass(frozen=True, slots=True)
class ExternalAuthority:
    """What a control plane shows and is trusted by, where a signer elsewhere signs. `own` names its identity and its DNS names."""

    own: ServingCertificate
    root_pem: str
    crl_pem: str = ""

    def serving_certificate(self, names: Sequence[str], now: datetime) -> ServingCertificate:
        """The one that there is; whoever has asked for it has named them all."""
        return self.own

    def own_certificate(self, identity: SpiffeId, now: datetime, lifetime: timedelta) -> ServingCertificate:
        """The one that there is."""
        return self.own

    @property
    def authority_pem(self) -> str:
        """The certificate that signs: the next one in the chain, or a root."""
        _, *above = parse_certificates(self.own.chain_pem)
        return certificate_pem(above[0] if above else self.root)

    @property
    def root(self) -> x509.Certificate:
        """The one of the roots that its certificate leads to."""
        return root_above(parse_certificates(self.own.chain_pem)[-1], self.root_pem)

    @property
    def roots(self) -> frozenset[str]:
        """Fingerprints of all that peers are told to trust."""
        return frozenset(fingerprint(each) for each in parse_certificates(self.root_pem))

    @property
    def not_after(self) -> datetime:
        return self.root.not_valid_after_utc


def check_request(csr_pem: str, identity: SpiffeId) -> None:
    """Whether the request asks for that identity, and for nothing else: the signer signs what it says. Raises BadCertificate."""
    request = load_request(csr_pem)
    if any(attribute.value for attribute in request.subject):
        raise BadCertificate("the signing request has a subject: a signer would put it into the certificate")
    try:
        for extension in request.extensions:
            _check_extension(extension.value)
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise BadCertificate(f"the signing request has to name {identity}: the signer signs what it asks for") from None
    except UNREADABLE as error:
        raise BadCertificate(f"the signing request's extensions cannot be read: {error}") from None
    if list(names) != [x509.UniformResourceIdentifier(str(identity))]:
        raise BadCertificate(f"the signing request has to name {identity} and nothing else")


def _check_extension(asked: x509.ExtensionType) -> None:
    match asked:
        case x509.SubjectAlternativeName():
            return
        case x509.BasicConstraints(ca=False):
            return
        case x509.KeyUsage(key_cert_sign=False, crl_sign=False):
            return
        case x509.ExtendedKeyUsage() if set(asked) <= _BOTH_ENDS:
            return
    raise BadCertificate(f"the signing request asks for {asked.oid.dotted_string}, which no workload's certificate has")


def checked_answer(
    chain_pem: str, csr_pem: str, identity: SpiffeId, root_pem: str, now: datetime, longest: timedelta
) -> list[str]:
    """The leaf, each intermediate, and last the roots, as PEM. Raises BadCertificate, saying what the signer has done wrong."""
    svid = parse_svid(chain_pem)
    if not _is_for(svid.leaf, load_request(csr_pem)):
        raise BadCertificate("the certificate is for another key than the request's")
    if svid.identity != identity:
        raise BadCertificate(f"the certificate is for {svid.identity}, and {identity} was asked for")
    roots = parse_certificates(root_pem)
    verified_identity(chain_pem, {identity.trust_domain: roots}, now)
    life = svid.leaf.not_valid_after_utc - max(now, svid.leaf.not_valid_before_utc)
    if life > longest:
        raise BadCertificate(f"the certificate is good for {life}, and {longest} is the longest that is allowed")
    _check_usages(svid.leaf)
    above = [certificate_pem(each) for each in svid.intermediates if each not in roots]
    return [certificate_pem(svid.leaf), *above, root_pem]


def _is_for(leaf: x509.Certificate, request: x509.CertificateSigningRequest) -> bool:
    """A key that cannot be read is another one."""
    try:
        return leaf.public_key() == request.public_key()
    except UNREADABLE:
        return False


def _check_usages(leaf: x509.Certificate) -> None:
    """Both ends of a connection show it."""
    try:
        usages = set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return
    if missing := _BOTH_ENDS - usages:
        raise BadCertificate(
            f"the certificate lacks the usage {', '.join(sorted(each.dotted_string for each in missing))}"
        )
