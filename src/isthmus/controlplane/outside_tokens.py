"""Tokens of the issuer beyond the clusters that the operator has named (JWT_RULE), and the keys that they are checked with.

Keys that are fetched stay in use while the issuer does not answer. Until the first have come, its tokens prove nothing.
"""

from __future__ import annotations

import asyncio
import time

import aiohttp
import structlog

from isthmus.controlplane.token_keys import KeyFetching, NoKeys, fetch
from isthmus.trust.authentication import ServiceAccount
from isthmus.trust.oidc import OutsideIssuer, account_of_token

_TRY_SECONDS = 5.0
_RETRY_SECONDS = 10.0

log = structlog.get_logger()


class OutsideTokens:
    def __init__(self, rule: OutsideIssuer, fetching: KeyFetching) -> None:
        self._rule = rule
        self._fetching = fetching
        self._jwks = rule.jwks

    def account(self, token: str) -> ServiceAccount | None:
        """What a token stands for; None for what is no valid one of this issuer."""
        return account_of_token(token, self._rule, self._jwks, time.time()) if self._jwks else None

    async def run(self) -> None:
        """Keeps the keys current, until cancelled; returns at once where the rule has them itself."""
        if not self._rule.jwks_uri:
            return
        timeout = aiohttp.ClientTimeout(total=_TRY_SECONDS)
        connector = aiohttp.TCPConnector(ssl=self._fetching.trust(), force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            while True:
                wait = self._fetching.refresh_seconds
                try:
                    # The operator has written this address: ranges that are blocked for tenants are not for it.
                    self._jwks = await fetch(self._rule.jwks_uri, session, ())
                except NoKeys as error:
                    log.warning("keys of the outside issuer not fetched", error=str(error), kept=bool(self._jwks))
                    wait = min(wait, _RETRY_SECONDS)
                await asyncio.sleep(wait)
