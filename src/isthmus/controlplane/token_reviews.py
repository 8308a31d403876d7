"""Whom a token stands for: asked of the API server of the cluster that its bearer names."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import KubernetesError
from isthmus.model.names import ClusterId
from isthmus.trust.authentication import CannotReview, ServiceAccount, account_of

TOKEN_AUDIENCE = "istio-ca"
_AT_ONCE = 32
"""Fewer than there are connections: watches and Leases do not wait behind strangers' tokens."""


class TokenReviews:
    """So many at once for each cluster: made-up tokens cost its API server no more than that. `client_for` raises KeyError for a cluster
    that is not discovered.
    """

    def __init__(self, client_for: Callable[[ClusterId], ApiClient]) -> None:
        self._client_for = client_for
        self._places: defaultdict[ClusterId, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_AT_ONCE))

    async def review(self, token: str, cluster: ClusterId) -> ServiceAccount | None:
        """None if the cluster does not accept the token. Raises KeyError, CannotReview where the cluster does not answer."""
        client = self._client_for(cluster)
        try:
            async with self._places[cluster]:
                status = await client.review_token(token, audiences=(TOKEN_AUDIENCE,))
        except KubernetesError as error:
            raise CannotReview(f"token review in {cluster}: {error}") from error
        return account_of(status)
