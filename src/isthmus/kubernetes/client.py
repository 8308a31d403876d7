"""A thin client of the Kubernetes API on aiohttp and msgspec: requests, patches, tokens, and the raw stream of a watch."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from isthmus.kubernetes.credentials import Credentials, Headers
from isthmus.kubernetes.errors import ApiUnavailable, KubernetesError, NotFound, error_for
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.kubernetes.resources import TOKEN_REVIEWS, ResourcePath

_REQUEST_SECONDS = 30.0
_CONNECTIONS_MAX = 96
"""Each kind that is watched holds one; the others are for everything else."""
_CONNECT_SECONDS = 5.0

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"

Json = dict[str, Any]


class ApiClient:
    """One API server, over one pool of connections. Use it as an async context manager."""

    def __init__(self, address: ApiAddress, *, user_agent: str = "isthmus") -> None:
        self.address = address
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None
        self._credentials = Credentials(address)
        self._certificate = (address.client_certificate_pem, address.client_key_pem)
        self._ssl = _ssl_context(address)

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS, connect=_CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS_MAX, keepalive_timeout=60),
            timeout=timeout,
            headers={"User-Agent": self._user_agent, "Accept": "application/json"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None, "entered"
        await self._session.close()

    async def get(self, resource: ResourcePath, name: str, namespace: str = "") -> Json:
        return await self._json("GET", resource.item(namespace, name))

    async def list_objects(self, resource: ResourcePath, namespace: str = "", **parameters: str) -> Json:
        """The list object: `items` without apiVersion and kind, as the server sends them."""
        return await self._json("GET", resource.collection(namespace), parameters=parameters)

    async def create(self, resource: ResourcePath, body: Json, namespace: str = "") -> Json:
        return await self._json("POST", resource.collection(namespace), body=body)

    async def replace(self, resource: ResourcePath, body: Json, subresource: str = "") -> Json:
        metadata = body["metadata"]
        path = resource.item(metadata.get("namespace", ""), metadata["name"])
        return await self._json("PUT", f"{path}/{subresource}" if subresource else path, body=body)

    async def patch(
        self,
        resource: ResourcePath,
        name: str,
        body: Any,
        namespace: str = "",
        *,
        kind: str = MERGE,
        subresource: str = "",
    ) -> Json:
        path = resource.item(namespace, name)
        return await self._json("PATCH", f"{path}/{subresource}" if subresource else path, body=body, content_type=kind)

    async def apply(
        self, resource: ResourcePath, body: Json, *, manager: str, force: bool = False, dry_run: bool = False
    ) -> Json:
        """Server-side apply: what this manager says of the object, no less and no more. Raises Conflict where another says otherwise."""
        metadata = body["metadata"]
        parameters = {"fieldManager": manager, "force": "true" if force else "false"}
        if dry_run:
            parameters["dryRun"] = "All"
        path = resource.item(metadata.get("namespace", ""), metadata["name"])
        return await self._json("PATCH", path, body=body, parameters=parameters, content_type=APPLY)

    async def resource_of(self, api_version: str, kind: str) -> ResourcePath:
        """What the server calls the kind. Raises NotFound for one that it does not have."""
        group, _, version = api_version.rpartition("/")
        path = f"/apis/{api_version}" if group else f"/api/{version}"
        listed = await self._json("GET", path)
        for entry in listed.get("resources") or ():
            if entry["kind"] == kind and "/" not in entry["name"]:
                return ResourcePath(group=group, version=version, plural=entry["name"], namespaced=entry["namespaced"])
        raise NotFound(f"GET {self.address.server}{path}", 404, "NotFound", f"there is no kind {kind} in {api_version}")

    async def delete(
        self, resource: ResourcePath, name: str, namespace: str = "", *, grace_seconds: int | None = None, uid: str = ""
    ) -> Json:
        """With a `uid`, only that very object; raises Conflict where another has taken its name."""
        body: Json = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        if uid:
            body["preconditions"] = {"uid": uid}
        return await self._json("DELETE", resource.item(namespace, name), body=body)

    async def request_token(self, namespace: str, account: str, *, audiences: tuple[str, ...], seconds: int) -> str:
        """A bound token of a service account (TokenRequest)."""
        spec = {"audiences": list(audiences), "expirationSeconds": seconds}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        answer = await self._json("POST", path, body=body)
        return str(answer["status"]["token"])

    async def review_token(self, token: str, *, audiences: tuple[str, ...]) -> Json:
        """The TokenReview's status: who the token stands for, if it is valid for one of the audiences."""
        spec = {"token": token, "audiences": list(audiences)}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        answer = await self.create(TOKEN_REVIEWS, body)
        status: Json = answer.get("status", {})
        return status

    async def read(self, path: str) -> bytes:
        """Any path's body, such as `/readyz`."""
        return await self._request("GET", path)

    async def lines(
        self, path: str, parameters: Mapping[str, str], *, idle_seconds: float
    ) -> AsyncGenerator[list[bytes], None]:
        """A watch's lines, in batches as they arrive. Raises ApiUnavailable when nothing came for `idle_seconds`, or the connection broke.

        The first batch is empty: the server has accepted the watch. Ends when the server ends the stream; a last line that was cut off is
        not given.
        """
        assert self._session is not None, "entered"
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS, sock_read=idle_seconds)
        doing = f"watch {self.address.server}{path}"
        rest = b""
        headers = await self._prove()
        try:
            async with self._session.get(
                self.address.server + path,
                params=dict(parameters),
                timeout=timeout,
                headers=headers,
                ssl=self._ssl,
                server_hostname=self.address.tls_server_name or None,
                proxy=self.address.proxy_url or None,
            ) as response:
                if response.status >= 400:
                    self._raise_for(doing, response.status, await response.read())
                yield []
                async for chunk in response.content.iter_any():
                    *complete, rest = (rest + chunk).split(b"\n")
                    if complete:
                        yield [line for line in complete if line.strip()]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnavailable(f"{doing}: {_no_answer(error)}") from None
        except ValueError as error:
            # A token that fits into no header, a host that is no name: nothing was sent.
            raise KubernetesError(f"{doing}: cannot be asked: {error}") from None

    async def _json(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        parameters: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        raw = await self._request(method, path, body=body, parameters=parameters, content_type=content_type)
        try:
            return msgspec.json.decode(raw, type=Json)
        except msgspec.MsgspecError as error:
            # A proxy or a login page has answered.
            raise ApiUnavailable(
                f"{method} {self.address.server}{path}: the answer is not a JSON object: {error}"
            ) from None

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        parameters: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        assert self._session is not None, "entered"
        doing = f"{method} {self.address.server}{path}"
        headers = await self._prove()
        if body is not None:
            headers.append(("Content-Type", content_type))
        try:
            async with self._session.request(
                method,
                self.address.server + path,
                data=msgspec.json.encode(body) if body is not None else None,
                params=dict(parameters or {}),
                headers=headers,
                ssl=self._ssl,
                server_hostname=self.address.tls_server_name or None,
                proxy=self.address.proxy_url or None,
            ) as response:
                raw = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnavailable(f"{doing}: {_no_answer(error)}") from None
        except ValueError as error:
            # A token that fits into no header, a host that is no name: nothing was sent.
            raise KubernetesError(f"{doing}: cannot be asked: {error}") from None
        if response.status >= 400:
            self._raise_for(doing, response.status, raw)
        return raw

    async def _prove(self) -> Headers:
        """What the next request says about us. A certificate that a plugin has renewed counts for new connections."""
        certificate = await self._credentials.certificate()
        if certificate != self._certificate:
            pem, key = certificate
            renewed = replace(self.address, client_certificate_pem=pem, client_key_pem=key)
            try:
                self._ssl = _ssl_context(renewed)
            except (ssl.SSLError, ValueError, OSError) as error:
                raise KubernetesError(
                    f"a credential plugin for {self.address.server} gave a bad certificate: {error}"
                ) from None
            self._certificate = certificate
        return await self._credentials.headers()

    def _raise_for(self, doing: str, status: int, raw: bytes) -> None:
        if status == 401:
            self._credentials.refused()
        _raise_for(doing, status, raw)


def _raise_for(doing: str, status: int, raw: bytes) -> None:
    try:
        answer = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    raise error_for(
        doing, status, str(answer.get("reason", "")), str(answer.get("message", raw[:200].decode("utf-8", "replace")))
    )


def _no_answer(error: aiohttp.ClientError | OSError) -> str:
    """Why, for people: what the libraries call their own objects helps nobody."""
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as why):
            return f"the server's certificate is not trusted: {why.verify_message}"
        case aiohttp.ClientConnectorError():
            return f"no connection to {error.host}:{error.port}: {error.os_error.strerror or error.os_error}"
        case TimeoutError():
            return "no answer in time"
        case _:
            return f"{type(error).__name__}: {error}"


def _ssl_context(address: ApiAddress) -> ssl.SSLContext | bool:
    """Loading a client certificate needs a file; it is written where only we can read it, and removed at once."""
    if not address.server.startswith("https://"):
        return True
    # Comments between the certificates may be in any language, but OpenSSL's are in ASCII.
    authorities = address.ca_pem.encode("ascii", "ignore").decode()
    context = ssl.create_default_context(cadata=authorities or None)
    if address.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if address.client_certificate_pem:
        descriptor, path = tempfile.mkstemp()
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(address.client_certificate_pem + "\n" + address.client_key_pem)
            context.load_cert_chain(path)
        finally:
            Path(path).unlink()
    return context
