"""A workload's certificate: asked for, held in memory, and renewed before half of its life is over. The key never leaves this process and Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio

from isthmus.agent.answers import NOBODY_ANSWERED, FirstAnswer, explained, nobody_answered
from isthmus.envoy.bundles import Bundles
from isthmus.envoy.tls import NOBODY
from isthmus.kubernetes.token_claims import account_of
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import Namespace
from isthmus.trust import x509
from isthmus.trust.client import request_certificate

_RENEW_AT = 0.5
_JITTER = 0.05
_BACK_OFF_FIRST = 0.2
_BACK_OFF_MAX = 15.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """`chain_pem` is the leaf and its intermediates; `roots_pem` what the authority told us to trust."""

    chain_pem: str
    key_pem: str
    roots_pem: str

    @property
    def identity(self) -> SpiffeId:
        return x509.identity_of(self.chain_pem)

    @property
    def facts(self) -> x509.CertificateFacts:
        return x509.facts_of(self.chain_pem)

    def trusted_with(self, peers: Bundles) -> Bundles:
        """Whom the workload trusts: its own trust domain's roots, which no peer can add to, and each peer for its own trust domain."""
        return {**peers, self.identity.trust_domain: x509.to_der(self.roots_pem)}

    def trusted_among(self, domains: Container[TrustDomain], peers: Bundles) -> Bundles:
        """The same for some trust domains alone. One of which no authority is known has nobody that vouches for it; a bundle cannot be empty."""
        found = {domain: each for domain, each in self.trusted_with(peers).items() if domain in domains and each}
        return found or {NOBODY: x509.to_der(self.roots_pem)}

    def __repr__(self) -> str:
        """Without the key: this value may end up in a log."""
        return f"Certificate({self.identity}, until {self.facts.not_after.isoformat()})"


@dataclass(frozen=True, slots=True)
class Credentials:
    """How an agent shows for whom it asks: by a token, or, where that is empty, by the certificate that the workload has."""

    token: str
    certificate: Certificate | None = None

    def metadata(self, cluster: str) -> tuple[tuple[str, str], ...]:
        """Of a call; a certificate is shown by the connection."""
        token = (("authorization", f"Bearer {self.token}"),) if self.token else ()
        return (*token, ("clusterid", cluster))


class ControlPlanes:
    """The control planes' token ports, in order of preference; the one that answered last is asked first."""

    def __init__(self, addresses: Sequence[str], name: str) -> None:
        self._order = tuple(addresses)
        self._addresses = list(addresses)
        self._name = name

    @property
    def count(self) -> int:
        return len(self._order)

    @property
    def rank(self) -> int:
        """Of the one that is asked first: 0 is the most preferred."""
        return self._order.index(self._addresses[0])

    def return_to(self, rank: int) -> None:
        """It has shown that it answers: it is asked first, then the others in order of preference."""
        self._addresses = [self._order[rank], *(each for each in self._order if each != self._order[rank])]

    @asynccontextmanager
    async def channel(
        self, root_cert_file: str, certificate: Certificate | None = None
    ) -> AsyncIterator[grpc.aio.Channel]:
        """To the one that is asked first. The roots are read anew each time. After a call that fails, or an answer of no use, it is the next one."""
        address = self._addresses[0]
        async with self.channel_to(self._order.index(address), root_cert_file, certificate) as channel:
            try:
                yield channel
            except (grpc.aio.AioRpcError, ValueError) as error:
                if isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.OK:
                    raise  # It has let go of a proxy that prefers another one, which is asked first already.
                self._addresses.remove(address)
                self._addresses.append(address)
                raise

    def channel_to(self, rank: int, root_cert_file: str, certificate: Certificate | None = None) -> grpc.aio.Channel:
        """To this one, whatever becomes of it."""
        shown = (certificate.key_pem.encode(), certificate.chain_pem.encode()) if certificate else (None, None)
        credentials = grpc.ssl_channel_credentials(Path(root_cert_file).read_bytes(), *shown)
        options = [
            ("grpc.ssl_target_name_override", self._name),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            # What gRPC also takes for the time in which a connection has to be there: one that hangs keeps nobody from asking the next one.
            ("grpc.min_reconnect_backoff_ms", 2000),
        ]
        return grpc.aio.secure_channel(self._order[rank], credentials, options=options)


