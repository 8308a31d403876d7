"""Carries out what `linking` decided, over the API servers of the clusters.

Make before break: a new credential is shown to work before it takes the old one's place, and the old one stays good until it expires.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, Forbidden, KubernetesError, NotFound, Unauthorized
from isthmus.kubernetes.kubeconfig import BadKubeconfig
from isthmus.kubernetes.linking import MANAGER, RENEWED_AT, Action, Observed, Step, Wishes, kubeconfig_in, secret_for
from isthmus.kubernetes.reader_access import MANAGED_BY, made_by, reader_objects
from isthmus.kubernetes.remote_secret import LABEL, CannotCreate, remote_secret, token_secret_of
from isthmus.kubernetes.resources import CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, SECRETS, SERVICE_ACCOUNTS, ResourcePath
from isthmus.kubernetes.token_claims import expiry_of

Object = dict[str, Any]

_PROOF_SECONDS = 10.0
_TOKEN_SECRET_SECONDS = 10.0
_PAUSE_SECONDS = 0.25
_TOKEN_SECRET = "kubernetes.io/service-account-token"
_OF_ACCOUNT = "kubernetes.io/service-account.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One cluster: how this command reaches it, and how other clusters do."""

    id: str
    client: ApiClient
    server: str
    ca_pem: str
    tls_server_name: str


async def observe(party: Party, wishes: Wishes) -> Observed:
    """What there is. Raises KubernetesError."""
    found = {}
    for resource, wanted in reader_objects(wishes.reader):
        there = await _find(party.client, resource, wanted["metadata"]["name"], wanted["metadata"].get("namespace", ""))
        if there is not None:
            found[resource.plural] = there
    listed = await party.client.list_objects(SECRETS, wishes.namespace, labelSelector=f"{LABEL}=true")
    return Observed(server=party.server, reader=found, secrets=list(listed["items"]))


async def observe_all(
    parties: Mapping[str, Party], pairs: Sequence[tuple[str, str]], wishes: Wishes
) -> dict[str, Observed]:
    """Of every cluster; and each token that a secret holds is shown to the API server that it is for."""
    found = {name: await observe(party, wishes) for name, party in parties.items()}
    for read in dict.fromkeys(read for _, read in pairs):
        tokens = {_token_for(found[reading].secrets, read) for reading, named in pairs if named == read} - {""}
        rejected = frozenset([token for token in sorted(tokens) if not await _is_taken(parties[read].client, token)])
        found[read] = replace(found[read], rejected=rejected)
    return found


async def carry_out(
    steps: Iterable[Step], parties: Mapping[str, Party], wishes: Wishes, token_seconds: int
) -> list[Step]:
    """The steps as they were done, in order, with when new credentials expire. Raises KubernetesError, CannotCreate."""
    done = []
    for step in steps:
        if step.resource == SECRETS and step.action in (Action.CREATED, Action.RENEWED):
            done.append(await _write_secret(step, parties, wishes, token_seconds))
        elif step.action is not Action.UNCHANGED:
            await _apply(parties[step.cluster].client, step)
            done.append(step)
        else:
            done.append(step)
    return done


async def ensure_reader(client: ApiClient, objects: Iterable[tuple[ResourcePath, Object]]) -> list[tuple[str, str]]:
    """Makes what is not there; what is there stays as it is. Kind and name of what was made."""
    made = []
    for resource, wanted in objects:
        try:
            await client.create(resource, wanted, wanted["metadata"].get("namespace", ""))
        except AlreadyExists:
            continue
        made.append((wanted["kind"], wanted["metadata"]["name"]))
    return made


async def proven_token(client: ApiClient, namespace: str, account: str, seconds: int) -> str:
    """A bound token that has been shown to work. Raises KubernetesError."""
    token = await client.request_token(namespace, account, audiences=(), seconds=seconds)
    as_reader = replace(
        client.address, token=token, token_file="", client_certificate_pem="", client_key_pem="", exec_plugin=None
    )
    loop = asyncio.get_running_loop()
    until = loop.time() + _PROOF_SECONDS
    async with ApiClient(as_reader) as asked:
        while True:
            try:
                await asked.list_objects(NAMESPACES, limit="1")
            except (Forbidden, Unauthorized) as error:
                if loop.time() > until:
                    raise KubernetesError(
                        f"a new token of {namespace}/{account} cannot read the cluster: {error}"
                    ) from None
            else:
                return token
            # An API server takes a moment to notice a new account and its role.
            await asyncio.sleep(_PAUSE_SECONDS)


