"""Linking clusters: which objects each needs so that the control planes of others may discover it. Decided here, carried out by `link_client`.

For each cluster that is read: a reader (account, role, binding). For each pair: a remote secret in the cluster that reads. What `link` makes is
labelled as its own; the account also remembers who reads through it, so that unlinking two clusters does not cut off a third.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from isthmus.kubernetes.kubeconfig import ApiAddress, BadKubeconfig, address_from_secret
from isthmus.kubernetes.reader_access import Reader, made_by, reader_objects
from isthmus.kubernetes.resources import SECRETS, SERVICE_ACCOUNTS, ResourcePath
from isthmus.kubernetes.token_claims import expiry_of

Object = dict[str, Any]

MANAGER = "isthmus-link"
READ_BY = "isthmus.io/read-by"


class Action(StrEnum):
    """What happens to an object; `RENEWED` is a secret with a new credential."""

    CREATED = "created"
    UPDATED = "updated"
    RENEWED = "renewed"
    DELETED = "deleted"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One object in one cluster. `reads` is the cluster that a remote secret is for; `body` what is written (for a secret: what is there now)."""

    cluster: str
    resource: ResourcePath
    name: str
    namespace: str
    action: Action
    why: str = ""
    reads: str = ""
    body: Object = field(default_factory=dict)
    expires: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What one cluster has now. `reader` by plural name; `rejected` are tokens for it that its API server does not take (any more)."""

    server: str
    reader: Mapping[str, Object]
    secrets: Sequence[Object]
    rejected: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user asked for. `renew` replaces credentials that are still good."""

    namespace: str
    account: str
    renew: bool
    now: datetime

    @property
    def reader(self) -> Reader:
        return Reader(namespace=self.namespace, account=self.account, manager=MANAGER)


def all_pairs(clusters: Sequence[str]) -> list[tuple[str, str]]:
    """Everybody reads everybody: (who reads, who is read)."""
    return [(reading, read) for reading in clusters for read in clusters if reading != read]


def one_way(clusters: Sequence[str]) -> list[tuple[str, str]]:
    """The first reads the others."""
    return [(clusters[0], read) for read in clusters[1:]]


def plan_link(observed: Mapping[str, Observed], pairs: Sequence[tuple[str, str]], wishes: Wishes) -> list[Step]:
    """Readers first, then secrets."""
    steps: list[Step] = []
    for cluster in dict.fromkeys(read for _, read in pairs):
        steps += _reader_steps(cluster, observed[cluster], {who for who, read in pairs if read == cluster}, wishes)
    steps += [_secret_step(reading, read, observed, wishes) for reading, read in pairs]
    return steps


def plan_unlink(observed: Mapping[str, Observed], pairs: Sequence[tuple[str, str]], wishes: Wishes) -> list[Step]:
    """Secrets first, then the readers that nobody uses any more. Only what `link` made."""
    steps = [step for reading, read in pairs for step in _unlink_secret(reading, read, observed[reading], wishes)]
    for cluster in dict.fromkeys(read for _, read in pairs):
        steps += _unlink_reader(cluster, observed[cluster], {who for who, read in pairs if read == cluster}, wishes)
    return steps


def kubeconfig_in(secret: Object, cluster: str) -> ApiAddress:
    """Raises BadKubeconfig."""
    try:
        text = base64.b64decode(secret["data"][cluster], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, TypeError):
        raise BadKubeconfig("is not base64 of a kubeconfig") from None
    return address_from_secret(text)


def secret_for(secrets: Iterable[Object], cluster: str) -> Object | None:
    """The remote secret that counts for a cluster: the oldest one with its key."""
    found = [secret for secret in secrets if cluster in (secret.get("data") or {})]
    age = sorted(found, key=lambda s: (s["metadata"].get("creationTimestamp", ""), s["metadata"]["name"]))
    return age[0] if age else None


def _reader_steps(cluster: str, observed: Observed, readers: set[str], wishes: Wishes) -> Iterator[Step]:
    for resource, wanted in reader_objects(wishes.reader):
        there = observed.reader.get(resource.plural)
        if resource == SERVICE_ACCOUNTS:
            everybody = sorted(readers | (_read_by(there) if there else set()))
            wanted["metadata"]["annotations"] = {READ_BY: ",".join(everybody)}
        action, why = Action.CREATED, ""
        if there is not None:
            action, why = _compared(there, wanted)
        metadata = wanted["metadata"]
        yield Step(cluster=cluster, resource=resource, name=metadata["name"], namespace=metadata.get("namespace", ""),
                   action=action, why=why, body=wanted)  # fmt: skip


