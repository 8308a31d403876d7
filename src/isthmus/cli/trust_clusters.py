"""The clusters whose authorities change together: what they have, what their control planes answer, and how a step is written.

A Secret with an authority is replaced only as it was read: of two who change it at once, one is refused.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import yaml

from isthmus.api.core import ConfigMap
from isthmus.cli.contexts import Context
from isthmus.cli.errors import BAD_INPUT, Failed
from isthmus.ingest.mesh_config import CONFIG_MAP as MESH_CONFIG
from isthmus.ingest.mesh_config import BadMeshConfig, document_of, signers_of
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.config_maps import data_of, put_data
from isthmus.kubernetes.errors import AlreadyExists, NotFound
from isthmus.kubernetes.remote_secret import LABEL
from isthmus.kubernetes.resources import PODS, SECRETS
from isthmus.trust import rotation, x509
from isthmus.trust.authority import CRL, ISTIO, CertificateAuthority
from isthmus.trust.rotation import PLUGGED_IN, PREPARED, PREVIOUS, SELF_SIGNED, ClusterTrust, Record, Report, RootState

Object = dict[str, Any]

_KEPT = (ISTIO.certificate, ISTIO.key, ISTIO.chain)
"""The entries that sign; what is trusted is another one."""
_ANSWER_SECONDS = 15.0
_LOOK_SECONDS = 0.25


@dataclass(slots=True)
class Cluster:
    """One cluster with an authority, as it was read last."""

    name: str
    client: ApiClient
    namespace: str
    secret: Object
    files: dict[str, str]
    authority: CertificateAuthority
    kept: dict[str, CertificateAuthority] = field(default_factory=dict)
    """The prepared one and the previous one, by their Secrets' names."""
    data: dict[str, str] = field(default_factory=dict)
    reports: dict[str, Report | None] = field(default_factory=dict)
    remote_secrets: list[Object] = field(default_factory=list)

    @property
    def records(self) -> dict[str, Record]:
        return rotation.records_of(self.data)

    @property
    def roots(self) -> dict[str, str]:
        """PEM by fingerprint."""
        found = x509.parse_certificates(self.authority.root_pem)
        return {x509.fingerprint(each): x509.certificate_pem(each) for each in found}

    def root_of(self, kept: str) -> str:
        """Of the prepared or the previous authority; empty if there is none."""
        return x509.fingerprint(self.kept[kept].root) if kept in self.kept else ""

    @property
    def trust(self) -> ClusterTrust:
        return ClusterTrust(
            name=self.name,
            roots=self.roots,
            active=x509.fingerprint(self.authority.root),
            prepared=self.root_of(PREPARED),
            records=self.records,
            reports=self.reports,
        )

    # Writing.

    async def sign_with(self, authority: CertificateAuthority) -> None:
        """From now on; what signed until now is kept, to be able to go back. What is trusted stays as it is."""
        before = {name: text for name, text in self.files.items() if name in _KEPT}
        root = {ISTIO.root: x509.certificate_pem(self.authority.root)}
        await self.keep(PREVIOUS, {ISTIO.certificate: self.authority.authority_pem, **before, **root})
        await self._change_secret(files_of(authority, self.authority.root_pem))

    async def go_back(self) -> None:
        """What signed before signs again, and what signs now is prepared. Whatever ends it in between, it can be done again."""
        before, active = self.root_of(PREVIOUS), self.trust.active
        if before != active:
            await self.keep(PREPARED, files_of(self.authority, self.roots[active]))
            await self._change_secret(files_of(self.kept[PREVIOUS], self.authority.root_pem))
        prepared = active if before != active else self.root_of(PREPARED)
        await self.note({before: RootState.ACTIVE, prepared: RootState.PREPARED}, datetime.now(UTC))
        await self.forget(PREVIOUS)

    async def trust_roots(self, pem: str, lists: str) -> None:
        """Exactly these; and with exactly these revocation lists, if there were any before."""
        await self._change_secret({ISTIO.root: pem} | ({CRL: lists} if self.authority.crl_pem else {}))

    def authorities_under(self, roots: Collection[str]) -> list[x509.Certificate]:
        """Of this cluster, with the roots."""
        under = (each for each in (self.authority, *self.kept.values()) if x509.fingerprint(each.root) in roots)
        return [each for found in under for each in (found.issuer.certificate, *found.issuer.intermediates, found.root)]

    async def _change_secret(self, files: Mapping[str, str]) -> None:
        metadata = {"resourceVersion": self.secret["metadata"]["resourceVersion"]}
        body = {"metadata": metadata, "data": _encoded(files)}
        await self.client.patch(SECRETS, self.secret["metadata"]["name"], body, self.namespace)

    async def keep(self, name: str, files: Mapping[str, str]) -> None:
        metadata = {"name": name, "namespace": self.namespace}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "istio.io/ca-root"}
        body["data"] = _encoded(files)
        try:
            await self.client.create(SECRETS, body, self.namespace)
        except AlreadyExists:
            await self.client.patch(SECRETS, name, {"data": body["data"]}, self.namespace)

    async def forget(self, name: str) -> None:
        """Deletes a Secret, which may have gone already."""
        try:
            await self.client.delete(SECRETS, name, self.namespace)
        except NotFound:
            return

    async def note(self, states: Mapping[str, RootState | None], now: datetime) -> None:
        """What has become of roots, by fingerprint; None: as if it had never been. One that has been in its state for a while keeps its moment."""
        records = self.records
        names = {x509.fingerprint(each): each.subject.rfc4514_string() for each in _certificates(self)}
        for root, state in states.items():
            if state is None:
                records.pop(root, None)
            elif root not in records or records[root].state is not state:
                subject = names.get(root) or (records[root].subject if root in records else "")
                records[root] = Record(state=state, since=now, subject=subject)
        await self._put_data({rotation.ROOTS: msgspec.json.encode(records).decode()})

    async def cut(self, now: datetime) -> None:
        """Connections that callers have opened until now end: who is still trusted opens new ones."""
        await self._put_data({rotation.CUT: now.isoformat()})

    async def leave_behind(self, evicted: str, root: str) -> None:
        """Notes that the root was made to leave that cluster behind, so that the eviction can be gone on with."""
        await self._put_data({rotation.EVICTED: json.dumps({root: evicted})})

    def root_without(self, evicted: str) -> str:
        """The root that was made to leave that cluster behind; empty if there is none."""
        try:
            made = dict(json.loads(self.data.get(rotation.EVICTED, "{}")))
        except (ValueError, TypeError):
            return ""
        return next((str(root) for root, cluster in made.items() if cluster == evicted), "")

    def linked(self, cluster: str) -> list[Object]:
        """Remote secrets that lead to another cluster."""
        return [each for each in self.remote_secrets if cluster in (each.get("data") or {})]

    async def unlink(self, cluster: str) -> list[str]:
        """Takes another cluster out of the remote secrets: nothing there is discovered, and none of its tokens counts. Names what was changed."""
        found = self.linked(cluster)
        for secret in found:
            name = secret["metadata"]["name"]
            if len(secret["data"]) == 1:
                await self.forget(name)
            else:
                await self.client.patch(SECRETS, name, {"data": {cluster: None}}, self.namespace)
        return [secret["metadata"]["name"] for secret in found]

    async def ask(self, question: str) -> None:
        await self._put_data({rotation.QUESTION: question})

    async def _put_data(self, data: Mapping[str, str]) -> None:
        await put_data(self.client, rotation.CONFIG_MAP, self.namespace, data)

    # Reading.

    async def answers(self, question: str) -> None:
        """Reads what its control planes have answered; None for those that have not."""
        pods = (await self.client.list_objects(PODS, self.namespace, labelSelector="app=istiod"))["items"]
        said = await data_of(self.client, rotation.REPORTS, self.namespace)
        self.reports = {}
        for pod in pods:
            if pod["metadata"].get("deletionTimestamp") or (pod.get("status") or {}).get("phase") in (
                "Failed",
                "Succeeded",
            ):
                continue
            name = pod["metadata"]["name"]
            self.reports[name] = _report(said.get(name, ""), question)

    def remote_secrets_with(self, root: str) -> list[str]:
        """Names of remote secrets whose API server or credential is of this root."""
        certificate = next((each for each in _certificates(self) if x509.fingerprint(each) == root), None)
        if certificate is None:
            return []
        return [found["metadata"]["name"] for found in self.remote_secrets if _is_of(found, certificate)]


