"""Certificates from signers of the Kubernetes API (`certificates.k8s.io`): the control plane decides who may have which, and holds no signing key.

A request is looked at, put into the config cluster, approved, and taken away once there is an answer, or none in time. What the signer gives is
looked at, too, before anybody gets it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import ApiError, ApiUnavailable, KubernetesError
from isthmus.kubernetes.resources import SIGNING_REQUESTS
from isthmus.model.identity import SpiffeId
from isthmus.trust import x509
from isthmus.trust.authority import ServingCertificate
from isthmus.trust.external import USAGES, ExternalAuthority, check_request, checked_answer
from isthmus.trust.registration import Refused

IDENTITY = "isthmus.io/identity"
"""Annotation on a request: whom it is for, for people who look at requests."""
_WAIT_SECONDS = 8.0
"""Shorter than agents wait for us, so that they hear why."""
_AT_ONCE = 24
"""Each holds a connection to the API server while the signer thinks: others, and watches, have the rest."""
_SECONDS_MIN = 600
"""The API's own least."""
_REASON = "IsthmusRegistrationAuthority"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerRules:
    """`workloads` signs for them unless they ask for another one of `domain`; `own` signs for the control plane itself."""

    workloads: str
    own: str
    domain: str = ""

    def named(self, name: str) -> str:
        """The one that a workload asks for. Raises BadCertificate."""
        if not name:
            return self.workloads
        if not self.domain:
            raise x509.BadCertificate(f"no signer {name} can be chosen: CERT_SIGNER_DOMAIN is not set")
        return f"{self.domain}/{name}"

    def uses(self, signer: str) -> bool:
        """Whether certificates of this signer are about in the mesh."""
        return signer in (self.workloads, self.own) or bool(self.domain and signer.startswith(f"{self.domain}/"))


class ExternalSigner:
    """`roots` are the signers' that may be used, as PEM by name: what certificates are checked with, and what comes after them."""

    def __init__(
        self,
        client: ApiClient,
        rules: SignerRules,
        now: Callable[[], datetime],
        *,
        pod_name: str,
        longest: timedelta,
    ) -> None:
        self._client = client
        self.rules = rules
        self._now = now
        self._pod_name = pod_name
        self._longest = longest
        self._places = asyncio.Semaphore(_AT_ONCE)
        self.roots: dict[str, str] = {}

    @property
    def root_pem(self) -> str:
        """Of all signers: whom their certificates are for is one trust domain."""
        return x509.merged(self.roots.values())

    async def signed(self, csr_pem: str, identity: SpiffeId, lifetime: timedelta, signer: str) -> list[str]:
        """The leaf, each intermediate, and last the roots, as PEM. Raises Refused, and BadCertificate for a request that must not be signed."""
        name = self.rules.named(signer)
        check_request(csr_pem, identity)
        chain = await self._chain(csr_pem, identity, lifetime, name)
        return self._checked(chain, csr_pem, identity, name)

    async def own(self, identity: SpiffeId, names: Sequence[str], lifetime: timedelta) -> ExternalAuthority:
        """A certificate for the control plane, with its identity and its DNS names. Raises Refused."""
        key = x509.new_key()
        csr = x509.new_request(key, [str(identity), *names])
        chain = await self._chain(csr, identity, lifetime, self.rules.own)
        *shown, roots = self._checked(chain, csr, identity, self.rules.own)
        return ExternalAuthority(ServingCertificate(x509.key_pem(key), "".join(shown)), roots)

    def _checked(self, chain_pem: str, csr_pem: str, identity: SpiffeId, signer: str) -> list[str]:
        try:
            return checked_answer(chain_pem, csr_pem, identity, self.root_pem, self._now(), self._longest)
        except x509.BadCertificate as error:
            told = f"signer {signer} gave a certificate that cannot be used: {error}"
            raise Refused("INTERNAL", told, str(identity)) from None

    async def _chain(self, csr_pem: str, identity: SpiffeId, lifetime: timedelta, signer: str) -> str:
        """What the signer gives. Raises Refused."""
        if signer not in self.roots:
            told = f"no roots are known of signer {signer}: MeshConfig's caCertificates has none with it among its certSigners"
            raise Refused("FAILED_PRECONDITION", told, str(identity))
        try:
            async with asyncio.timeout(_WAIT_SECONDS), self._places:
                return await self._asked(self._request(csr_pem, identity, lifetime, signer), identity)
        except TimeoutError:
            told = f"signer {signer} has not signed within {_WAIT_SECONDS:g} s: try again"
            raise Refused("UNAVAILABLE", told, str(identity)) from None
        except ApiUnavailable as error:
            raise Refused("UNAVAILABLE", "signing requests cannot be made now: try again", str(error)) from None
        except KubernetesError as error:
            told = f"the signing request for {signer} cannot be made: {_short(error)}"
            raise Refused("INTERNAL", told, str(error)) from None

    def _request(self, csr_pem: str, identity: SpiffeId, lifetime: timedelta, signer: str) -> Object:
        name = f"isthmus-{self._pod_name}-{secrets.token_hex(8)}"
        spec = {
            "request": base64.b64encode(csr_pem.encode()).decode(),
            "signerName": signer,
            "usages": list(USAGES),
            "expirationSeconds": max(int(lifetime.total_seconds()), _SECONDS_MIN),
        }
        return {
            "apiVersion": SIGNING_REQUESTS.api_version,
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name, "annotations": {IDENTITY: str(identity)}},
            "spec": spec,
        }

    async def _asked(self, request: Object, identity: SpiffeId) -> str:
        made = await self._client.create(SIGNING_REQUESTS, request)
        name = made["metadata"]["name"]
        try:
            message = f"{identity} has proved who it is to {self._pod_name}"
            condition = {"type": "Approved", "status": "True", "reason": _REASON, "message": message}
            body = made | {"status": {"conditions": [condition]}}
            approved = await self._client.replace(SIGNING_REQUESTS, body, subresource="approval")
            return await self._answer(approved, identity)
        finally:
            with contextlib.suppress(KubernetesError):
                await self._client.delete(SIGNING_REQUESTS, name)

    async def _answer(self, approved: Object, identity: SpiffeId) -> str:
        """Waits for as long as its caller does."""
        metadata = approved["metadata"]
        parameters = {
            "watch": "true",
            "fieldSelector": f"metadata.name={metadata['name']}",
            "resourceVersion": metadata["resourceVersion"],
        }
        lines = self._client.lines(SIGNING_REQUESTS.collection(), parameters, idle_seconds=_WAIT_SECONDS)
        async with aclosing(lines) as batches:
            async for batch in batches:
                for line in batch:
                    event = msgspec.json.decode(line)
                    if found := _answer_in(event, identity):
                        return found
        raise ApiUnavailable(f"the watch of {metadata['name']} ended")


def _answer_in(event: Object, identity: SpiffeId) -> str:
    """The certificate, if it is there. Raises Refused where there will be none."""
    if event.get("type") not in ("ADDED", "MODIFIED"):
        raise Refused("UNAVAILABLE", "the signing request was taken away: try again", str(identity))
    status = event["object"].get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") in ("Denied", "Failed"):
            said = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
            signer = event["object"]["spec"]["signerName"]
            told = f"signer {signer} will not sign it: {condition['type']}: {said[:200]}"
            raise Refused("PERMISSION_DENIED", told, str(identity))
    return base64.b64decode(status.get("certificate") or "").decode("ascii", "replace")


def _short(error: KubernetesError) -> str:
    return error.message if isinstance(error, ApiError) else str(error)
