"""Who is calling? A verified client certificate, a token of an issuer beyond the clusters that the operator has named, or a service account
token that the caller's own cluster has reviewed.

The identity is always in the local trust domain, whichever cluster the Pod is in; it never comes from what a caller says of itself. The
`clusterid` in a call's metadata only chooses which API server is asked, and a token of another cluster is nothing to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, Namespace
from isthmus.trust import x509

_BEARER = "bearer "
_SERVICE_ACCOUNTS = "system:serviceaccounts"
_EXTRA = "authentication.kubernetes.io/"
_REVIEW_SECONDS = 60.0
_REVIEWS_MAX = 10_000


class NotAuthenticated(Exception):
    """The caller proved nothing. The reason is for the log; the caller is told only that it failed."""


@dataclass(frozen=True, slots=True)
class Caller:
    """`cluster` is None for a certificate and for an outside issuer's token, which name none. `how` is `certificate`, `outside token` or
    `token`. `pod` is the one that a token is bound to: name and uid.
    """

    identity: SpiffeId
    cluster: ClusterId | None
    how: str
    pod: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """What an API server says a token stands for; `pod` (name, uid) where the token is bound to one."""

    namespace: Namespace
    name: str
    pod: tuple[str, str] = ("", "")


class CannotReview(Exception):
    """The cluster's API server cannot be asked now: the caller may be right, and shall try again."""


def account_of(status: Mapping[str, Any]) -> ServiceAccount | None:
    """From a TokenReview's status; None unless it is a service account that the API server vouches for (user name and group)."""
    user = status.get("user") or {}
    parts = str(user.get("username", "")).split(":")
    if not status.get("authenticated") or len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
        return None
    if _SERVICE_ACCOUNTS not in (user.get("groups") or ()):
        return None
    extra = user.get("extra") or {}
    pod = ((extra.get(f"{_EXTRA}pod-{field}") or [""])[0] for field in ("name", "uid"))
    return ServiceAccount(Namespace(parts[2]), parts[3], (str(next(pod)), str(next(pod))))


Review = Callable[[str, ClusterId], Awaitable[ServiceAccount | None]]
"""Asks a cluster's API server about a token (audience `istio-ca`); None if it is not valid there. Raises KeyError for an unknown
cluster, CannotReview where it does not answer."""


Outside = Callable[[str], ServiceAccount | None]
"""What a token of the issuer beyond the clusters stands for; None for any other token."""


MayRun = Callable[[ClusterId, ServiceAccount], bool]
"""Whether the Pod that a token is bound to is there, as far as is known."""


class Authenticator:
    """`aliases` are other names of clusters. Successful reviews are remembered for a minute, so that a reconnect storm does not become
    one of token reviews; not those of a token whose Pod is known to have gone (`may_run`).
    """

    def __init__(
        self,
        trust_domain: TrustDomain,
        own_cluster: ClusterId,
        review: Review,
        clock: Callable[[], float],
        aliases: Mapping[str, ClusterId] | None = None,
        outside: Outside | None = None,
        may_run: MayRun = lambda _cluster, _account: True,
    ) -> None:
        self._trust_domain = trust_domain
        self._own_cluster = own_cluster
        self._review = review
        self._clock = clock
        self._aliases = aliases or {}
        self._outside = outside
        self._may_run = may_run
        self._known: dict[tuple[ClusterId, bytes], tuple[float, ServiceAccount]] = {}

    async def caller(self, metadata: Mapping[str, str], peer_certificate: str) -> Caller:
        """Raises NotAuthenticated, CannotReview."""
        if peer_certificate:
            return self._by_certificate(peer_certificate)
        authorization = metadata.get("authorization", "")
        if not authorization.lower().startswith(_BEARER):
            raise NotAuthenticated("neither a client certificate nor a bearer token")
        token = authorization[len(_BEARER) :].strip()
        found = self._outside(token) if self._outside is not None else None
        if found is not None:
            return Caller(self._identity_of(found), None, "outside token")
        said = metadata.get("clusterid", "") or self._own_cluster
        cluster = self._aliases.get(said, ClusterId(said))
        account = await self._reviewed(token, cluster)
        return Caller(self._identity_of(account), cluster, "token", account.pod)

    def _identity_of(self, account: ServiceAccount) -> SpiffeId:
        return SpiffeId.of_service_account(self._trust_domain, account.namespace, account.name)

    def _by_certificate(self, pem: str) -> Caller:
        try:
            identity = x509.identity_of(pem)
        except x509.BadCertificate as error:
            raise NotAuthenticated(str(error)) from None
        if identity.trust_domain != self._trust_domain:
            raise NotAuthenticated(f"{identity} is of another trust domain")
        return Caller(identity, None, "certificate")

    async def _reviewed(self, token: str, cluster: ClusterId) -> ServiceAccount:
        key = (cluster, hashlib.sha256(token.encode()).digest())
        known = self._known.get(key)
        if known is not None and self._clock() - known[0] < _REVIEW_SECONDS and self._may_run(cluster, known[1]):
            return known[1]
        try:
            account = await self._review(token, cluster)
        except KeyError:
            raise NotAuthenticated(f"cluster {cluster!r} is not known here") from None
        if account is None:
            raise NotAuthenticated(f"cluster {cluster} does not accept the token")
        if len(self._known) >= _REVIEWS_MAX:
            self._known.clear()
        self._known[key] = (self._clock(), account)
        return account