def _compared(there: Object, wanted: Object) -> tuple[Action, str]:
    if not made_by(there, MANAGER):
        return Action.UNCHANGED, "not made by link"
    if wanted["kind"] == "ServiceAccount":
        if _read_by(there) != _read_by(wanted):
            return Action.UPDATED, f"read by {wanted['metadata']['annotations'][READ_BY]}"
        return Action.UNCHANGED, ""
    differing = [name for name in ("rules", "subjects") if there.get(name) != wanted.get(name)]
    return (Action.UPDATED, f"{differing[0]} differed") if differing else (Action.UNCHANGED, "")


def _secret_step(reading: str, read: str, observed: Mapping[str, Observed], wishes: Wishes) -> Step:
    there = secret_for(observed[reading].secrets, read)
    step = Step(cluster=reading, resource=SECRETS, name=f"istio-remote-secret-{read}", namespace=wishes.namespace,
                action=Action.CREATED, reads=read)  # fmt: skip
    if there is None:
        return step
    defect, expires = _judged(there, read, observed[read], wishes.now)
    ours = made_by(there, MANAGER)
    if wishes.renew:
        action, why = Action.RENEWED, defect or "asked for"
    elif not defect:
        action, why = Action.UNCHANGED, "" if ours else "not made by link"
    elif ours:
        action, why = Action.RENEWED, defect
    else:
        action, why = Action.UNCHANGED, f"not made by link, and {defect}: --renew replaces its credential"
    return Step(cluster=reading, resource=SECRETS, name=there["metadata"]["name"], namespace=wishes.namespace,
                action=action, why=why, reads=read, body=there, expires=expires)  # fmt: skip


def _judged(secret: Object, read: str, observed: Observed, now: datetime) -> tuple[str, datetime | None]:
    """What is wrong with the credential in a secret, if anything; and when it expires."""
    try:
        address = kubeconfig_in(secret, read)
    except BadKubeconfig as error:
        return f"its kubeconfig cannot be used: {error}", None
    expires = expiry_of(address.token)
    if expires is not None and expires <= now:
        return "its token has expired", expires
    if address.token in observed.rejected:
        return "its token is not taken any more", expires
    if expires is not None and _in_last_third(secret, expires, now):
        return "its token is in the last third of its life", expires
    if made_by(secret, MANAGER) and address.server != observed.server:
        return f"its server was {address.server}", expires
    return "", expires


def _in_last_third(secret: Object, expires: datetime, now: datetime) -> bool:
    """Since when: the secret's own note of its last renewal."""
    stamp = (secret["metadata"].get("annotations") or {}).get(RENEWED_AT) or secret["metadata"].get("creationTimestamp")
    try:
        since = datetime.fromisoformat(str(stamp))
        return (expires - now) * 3 < expires - since
    except (ValueError, TypeError):
        return False


RENEWED_AT = "isthmus.io/renewed-at"


def _unlink_secret(reading: str, read: str, observed: Observed, wishes: Wishes) -> Iterator[Step]:
    for secret in observed.secrets:
        if read not in (secret.get("data") or {}):
            continue
        ours = made_by(secret, MANAGER)
        alone = set(secret["data"]) == {read}
        action = Action.UNCHANGED if not ours else Action.DELETED if alone else Action.UPDATED
        why = "not made by link" if not ours else "" if alone else f"{read} is taken out, other clusters stay"
        yield Step(cluster=reading, resource=SECRETS, name=secret["metadata"]["name"], namespace=wishes.namespace,
                   action=action, why=why, reads=read, body=secret)  # fmt: skip


def _unlink_reader(cluster: str, observed: Observed, readers: set[str], wishes: Wishes) -> Iterator[Step]:
    account = observed.reader.get(SERVICE_ACCOUNTS.plural)
    left = sorted(_read_by(account) - readers) if account else []
    for resource, wanted in reversed(list(reader_objects(wishes.reader))):
        there = observed.reader.get(resource.plural)
        if there is None:
            continue
        action, why, body = Action.DELETED, "", there
        if not made_by(there, MANAGER):
            action, why = Action.UNCHANGED, "not made by link"
        elif left:
            action, why = Action.UNCHANGED, f"still read by {', '.join(left)}"
            if resource == SERVICE_ACCOUNTS and _read_by(there) & readers:
                action, body = Action.UPDATED, {"kind": "ServiceAccount", "metadata": {"annotations": {READ_BY: ",".join(left)}}}  # fmt: skip
        elif account is not None and not made_by(account, MANAGER):
            # The account is somebody else's: it may be in use, and without its role it could do nothing.
            action, why = Action.UNCHANGED, "its account was not made by link"
        metadata = wanted["metadata"]
        yield Step(cluster=cluster, resource=resource, name=metadata["name"], namespace=metadata.get("namespace", ""),
                   action=action, why=why, body=body)  # fmt: skip


def _read_by(account: Object) -> set[str]:
    noted = (account.get("metadata", {}).get("annotations") or {}).get(READ_BY, "")
    return {name for name in noted.split(",") if name}
