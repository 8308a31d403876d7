"""Istio's Gateway (networking.istio.io/v1), as far as it is read: what a gateway's proxies expose."""

from __future__ import annotations

import msgspec

from isthmus.api.meta import KubernetesObject, PortNumber, Wire


class GatewayPort(Wire, frozen=True):
    number: PortNumber
    name: str = ""
    protocol: str = ""


class GatewayTls(Wire, frozen=True):
    mode: str = ""
    https_redirect: bool = False
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    credential_names: list[str] = []
    ca_cert_credential_name: str = ""
    subject_alt_names: list[str] = []
    verify_certificate_hash: list[str] = []
    verify_certificate_spki: list[str] = []
    min_protocol_version: str = ""
    max_protocol_version: str = ""
    cipher_suites: list[str] = []
    ca_crl: str = ""


class GatewayServer(Wire, frozen=True):
    port: GatewayPort
    hosts: list[str] = []
    name: str = ""
    bind: str = ""
    tls: GatewayTls = msgspec.field(default_factory=GatewayTls)


class GatewaySpec(Wire, frozen=True):
    selector: dict[str, str] = {}
    servers: list[GatewayServer] = []


class Gateway(KubernetesObject, frozen=True):
    spec: GatewaySpec = msgspec.field(default_factory=GatewaySpec)