async def long_lived_token(client: ApiClient, namespace: str, account: str, secret_name: str) -> tuple[str, str]:
    """Authority and token of the account's token Secret, which is made if there is none. Raises CannotCreate, KubernetesError."""
    name = secret_name
    if not await _token_secrets(client, namespace, account) and not secret_name:
        name = f"{account}-istio-remote-secret-token"
        metadata = {"name": name, "namespace": namespace, "annotations": {_OF_ACCOUNT: account}}
        await client.create(SECRETS, {"metadata": metadata, "type": _TOKEN_SECRET}, namespace)
    owner = {"kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}}
    loop = asyncio.get_running_loop()
    until = loop.time() + _TOKEN_SECRET_SECONDS
    while True:
        found = await _token_secrets(client, namespace, account)
        try:
            return token_secret_of([owner, *found], account, namespace, name)
        except CannotCreate as error:
            if name == secret_name or loop.time() > until:
                raise CannotCreate(f"{client.address.server}: {error}") from None
        # The cluster's token controller fills a new Secret.
        await asyncio.sleep(_PAUSE_SECONDS)


async def _token_secrets(client: ApiClient, namespace: str, account: str) -> list[Object]:
    listed = await client.list_objects(SECRETS, namespace, fieldSelector=f"type={_TOKEN_SECRET}")
    return [
        {**item, "kind": "Secret"}
        for item in listed["items"]
        if (item["metadata"].get("annotations") or {}).get(_OF_ACCOUNT) == account
    ]


async def authority_of(client: ApiClient, namespace: str) -> str:
    """The certificate authority of an API server: of the kubeconfig, or else what the cluster itself publishes."""
    if client.address.ca_pem:
        return client.address.ca_pem
    published = await _find(client, CONFIG_MAPS, "kube-root-ca.crt", namespace)
    return str((published or {}).get("data", {}).get("ca.crt", ""))


async def declared_id(client: ApiClient, namespace: str) -> str:
    """What the cluster's own control plane calls the cluster (CLUSTER_ID); empty if it has none, or we may not look."""
    try:
        listed = await client.list_objects(DEPLOYMENTS, namespace, labelSelector="app=istiod")
    except Forbidden:
        return ""
    for deployment in listed["items"]:
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            for variable in container.get("env") or ():
                if variable["name"] == "CLUSTER_ID" and variable.get("value"):
                    return str(variable["value"])
    return ""


async def _write_secret(step: Step, parties: Mapping[str, Party], wishes: Wishes, seconds: int) -> Step:
    read = parties[step.reads]
    token = await proven_token(read.client, wishes.namespace, wishes.account, seconds)
    server, ca_pem, tls_name = _where(step, read)
    secret = remote_secret(
        cluster=step.reads,
        namespace=wishes.namespace,
        server=server,
        ca_pem=ca_pem,
        token=token,
        tls_server_name=tls_name,
    )
    stamp = {RENEWED_AT: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    client = parties[step.cluster].client
    if step.action is Action.CREATED:
        secret["metadata"]["labels"][MANAGED_BY] = MANAGER
        secret["metadata"]["annotations"] |= stamp
        await client.create(SECRETS, secret, wishes.namespace)
    else:
        text = secret["stringData"][step.reads]
        change = {"data": {step.reads: base64.b64encode(text.encode()).decode()}, "metadata": {"annotations": stamp}}
        await client.patch(SECRETS, step.name, change, wishes.namespace)
    return replace(step, expires=expiry_of(token))


def _where(step: Step, read: Party) -> tuple[str, str, str]:
    """Server, authority, TLS name. Of somebody else's secret only the credential is replaced: the rest stays their decision."""
    own = (read.server, read.ca_pem, read.tls_server_name)
    if step.action is Action.CREATED or made_by(step.body, MANAGER):
        return own
    try:
        theirs = kubeconfig_in(step.body, step.reads)
    except BadKubeconfig:
        return own  # Nothing of it can be kept.
    return theirs.server, theirs.ca_pem or read.ca_pem, theirs.tls_server_name


async def _apply(client: ApiClient, step: Step) -> None:
    match step.action:
        case Action.CREATED:
            await client.create(step.resource, step.body, step.namespace)
        case Action.DELETED:
            try:
                await client.delete(step.resource, step.name, step.namespace)
            except NotFound:
                return
        case _ if step.resource == SECRETS:
            await client.patch(SECRETS, step.name, {"data": {step.reads: None}}, step.namespace)
        case _ if step.resource == SERVICE_ACCOUNTS:
            change = {"metadata": {"annotations": step.body["metadata"]["annotations"]}}
            await client.patch(step.resource, step.name, change, step.namespace)
        case _:
            change = {name: step.body[name] for name in ("rules", "subjects") if name in step.body}
            await client.patch(step.resource, step.name, change)


async def _find(client: ApiClient, resource: ResourcePath, name: str, namespace: str) -> Object | None:
    try:
        return await client.get(resource, name, namespace)
    except NotFound:
        return None


async def _is_taken(client: ApiClient, token: str) -> bool:
    try:
        status = await client.review_token(token, audiences=())
    except Forbidden:
        return True  # We may not ask; its expiry still counts.
    return bool(status.get("authenticated"))


def _token_for(secrets: Sequence[Object], cluster: str) -> str:
    secret = secret_for(secrets, cluster)
    try:
        return kubeconfig_in(secret, cluster).token if secret else ""
    except BadKubeconfig:
        return ""