@asynccontextmanager
async def mesh(contexts: Sequence[Context], namespace: str) -> AsyncIterator[list[Cluster]]:
    """Those of the clusters that have an authority. Raises KubernetesError, and Failed if none has."""
    async with AsyncExitStack() as stack:
        found, signers = [], set[str]()
        for context in contexts:
            client = await stack.enter_async_context(ApiClient(context.address))
            cluster = await _read(context.name, client, namespace)
            if cluster is not None:
                found.append(cluster)
            else:
                signers |= await _signers(client, namespace)
        if not found:
            names = ", ".join(context.name for context in contexts)
            told = f"no authority (Secret cacerts or istio-ca-secret in {namespace}) in {names}"
            raise Failed(f"{told}{_elsewhere(signers)}", exit_code=BAD_INPUT)
        yield found


async def _signers(client: ApiClient, namespace: str) -> set[str]:
    """Whose roots MeshConfig has. One that cannot be read has none here: `isthmus analyze` says what is wrong with it."""
    try:
        said = ConfigMap(data=await data_of(client, MESH_CONFIG, namespace))
        return {str(name) for entry in signers_of(document_of(said, "mesh")) for name in entry["certSigners"]}
    except BadMeshConfig:
        return set()


def _elsewhere(signers: Collection[str]) -> str:
    if not signers:
        return ""
    return (
        f": certificates are signed by {', '.join(sorted(signers))}. Its roots are changed in MeshConfig (caCertificates), and what it has signed "
        "is its own to revoke; `isthmus trust expiry` shows what ends when"
    )


