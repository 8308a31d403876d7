"""The last that was good: certificates, peers' authorities, name tables and configuration, kept for the time in which no control plane answers.

Files of mode 0600 in a folder of mode 0700, which belongs on a file system in memory: keys are among them, and they never leave the machine. A
certificate is kept for an identity, configuration for a workload: what one Pod of a Deployment had, another one may begin with. It is used only
while nobody answers, and only for as long as the certificate is valid.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import msgspec
import structlog
from google.protobuf.message import DecodeError

from isthmus.agent.certificates import Certificate
from isthmus.agent.specification import ProxySpec
from isthmus.envoy import name_table
from isthmus.envoy.bundles import Bundles
from isthmus.envoy.resources import Resource, ResourceSet
from isthmus.model.identity import TrustDomain
from isthmus.model.views import NameRecord
from isthmus.trust.private_files import write_privately
from isthmus.trust.x509 import BadCertificate, parse_certificates

_VALID_FOR_AT_LEAST = timedelta(minutes=1)

log = structlog.get_logger()


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """`resources` are bodies by type and name, `peers` authorities (DER) by trust domain."""

    chain_pem: str = ""
    key_pem: str = ""
    roots_pem: str = ""
    ip: str = ""
    names: bytes | None = None
    peers: dict[str, list[bytes]] = {}
    resources: dict[str, dict[str, bytes]] = {}


class LastGood:
    """For one proxy. An empty folder keeps nothing."""

    def __init__(self, folder: str, spec: ProxySpec) -> None:
        self._folder = Path(folder) if folder else None
        self._spec = spec
        identity = f"{spec.namespace}~{spec.service_account}"
        workload = f"{spec.kind}~{identity}~{spec.workload_name}~{spec.labels.get('version', '')}"
        self._certificate, self._peers = f"certificate~{identity}.json", f"peers~{identity}.json"
        self._names, self._configuration = f"names~{workload}.json", f"configuration~{workload}.json"

    def keep_certificate(self, certificate: Certificate) -> None:
        self._write(
            self._certificate,
            _Kept(chain_pem=certificate.chain_pem, key_pem=certificate.key_pem, roots_pem=certificate.roots_pem),
        )

    def certificate(self, now: datetime | None = None) -> Certificate | None:
        """One for this proxy's identity that is still valid for a while."""
        kept = self._read(self._certificate)
        if kept is None:
            return None
        certificate = Certificate(kept.chain_pem, kept.key_pem, kept.roots_pem)
        try:
            account = certificate.identity.service_account
            valid = certificate.facts.not_after - (now or datetime.now(UTC)) >= _VALID_FOR_AT_LEAST
        except BadCertificate:
            return None
        return certificate if valid and account == (self._spec.namespace, self._spec.service_account) else None

    def keep_peers(self, peers: Bundles) -> None:
        """Also that there are none: whoever is trusted no longer is not trusted again."""
        self._write(self._peers, _Kept(peers={str(domain): list(authorities) for domain, authorities in peers.items()}))

    def peers(self) -> Bundles | None:
        """Other trust domains' authorities, as this identity was told last."""
        kept = self._read(self._peers)
        try:
            return (
                None if kept is None else {TrustDomain.parse(name): _checked(ders) for name, ders in kept.peers.items()}
            )
        except ValueError:
            return None

    def keep_names(self, records: tuple[NameRecord, ...]) -> None:
        self._write(self._names, _Kept(names=name_table.encode(records).body))

    def names(self) -> tuple[NameRecord, ...] | None:
        kept = self._read(self._names)
        try:
            return None if kept is None or kept.names is None else name_table.decode(kept.names)
        except DecodeError:
            return None

    def keep_configuration(self, resources: ResourceSet) -> None:
        bodies = {
            type_url: {name: resource.body for name, resource in named.items()}
            for type_url, named in resources.by_type.items()
        }
        self._write(self._configuration, _Kept(ip=self._spec.ip, resources=bodies))

    def configuration(self) -> ResourceSet | None:
        """What a proxy of the same workload had accepted last."""
        kept = self._read(self._configuration)
        if kept is None:
            return None
        return ResourceSet(
            MappingProxyType(
                {
                    type_url: MappingProxyType({name: Resource.of_bytes(name, body) for name, body in named.items()})
                    for type_url, named in kept.resources.items()
                }
            )
        )

    def _write(self, name: str, kept: _Kept) -> None:
        """In one step. A disk that is full costs the copy, not the proxy."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_privately(self._folder / name, msgspec.json.encode(kept))
        except OSError as error:
            log.warning("nothing kept for bad times", file=name, error=str(error))

    def _read(self, name: str) -> _Kept | None:
        if self._folder is None:
            return None
        try:
            return msgspec.json.decode((self._folder / name).read_bytes(), type=_Kept)
        except (OSError, msgspec.MsgspecError):
            return None


def _checked(authorities: list[bytes]) -> list[bytes]:
    """As they are. Raises ValueError, unless each is a certificate."""
    if authorities:
        parse_certificates("".join(map(ssl.DER_cert_to_PEM_cert, authorities)))
    return authorities