class CertificateHolder:
    """Keeps one workload's certificate current. `changed` is called with each new one."""

    def __init__(
        self,
        control_planes: ControlPlanes,
        *,
        cluster: str,
        identity: SpiffeId | TrustDomain,
        token_file: str,
        root_cert_file: str,
        seconds: int,
        changed: Callable[[Certificate], None],
        last_good: Callable[[], Certificate | None] = lambda: None,
        proves_by_certificate: bool = False,
    ) -> None:
        """`identity` is named in requests, for signers that give what is asked for; of a trust domain whoever the token says that it is for.
        `proves_by_certificate`: nobody renews the token, so that it only has to be good for the first certificate.
        """
        self._last_good = last_good
        self._proves_by_certificate = proves_by_certificate
        self._certificate_was_refused = False
        self._asked_in_vain = 0
        """How often in a row nobody answered."""
        self._first = FirstAnswer("certificate")
        self._control_planes = control_planes
        self._cluster = cluster
        self._identity = identity
        self._token_file = token_file
        self._root_cert_file = root_cert_file
        self._seconds = seconds
        self._changed = changed
        self.current: Certificate | None = None
        self.last_error = ""
        self._due = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. A failed renewal is tried again, sooner at first, while the old certificate goes on."""
        back_off = _BACK_OFF_FIRST
        while True:
            try:
                certificate = await self.request(self._seconds)
            except (grpc.aio.AioRpcError, ValueError, OSError) as error:
                self.last_error = explained(error)
                self._first.missing(error, token=self._token_file)
                self._make_do(error)
                await asyncio.sleep(back_off * random.uniform(0.8, 1.2))
                back_off = min(back_off * 2, _BACK_OFF_MAX)
                continue
            back_off = _BACK_OFF_FIRST
            self._first.came()
            self.current, self.last_error = certificate, ""
            self._changed(certificate)
            due = seconds_to_renewal(certificate.facts, datetime.now(UTC), random.uniform(-_JITTER, _JITTER))
            self._due.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due):
                    await self._due.wait()

    def renew(self) -> None:
        """Now, rather than when it is time. One that is asked for already is waited for."""
        self._due.set()

    def _make_do(self, error: Exception) -> None:
        """With the last good one of this identity, but only where nobody answered: who was refused gets none."""
        if self.current is not None:
            return
        kept = self._last_good() if nobody_answered(error) else None
        if kept is not None:
            self.current = kept
            self._changed(kept)

    def credentials(self) -> Credentials:
        """Raises OSError and ValueError, where there are none."""
        return self._shown(by_token=self._certificate_was_refused)

    def _shown(self, *, by_token: bool) -> Credentials:
        """By the certificate, where it may and can be; a token that cannot be read is no reason to show nothing."""
        held = (self.current or self._last_good()) if self._proves_by_certificate else None
        if held is None or held.facts.not_after <= datetime.now(UTC):
            return Credentials(read_token(self._token_file))
        if by_token:
            with contextlib.suppress(OSError, ValueError):
                return Credentials(read_token(self._token_file))
        return Credentials("", held)

    async def request(self, seconds: int, root: str = "") -> Certificate:
        """A new one, of the authority under a root where one is named. Raises grpc.aio.AioRpcError, ValueError, OSError."""
        key = x509.new_key()
        # A certificate that TLS itself refuses looks as if nobody answered: once all were asked by the one, all are asked by the other.
        by_other = self._asked_in_vain // self._control_planes.count % 2 == 1
        shown = self._shown(by_token=self._certificate_was_refused != by_other)
        async with self._control_planes.channel(self._root_cert_file, shown.certificate) as channel:
            try:
                chain = await request_certificate(
                    channel,
                    x509.new_request(key, self._names(shown)),
                    seconds=seconds,
                    metadata=shown.metadata(self._cluster),
                    root=root,
                )
            except grpc.aio.AioRpcError as error:
                self._learn(error.code(), shown)
                raise
            self._certificate_was_refused, self._asked_in_vain = False, 0
            return _checked(Certificate("".join(chain[:-1]), x509.key_pem(key), chain[-1]), key)

    def _names(self, shown: Credentials) -> list[str]:
        if isinstance(self._identity, SpiffeId):
            return [str(self._identity)]
        account = account_of(shown.token)
        if account is None:
            return []
        return [str(SpiffeId.of_service_account(self._identity, Namespace(account[0]), account[1]))]

    def _learn(self, code: grpc.StatusCode, shown: Credentials) -> None:
        """How to ask the next time. Who was refused asks by the other one: there may be a new token, and no trust in old certificates any more."""
        self._asked_in_vain = self._asked_in_vain + 1 if code in NOBODY_ANSWERED else 0
        if code is grpc.StatusCode.UNAUTHENTICATED:
            self._certificate_was_refused = shown.certificate is not None


def read_token(path: str) -> str:
    """The token in a file. Raises OSError, and ValueError for content that no request can carry; the content is not shown."""
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable():
        raise ValueError(f"{path} holds no token")
    return token


def _checked(certificate: Certificate, key: x509.SigningKey) -> Certificate:
    """As it is, if Envoy can use it; refused by Envoy, it would have replaced one that works. Raises ValueError."""
    leaf = x509.parse_certificates(certificate.chain_pem)[0]
    if not x509.matches(leaf, key):
        raise ValueError("the certificate service answered with a certificate for another key")
    x509.identity_of(certificate.chain_pem)
    x509.parse_certificates(certificate.roots_pem)
    return certificate


def seconds_to_renewal(facts: x509.CertificateFacts, now: datetime, jitter: float) -> float:
    """Half of the life, a little earlier or later, so that a thousand proxies that started together do not renew together."""
    life = (facts.not_after - facts.not_before).total_seconds()
    due = facts.not_before.timestamp() + life * (_RENEW_AT - _JITTER + jitter)
    return max(1.0, due - now.timestamp())
