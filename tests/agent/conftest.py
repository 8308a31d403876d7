"""An authority, a control plane as an object, and one that listens on loopback with TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from isthmus.agent.certificates import Certificate
from isthmus.controlplane.ports import methods_of
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, Namespace
from isthmus.trust import x509
from isthmus.trust.authentication import Authenticator, ServiceAccount
from isthmus.trust.authority import CertificateAuthority
from isthmus.trust.messages import IstioCertificateResponse
from isthmus.trust.registration import RegistrationAuthority
from isthmus.trust.server import CertificateService
from isthmus.xds.directory import CallFacts, Newest, Refused, Streams
from isthmus.xds.native_server import native_server
from isthmus.xds.native_tls import ClientCertificate, server_context

DOMAIN = TrustDomain.parse("cluster.local")
ALICE = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")
CONTROL_PLANE_NAME = "istiod.istio-system.svc"


@pytest.fixture(scope="session")
def authority() -> CertificateAuthority:
    """TLS looks at the real clock."""
    return CertificateAuthority.self_signed(DOMAIN, datetime.now(UTC))


@dataclass
class Asked:
    """One request, as it arrived."""

    at: datetime
    token: str
    cluster: str
    csr: str
    seconds: int


@dataclass
class ControlPlane:
    """Signs for Alice, with certificates that live from now for exactly `life`. `failures` are used up first, one for each request."""

    authority: CertificateAuthority
    life: timedelta = timedelta(hours=1)
    failures: list[Any] = field(default_factory=list)
    """An exception to raise, or a chain to answer with."""
    asked: list[Asked] = field(default_factory=list)
    roots_read: list[str] = field(default_factory=list)
    shown: list[Certificate | None] = field(default_factory=list)
    """The certificates of those who asked."""
    count: int = 1

    @asynccontextmanager
    async def channel(self, root_cert_file: str, certificate: Certificate | None = None) -> AsyncIterator[ControlPlane]:
        self.roots_read.append(root_cert_file)
        self.shown.append(certificate)
        yield self

    def unary_unary(self, _: str, **__: Any) -> Callable[..., Any]:
        return self._call

    async def _call(self, request: Any, *, metadata: Any, timeout: float) -> Any:
        now, said = datetime.now(UTC), dict(metadata)
        self.asked.append(
            Asked(now, said.get("authorization", ""), said["clusterid"], request.csr, int(request.validity_duration))
        )
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            return IstioCertificateResponse(cert_chain=failure)
        # The authority lets certificates begin a little in the past; here they begin now.
        signed = self.authority.sign(request.csr, ALICE, now + x509.CLOCK_SKEW, self.life - x509.CLOCK_SKEW)
        return IstioCertificateResponse(cert_chain=signed)


@pytest.fixture
def control_plane(authority) -> ControlPlane:
    return ControlPlane(authority)


@pytest.fixture(scope="session")
def issue(authority) -> Callable[[], Certificate]:
    """Another certificate for Alice."""

    def new() -> Certificate:
        key = x509.new_key()
        chain = authority.sign(x509.new_request(key), ALICE, datetime.now(UTC), timedelta(hours=1))
        return Certificate("".join(chain[:-1]), x509.key_pem(key), chain[-1])

    return new


@pytest.fixture
def folder(tmp_path_factory) -> Path:
    """With a short path: a unix socket's may have 107 bytes."""
    return tmp_path_factory.mktemp("p")


@pytest.fixture
def credentials(folder, authority) -> tuple[Path, Path]:
    """A token that is good, and the roots."""
    token, roots = folder / "token", folder / "roots.pem"
    token.write_text("good\n")
    roots.write_text(authority.root_pem)
    return token, roots


class NoProxies:
    """For a control plane that is asked for certificates alone."""

    async def admit(self, claims: object, call: CallFacts) -> Newest:
        raise Refused("UNIMPLEMENTED", "certificates alone")

    def gone(self, feed: Newest) -> None:
        raise AssertionError("nobody was let in")

    def told(self, feed: Newest, health: object) -> None:
        raise AssertionError("nobody was let in")

    def leaves(self, feed: Newest) -> None:
        raise AssertionError("nobody was let in")


@pytest.fixture
async def token_port(authority) -> AsyncIterator[str]:
    """The address of a control plane that knows Alice's token."""

    async def review(token: str, cluster: ClusterId) -> ServiceAccount | None:
        return ServiceAccount(Namespace("default"), "alice") if token == "good" else None

    authenticator = Authenticator(DOMAIN, ClusterId("east"), review, asyncio.get_running_loop().time)
    service = CertificateService(
        RegistrationAuthority(DOMAIN, lambda: authority, authenticator, lambda: datetime.now(UTC))
    )
    shown = authority.serving_certificate([CONTROL_PLANE_NAME], datetime.now(UTC))
    context = server_context(
        chain_pem=shown.chain_pem,
        key_pem=shown.key_pem,
        roots_pem=authority.root_pem,
        client=ClientCertificate.WELCOME,
    )
    async with native_server(NoProxies(), methods_of(service), Streams(), grace=0.1) as server:
        yield f"127.0.0.1:{server.listen('127.0.0.1', 0, context)}"
