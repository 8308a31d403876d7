"""The registration authority: who asks, and what may they have? It decides, and has the certificate authority sign.

Transport and clock are handed in, so the same decisions are made over gRPC and from a file (`isthmus ca explain`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.authentication import Authenticator, Caller, CannotReview, NotAuthenticated
from isthmus.trust.authority import Authority, CertificateAuthority
from isthmus.trust.impersonation import MayNotImpersonate, NodeAgents, impersonated
from isthmus.trust.issuance import Grant, Lifetimes, Refusal, decide

_PER_MINUTE_MAX = 120
_OPAQUE = "request authenticate failure"
_OPAQUE_IMPERSONATION = "request impersonation authentication failure"


class Refused(Exception):
    """`code` is the name of a gRPC status and `told` what the caller learns; `why` is for the log alone."""

    def __init__(self, code: str, told: str, why: str) -> None:
        super().__init__(told)
        self.code = code
        self.told = told
        self.why = why


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller wants. `impersonated` is the identity that a node agent asks for in place of its own; `root` is the fingerprint of the root that
    the certificate shall lead to: of the authority that signs now, or of the one that is prepared. `signer` names one of several external ones.
    """

    csr_pem: str
    seconds: int = 0
    impersonated: str = ""
    root: str = ""
    signer: str = ""


class SignsElsewhere(Protocol):
    """Has certificates signed where the key is. Raises Refused, and BadCertificate for a request that must not be signed."""

    async def signed(self, csr_pem: str, identity: SpiffeId, lifetime: timedelta, signer: str) -> list[str]:
        """The leaf, each intermediate, and last the roots, as PEM."""


@dataclass(frozen=True, slots=True)
class Issued:
    """`chain`: the leaf, each intermediate, and last the roots, as PEM. `identity` is the caller's own unless it is a node agent."""

    caller: Caller
    identity: SpiffeId
    chain: list[str]


class RegistrationAuthority:
    """`authority` is asked for at each call, because authorities are replaced while the service runs. `now` is the clock.

    `prepared` is the authority that will sign next, if there is one. Without `node_agents` nobody gets another's identity. With `elsewhere` no key is
    here, and it signs.
    """

    def __init__(
        self,
        trust_domain: TrustDomain,
        authority: Callable[[], Authority],
        authenticator: Authenticator,
        now: Callable[[], datetime],
        *,
        lifetimes: Lifetimes | None = None,
        node_agents: NodeAgents | None = None,
        prepared: Callable[[], CertificateAuthority | None] = lambda: None,
        elsewhere: SignsElsewhere | None = None,
    ) -> None:
        self._trust_domain = trust_domain
        self._authority = authority
        self._authenticator = authenticator
        self._now = now
        self._lifetimes = lifetimes or Lifetimes()
        self._prepared = prepared
        self._node_agents = node_agents or NodeAgents(frozenset(), lambda _: ())
        self._elsewhere = elsewhere
        self._recent: dict[SpiffeId, list[datetime]] = {}

    async def issue(self, metadata: Mapping[str, str], peer_certificate: str, asked: Asked) -> Issued:
        """Raises Refused."""
        caller, identity = await self._identified(metadata, peer_certificate, asked.impersonated)
        authority = self._under(asked.root)
        ends = authority.not_after
        decision = decide(identity, self._trust_domain, asked.seconds, ends, self._now(), self._lifetimes)
        if isinstance(decision, Refusal):
            raise Refused(decision.code, decision.message, str(identity))
        if self._too_often(identity):
            raise Refused("RESOURCE_EXHAUSTED", "too many certificates in a minute: try again", str(identity))
        try:
            chain = await self._signed(authority, asked, decision)
        except x509.BadCertificate as error:
            raise Refused("INVALID_ARGUMENT", str(error), str(identity)) from None
        return Issued(caller, identity, chain)

    async def _signed(self, authority: Authority, asked: Asked, grant: Grant) -> list[str]:
        if self._elsewhere is not None:
            return await self._elsewhere.signed(asked.csr_pem, grant.identity, grant.lifetime, asked.signer)
        assert isinstance(authority, CertificateAuthority), "one without a key signs elsewhere"
        return authority.sign(asked.csr_pem, grant.identity, self._now(), grant.lifetime)

    def _under(self, root: str) -> Authority:
        for authority in (self._authority(), self._prepared()):
            if authority is not None and (not root or root == x509.fingerprint(authority.root)):
                return authority
        raise Refused("FAILED_PRECONDITION", "there is no authority under that root here", f"root {root}")

    async def _identified(
        self, metadata: Mapping[str, str], peer_certificate: str, wanted: str
    ) -> tuple[Caller, SpiffeId]:
        try:
            caller = await self._authenticator.caller(metadata, peer_certificate)
            return caller, impersonated(caller, wanted, self._node_agents) if wanted else caller.identity
        except NotAuthenticated as error:
            raise Refused("UNAUTHENTICATED", _OPAQUE, str(error)) from None
        except MayNotImpersonate as error:
            raise Refused("UNAUTHENTICATED", _OPAQUE_IMPERSONATION, str(error)) from None
        except CannotReview as error:
            raise Refused("UNAVAILABLE", "the token cannot be reviewed now: try again", str(error)) from None

    def _too_often(self, identity: SpiffeId) -> bool:
        """More than a replica set of hundreds would ask for when it starts at once."""
        now = self._now()
        recent = [then for then in self._recent.get(identity, []) if (now - then).total_seconds() < 60]
        self._recent[identity] = [*recent, now]
        return len(recent) >= _PER_MINUTE_MAX
