"""The certificate authority of one control plane: an intermediate (or a root) that signs workloads' and its own serving certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509

SELF_SIGNED_LIFETIME = timedelta(days=3650)
SERVING_LIFETIME = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class _Names:
    """What the parts of an authority are called."""

    certificate: str
    key: str
    chain: str
    root: str


ISTIO = _Names("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem")
CRL = "ca-crl.pem"
CERT_MANAGER = _Names("tls.crt", "tls.key", "tls.crt", "ca.crt")


@dataclass(frozen=True, slots=True)
class ServingCertificate:
    """A key and the chain to show with it, as PEM."""

    key_pem: str
    chain_pem: str


class Authority(Protocol):
    """By whom a control plane is known, whoever signs: what it shows itself, what peers are told to trust, and what they are told to refuse."""

    @property
    def root_pem(self) -> str: ...

    @property
    def crl_pem(self) -> str: ...

    @property
    def authority_pem(self) -> str:
        """The certificate that signs."""

    @property
    def root(self) -> x509.Certificate:
        """The one of the roots that its certificates lead to."""

    @property
    def roots(self) -> frozenset[str]:
        """Fingerprints of all that peers are told to trust."""

    @property
    def not_after(self) -> datetime:
        """Nothing that is signed may last longer."""

    def serving_certificate(self, names: Sequence[str], now: datetime) -> ServingCertificate:
        """For the control plane's own ports."""

    def own_certificate(self, identity: SpiffeId, now: datetime, lifetime: timedelta) -> ServingCertificate:
        """The control plane's own identity, for who asks for one."""


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """`root_pem` may hold several roots: what peers are told to trust. `crl_pem` are revocation lists: what they are told to refuse."""

    issuer: x509.Issuer
    root_pem: str
    crl_pem: str = ""

    @staticmethod
    def from_pem(*, certificate: str, key: str, chain: str, root: str) -> CertificateAuthority:
        """From the four files of a `cacerts` Secret. Raises BadCertificate, saying which does not fit."""
        own = x509.parse_certificates(certificate)[0]
        signing_key = x509.parse_key(key)
        if not x509.matches(own, signing_key):
            raise x509.BadCertificate("ca-key.pem is not the key of ca-cert.pem")
        if not x509.may_sign(own):
            raise x509.BadCertificate("ca-cert.pem is not the certificate of an authority")
        roots = x509.parse_certificates(root)
        above = x509.path_to_root(own, x509.parse_certificates(chain) if chain.strip() else [], roots)
        return CertificateAuthority(
            x509.Issuer(own, signing_key, above), "".join(x509.certificate_pem(found) for found in roots)
        )

    @staticmethod
    def from_files(files: Mapping[str, str], now: datetime) -> CertificateAuthority:
        """From the entries of a Secret, or the files of a directory: Istio's names, or those of cert-manager (`tls.crt` with its chain,
        `tls.key`, `ca.crt`). Raises BadCertificate, also for one that cannot sign now.
        """
        names = CERT_MANAGER if CERT_MANAGER.certificate in files and ISTIO.certificate not in files else ISTIO
        missing = [name for name in (names.certificate, names.key) if not files.get(name)]
        if missing:
            raise x509.BadCertificate(f"{', '.join(missing)} is missing")
        certificate = files[names.certificate]
        found = CertificateAuthority.from_pem(
            certificate=certificate,
            key=files[names.key],
            chain=files.get(names.chain, ""),
            root=files.get(names.root) or certificate,
        )
        path = (found.issuer.certificate, *found.issuer.intermediates, found.root)
        x509.check_path(path, now)
        crl = files.get(CRL, "")
        if crl.strip():
            x509.check_revocations(crl, path, now)
        return replace(found, crl_pem=crl.strip())

    @staticmethod
    def self_signed(trust_domain: TrustDomain, now: datetime) -> CertificateAuthority:
        """A new root that signs by itself."""
        root = x509.new_root(trust_domain, now, SELF_SIGNED_LIFETIME)
        return CertificateAuthority(root, x509.certificate_pem(root.certificate))

    def sign(self, csr_pem: str, identity: SpiffeId, now: datetime, lifetime: timedelta) -> list[str]:
        """The leaf, each intermediate, and last the roots, as PEM. Raises BadCertificate for a request that proves nothing."""
        leaf = x509.sign_workload(self.issuer, x509.requested_key(csr_pem), identity, now, lifetime)
        return [x509.certificate_pem(leaf), *self._intermediates(), self.root_pem]

    def serving_certificate(self, names: Sequence[str], now: datetime) -> ServingCertificate:
        """For the control plane's own ports."""
        key = x509.new_key()
        leaf = x509.sign_server(self.issuer, key.public_key(), names, now, SERVING_LIFETIME)
        return ServingCertificate(x509.key_pem(key), x509.certificate_pem(leaf) + "".join(self._intermediates()))

    def own_certificate(self, identity: SpiffeId, now: datetime, lifetime: timedelta) -> ServingCertificate:
        """The control plane's own identity, for who asks for one."""
        key = x509.new_key()
        *chain, _ = self.sign(x509.new_request(key), identity, now, lifetime)
        return ServingCertificate(x509.key_pem(key), "".join(chain))

    @property
    def authority_pem(self) -> str:
        """The certificate that signs."""
        return x509.certificate_pem(self.issuer.certificate)

    @property
    def root(self) -> x509.Certificate:
        """The one of the roots that its certificates lead to."""
        return root_above((self.issuer.certificate, *self.issuer.intermediates)[-1], self.root_pem)

    @property
    def roots(self) -> frozenset[str]:
        """Fingerprints of all that peers are told to trust."""
        return frozenset(x509.fingerprint(each) for each in x509.parse_certificates(self.root_pem))

    @property
    def not_after(self) -> datetime:
        return self.issuer.certificate.not_valid_after_utc

    def _intermediates(self) -> list[str]:
        own = x509.certificate_pem(self.issuer.certificate)
        above = [x509.certificate_pem(certificate) for certificate in self.issuer.intermediates]
        return [pem for pem in (own, *above) if pem not in self.root_pem]


def root_above(top: x509.Certificate, root_pem: str) -> x509.Certificate:
    """The one of the roots that a chain's last certificate is, or is of. Raises BadCertificate."""
    roots = x509.parse_certificates(root_pem)
    if top in roots:
        return top
    for each in roots:
        if x509.is_issued_by(top, each):
            return each
    raise x509.BadCertificate(f"{x509.called(top)} is of none of the roots")


def why_not_replaced(current: Authority, new: Authority) -> str:
    """What proxies would suffer if the new authority took the place of the current one at once; empty if nothing."""
    if x509.fingerprint(new.root) not in current.roots:
        return f"its root {x509.named(new.root)} is not among those that proxies trust: add it to the roots first"
    if x509.fingerprint(current.root) not in new.roots:
        return (
            f"it takes the root {x509.named(current.root)} away, which what is in use was signed under: "
            "let the new authority sign with both roots first"
        )
    return ""
