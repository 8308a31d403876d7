"""The control plane's certificate authority: where it comes from, and how another one takes its place while the control plane runs.

It is plugged in (Secret `cacerts`, or the files of a directory), or made by the first control plane to start (Secret `istio-ca-secret`). Both are
watched. What cannot be used, or would make proxies refuse each other, is refused with a reason, and the one before goes on.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from isthmus.api.core import Secret
from isthmus.controlplane.remote_files import follow
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, NotFound
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import SECRETS
from isthmus.model.identity import TrustDomain
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.trust.authority import ISTIO, Authority, CertificateAuthority, why_not_replaced
from isthmus.trust.rotation import PLUGGED_IN, PREPARED, SELF_SIGNED
from isthmus.trust.x509 import BadCertificate, certificate_pem, fingerprint, key_pem

FORCED_ROOT = "isthmus.io/forced-root"
"""Annotation on the Secret: the fingerprint of a root that is taken into use although proxies may not trust it."""

log = structlog.get_logger()


class AuthorityInUse:
    """The authority that signs now. `changed` are called with each one that takes its place; `news` whenever anything here is different."""

    def __init__(self, current: Authority, subject: Subject, report: Callable[[Iterable[Issue]], None]) -> None:
        self.current = current
        self.prepared: CertificateAuthority | None = None
        """The one that is to sign next: it signs already for who asks for it, so that it can be tried."""
        self.refusal = ""
        """Why what is plugged in now is not in use; empty if it is."""
        self.changed: list[Callable[[Authority], None]] = []
        self.news: Callable[[], None] = lambda: None
        self._subject = subject
        self._report = report

    def offer(self, files: Mapping[str, str], forced_root: str = "") -> None:
        """These are plugged in now."""
        try:
            new = CertificateAuthority.from_files(files, datetime.now(UTC))
        except BadCertificate as error:
            self.refuse(str(error))
            return
        self.consider(new, forced_root)

    def consider(self, new: Authority, forced_root: str = "") -> None:
        """Takes its place, unless proxies would suffer."""
        if fingerprint(new.root) != forced_root and (why := why_not_replaced(self.current, new)):
            self.refuse(why)
            return
        self.refusal = ""
        self._report(())
        if new != self.current:
            log.info("another authority signs", root=fingerprint(new.root), roots=sorted(new.roots))
            self.current = new
            for changed in self.changed:
                changed(new)
        self.news()

    def prepare(self, files: Mapping[str, str] | None) -> None:
        """These are the next authority's; None: there is none. One that cannot sign is none."""
        try:
            self.prepared = None if files is None else CertificateAuthority.from_files(files, datetime.now(UTC))
        except BadCertificate as error:
            log.warning("the prepared authority cannot be used", reason=str(error))
            self.prepared = None
        self.news()

    def refuse(self, why: str) -> None:
        """What is plugged in cannot be used."""
        log.warning("authority refused, the one before goes on", reason=why)
        self.refusal = why
        self.news()
        self._report((_refused(self._subject, why),))


class AuthoritySecrets:
    """Follows the Secrets of an authority. `run` until cancelled."""

    def __init__(self, client: ApiClient, namespace: Namespace, use: AuthorityInUse) -> None:
        self._use = use
        self._namespace = namespace
        self._news = asyncio.Event()
        self._found = {
            name: Reflector(
                client,
                SECRETS,
                partial(msgspec.json.decode, type=Secret),
                lambda _: self._news.set(),
                namespace=namespace,
                selector={"fieldSelector": f"metadata.name={name}"},
            )
            for name in (PLUGGED_IN, SELF_SIGNED, PREPARED)
        }

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for name, reflector in self._found.items():
                tasks.create_task(reflector.run(), name=f"watch Secret {name}")
            for reflector in self._found.values():
                await reflector.synced.wait()
            while True:
                await self._news.wait()
                self._news.clear()
                self._use.prepare(self._files(PREPARED))
                self._offer()

    def _offer(self) -> None:
        """The first that there is, as at the start."""
        for name in (PLUGGED_IN, SELF_SIGNED):
            key, reflector = (self._namespace, name), self._found[name]
            if key in reflector.malformed:
                self._use.refuse(f"Secret {name} cannot be read")
                return
            files = self._files(name)
            if files is not None:
                self._use.offer(files, reflector.values[key].metadata.annotations.get(FORCED_ROOT, ""))
                return
        self._use.refuse("it is gone")

    def _files(self, name: str) -> dict[str, str] | None:
        secret = self._found[name].values.get((self._namespace, name))
        return None if secret is None else {entry: _text(body) for entry, body in secret.data.items()}


async def follow_files(directory: Path, use: AuthorityInUse) -> None:
    """Until cancelled: what is in the directory is what is plugged in."""
    await follow(directory, lambda files: use.offer({name: _text(body) for name, body in files.items()}))


async def load_authority(
    client: ApiClient, system_namespace: Namespace, trust_domain: TrustDomain
) -> CertificateAuthority:
    """The plugged-in authority (`cacerts`), else the self-signed one, which the first control plane to start creates.

    Raises BadCertificate for a Secret whose parts do not fit: a mesh with half an authority must not start.
    """
    for name in (PLUGGED_IN, SELF_SIGNED):
        try:
            return _from_secret(await client.get(SECRETS, name, system_namespace))
        except NotFound:
            continue
    authority = CertificateAuthority.self_signed(trust_domain, datetime.now(UTC))
    try:
        await client.create(SECRETS, _self_signed_secret(authority, system_namespace), system_namespace)
    except AlreadyExists:
        return _from_secret(await client.get(SECRETS, SELF_SIGNED, system_namespace))
    log.info("created a self-signed authority", secret=f"{system_namespace}/{SELF_SIGNED}")
    return authority


def load_files(directory: Path) -> CertificateAuthority:
    """The authority in a directory. Raises BadCertificate."""
    try:
        files = {path.name: _text(path.read_bytes()) for path in sorted(directory.iterdir()) if path.is_file()}
        return CertificateAuthority.from_files(files, datetime.now(UTC))
    except (OSError, BadCertificate) as error:
        raise BadCertificate(f"{directory}: {error}") from None


def _text(body: bytes) -> str:
    return body.decode(errors="replace")


def _from_secret(secret: dict[str, Any]) -> CertificateAuthority:
    try:
        files = {name: _text(base64.b64decode(value)) for name, value in (secret.get("data") or {}).items()}
        return CertificateAuthority.from_files(files, datetime.now(UTC))
    except (BadCertificate, ValueError) as error:
        raise BadCertificate(f"Secret {secret['metadata']['name']}: {error}") from None


def _self_signed_secret(authority: CertificateAuthority, namespace: Namespace) -> dict[str, Any]:
    data = {
        ISTIO.certificate: certificate_pem(authority.issuer.certificate),
        ISTIO.key: key_pem(authority.issuer.key),
        ISTIO.root: authority.root_pem,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SELF_SIGNED, "namespace": namespace},
        "type": "istio.io/ca-root",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def subject_of_authority(cluster: ClusterId, namespace: Namespace, directory: str) -> Subject:
    """What issues about the plugged-in authority are about."""
    return (
        Subject(cluster, "Directory", "", directory) if directory else Subject(cluster, "Secret", namespace, PLUGGED_IN)
    )


def _refused(subject: Subject, why: str) -> Issue:
    return Issue(
        subject=subject,
        code="ISM0207",
        severity=Severity.ERROR,
        what=f"the authority that is plugged in is not taken into use, and the one before goes on signing: {why}",
        fix="mend what is named; change a root in steps",
    )