async def renewed(clusters: Sequence[Cluster]) -> list[Cluster]:
    """As they are now, with what their control planes answered last."""
    found = []
    for old in clusters:
        new = await _read(old.name, old.client, old.namespace)
        if new is None:
            raise Failed(f"{old.name}: its authority has gone meanwhile")
        new.reports = old.reports
        found.append(new)
    return found


async def asked(clusters: Sequence[Cluster]) -> list[Cluster]:
    """The clusters as they are now, with the answers of their control planes to a question that is asked now."""
    found = await renewed(clusters)
    question = uuid.uuid4().hex
    await asyncio.gather(*(cluster.ask(question) for cluster in found))
    deadline = asyncio.get_running_loop().time() + _ANSWER_SECONDS
    while True:
        await asyncio.gather(*(cluster.answers(question) for cluster in found))
        late = any(report is None for cluster in found for report in cluster.reports.values())
        if not late or asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(_LOOK_SECONDS)


def files_of(authority: CertificateAuthority, root_pem: str) -> dict[str, str]:
    """The entries of its Secret."""
    above = "".join(x509.certificate_pem(each) for each in authority.issuer.intermediates)
    return {
        ISTIO.certificate: authority.authority_pem,
        ISTIO.key: x509.key_pem(authority.issuer.key),
        ISTIO.chain: authority.authority_pem + above + x509.certificate_pem(authority.root),
        ISTIO.root: root_pem,
    }


async def _read(name: str, client: ApiClient, namespace: str) -> Cluster | None:
    secrets = {each["metadata"]["name"]: each for each in (await client.list_objects(SECRETS, namespace))["items"]}
    secret = next((secrets[each] for each in (PLUGGED_IN, SELF_SIGNED) if each in secrets), None)
    if secret is None:
        return None
    files = _decoded(secret)
    if ISTIO.certificate not in files:
        raise Failed(
            f"{name}: Secret {secret['metadata']['name']} is not in Istio's layout: whoever writes it has to change its roots",
            exit_code=BAD_INPUT,
        )
    kept = {each: _authority(name, each, _decoded(secrets[each])) for each in (PREPARED, PREVIOUS) if each in secrets}
    return Cluster(
        name=name,
        client=client,
        namespace=namespace,
        secret=secret,
        files=files,
        authority=_authority(name, secret["metadata"]["name"], files),
        kept=kept,
        data=await data_of(client, rotation.CONFIG_MAP, namespace),
        remote_secrets=[
            each for each in secrets.values() if (each["metadata"].get("labels") or {}).get(LABEL) == "true"
        ],
    )


def _authority(cluster: str, secret: str, files: Mapping[str, str]) -> CertificateAuthority:
    try:
        return CertificateAuthority.from_files(files, datetime.now(UTC))
    except x509.BadCertificate as error:
        raise Failed(f"{cluster}: Secret {secret}: {error}", exit_code=BAD_INPUT) from None


def _certificates(cluster: Cluster) -> Iterable[x509.Certificate]:
    for authority in (cluster.authority, *cluster.kept.values()):
        yield from x509.parse_certificates(authority.root_pem)


def _report(text: str, question: str) -> Report | None:
    try:
        found = msgspec.json.decode(text, type=Report)
    except msgspec.MsgspecError:
        return None
    return found if found.question == question else None


def _is_of(secret: Object, root: x509.Certificate) -> bool:
    """Whether a certificate in one of its kubeconfigs is the root, or signed by it."""
    for value in (secret.get("data") or {}).values():
        try:
            document = yaml.safe_load(base64.b64decode(value))
            shown = list(_pems([*(document.get("clusters") or ()), *(document.get("users") or ())]))
        except (ValueError, yaml.YAMLError, AttributeError, TypeError):
            continue
        if any(each == root or x509.is_issued_by(each, root) for pem in shown for each in pem):
            return True
    return False


def _pems(entries: Iterable[Object]) -> Iterable[list[x509.Certificate]]:
    for entry in entries:
        said = {**(entry.get("cluster") or {}), **(entry.get("user") or {})}
        for name in ("certificate-authority-data", "client-certificate-data"):
            try:
                yield x509.parse_certificates(base64.b64decode(said.get(name) or "").decode())
            except ValueError:
                continue


def _decoded(secret: Object) -> dict[str, str]:
    return {
        name: base64.b64decode(value).decode(errors="replace") for name, value in (secret.get("data") or {}).items()
    }


def _encoded(files: Mapping[str, str]) -> dict[str, str]:
    return {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
