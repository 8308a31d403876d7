"""What proves to an API server who we are, fresh for each request: a token, a file that somebody renews, a plugin's credential.

A plugin (client.authentication.k8s.io) is run when its credential is needed first, again once that has ended, and when the server has
refused it; never by two requests at once.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from isthmus.kubernetes.errors import KubernetesError
from isthmus.kubernetes.kubeconfig import ApiAddress, ExecPlugin, InteractiveMode

_PLUGIN_SECONDS = 60.0
_ERROR_CHARACTERS_MAX = 500

Headers = list[tuple[str, str]]


class ExecStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What a plugin gives: a token, or a certificate with its key, and until when."""

    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct):
    status: ExecStatus = msgspec.field(default_factory=ExecStatus)


class Credentials:
    """Of one API address. `now` tells the time, because what plugins give ends by it."""

    def __init__(self, address: ApiAddress, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._address = address
        self._now = now
        self._given: ExecStatus | None = None
        self._running = asyncio.Lock()

    async def headers(self) -> Headers:
        """For the next request. Raises KubernetesError for a file or plugin that does not give what it should."""
        return [*_authorization(self._address, await self._token()), *_impersonation(self._address)]

    async def certificate(self) -> tuple[str, str]:
        """The client's certificate and its key as PEM; empty where there is none."""
        if self._address.exec_plugin is not None:
            given = await self._plugin_status(self._address.exec_plugin)
            if given.client_certificate_data:
                return given.client_certificate_data, given.client_key_data
        return self._address.client_certificate_pem, self._address.client_key_pem

    def refused(self) -> None:
        """The server does not take them: a plugin is asked anew, whatever it said about their end."""
        self._given = None

    async def _token(self) -> str:
        address = self._address
        if address.token_file:
            try:
                return Path(address.token_file).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise KubernetesError(f"cannot read the token for {address.server}: {error}") from None
        if address.token or address.exec_plugin is None:
            return address.token
        return (await self._plugin_status(address.exec_plugin)).token

    async def _plugin_status(self, plugin: ExecPlugin) -> ExecStatus:
        async with self._running:
            given = self._given
            ended = (
                given is not None
                and given.expiration_timestamp is not None
                and given.expiration_timestamp <= self._now()
            )
            if given is None or ended:
                given = self._given = await _run(plugin, self._address)
            return given


def _authorization(address: ApiAddress, token: str) -> Headers:
    if token:
        return [("Authorization", f"Bearer {token}")]
    if address.username:
        pair = base64.b64encode(f"{address.username}:{address.password}".encode()).decode()
        return [("Authorization", f"Basic {pair}")]
    return []


def _impersonation(address: ApiAddress) -> Headers:
    who = address.impersonate
    if who is None:
        return []
    found = [("Impersonate-User", who.user)] if who.user else []
    found += [("Impersonate-Uid", who.uid)] if who.uid else []
    found += [("Impersonate-Group", group) for group in who.groups]
    return found + [(f"Impersonate-Extra-{key}", value) for key, values in who.extra for value in values]


async def _run(plugin: ExecPlugin, address: ApiAddress) -> ExecStatus:
    interactive = _is_interactive(plugin)
    environment = {
        **os.environ,
        **dict(plugin.environment),
        "KUBERNETES_EXEC_INFO": _request(plugin, address, interactive),
    }
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.arguments,
            stdin=None if interactive else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=None if interactive else asyncio.subprocess.PIPE,
            env=environment,
        )
    except OSError as error:
        hint = f"; {plugin.install_hint.strip()}" if plugin.install_hint else ""
        raise KubernetesError(f"credential plugin {plugin.command} cannot be run: {error.strerror}{hint}") from None
    try:
        # Who is asked something may take their time.
        async with asyncio.timeout(None if interactive else _PLUGIN_SECONDS):
            output, said = await process.communicate()
    except TimeoutError:
        raise KubernetesError(f"credential plugin {plugin.command} gave nothing in {_PLUGIN_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if process.returncode:
        why = (said or b"").decode(errors="replace").strip()[-_ERROR_CHARACTERS_MAX:]
        raise KubernetesError(
            f"credential plugin {plugin.command} failed with {process.returncode}: {why}".rstrip(": ")
        )
    return _given(plugin, output)


def _is_interactive(plugin: ExecPlugin) -> bool:
    """Whether the plugin may ask whoever sits at the terminal. Raises KubernetesError if it must, and nobody does."""
    terminal = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
    if plugin.interactive_mode is InteractiveMode.ALWAYS and not terminal:
        raise KubernetesError(f"credential plugin {plugin.command} wants to ask somebody, and there is no terminal")
    return terminal and plugin.interactive_mode is not InteractiveMode.NEVER


def _request(plugin: ExecPlugin, address: ApiAddress, interactive: bool) -> str:
    spec: dict[str, object] = {"interactive": interactive}
    if plugin.provide_cluster:
        said = {
            "server": address.server,
            "tls-server-name": address.tls_server_name,
            "insecure-skip-tls-verify": address.insecure,
            "certificate-authority-data": base64.b64encode(address.ca_pem.encode()).decode(),
            "proxy-url": address.proxy_url,
        }
        spec["cluster"] = {name: value for name, value in said.items() if value}
    asked = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    return msgspec.json.encode(asked).decode()


def _given(plugin: ExecPlugin, output: bytes) -> ExecStatus:
    try:
        status = msgspec.json.decode(output, type=_ExecCredential).status
    except msgspec.MsgspecError as error:
        raise KubernetesError(f"credential plugin {plugin.command} gave no credential: {error}") from None
    if not status.token and not (status.client_certificate_data and status.client_key_data):
        raise KubernetesError(f"credential plugin {plugin.command} gave neither a token nor a certificate with its key")
    if status.expiration_timestamp is not None and status.expiration_timestamp.tzinfo is None:
        raise KubernetesError(f"credential plugin {plugin.command} gave an expirationTimestamp without a time zone")
    return status
