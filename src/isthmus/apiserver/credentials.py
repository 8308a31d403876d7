"""The server's own keys, made at its first start and kept: authority, serving certificate, token signing key, administrator's token."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from isthmus.trust.private_files import write_privately

_LIFETIME = timedelta(days=3650)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Paths for TLS, and the secrets themselves. Never logged."""

    ca_file: Path
    serving_file: Path
    ca_pem: str
    signing_key: ec.EllipticCurvePrivateKey
    admin_token: str

    def __repr__(self) -> str:
        return f"Credentials({self.ca_file})"


def load_or_create(directory: Path, cluster: str, names: Sequence[str]) -> Credentials:
    """The serving certificate is made anew at each start, because the names may have changed; the authority stays."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca_key = _key(directory / "ca.key")
    ca = _authority(directory / "ca.crt", ca_key, cluster)
    serving = directory / "serving.pem"
    _write(serving, _serving(ca, ca_key, names))
    token = directory / "admin-token"
    if not token.exists():
        _write(token, secrets.token_urlsafe(32))
    return Credentials(
        ca_file=directory / "ca.crt",
        serving_file=serving,
        ca_pem=(directory / "ca.crt").read_text(),
        signing_key=_key(directory / "service-account.key"),
        admin_token=token.read_text().strip(),
    )


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        _write(path, _key_pem(ec.generate_private_key(ec.SECP256R1())))
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} does not hold an EC key")
    return key


def _authority(path: Path, key: ec.EllipticCurvePrivateKey, cluster: str) -> x509.Certificate:
    if path.exists():
        return x509.load_pem_x509_certificate(path.read_bytes())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{cluster} API server CA")])
    certificate = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(path, certificate.public_bytes(serialization.Encoding.PEM).decode(), mode=0o644)
    return certificate


def _serving(ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    certificate = (
        _builder(subject, ca.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode() + _key_pem(key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=2))
        .not_valid_after(now + _LIFETIME)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """Created with its mode, never loosened afterwards; replaced in one step."""
    write_privately(path, text.encode(), mode)
