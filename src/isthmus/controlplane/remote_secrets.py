"""Remote secrets: which other clusters are to be discovered, and with which kubeconfig. Pure decisions over Secrets.

A Secret labelled `istio/multiCluster=true` in the system namespace has a kubeconfig for each cluster id. `reading_of` says what the secrets
ask for, `transition` what has to change for it. Laws:

- a kubeconfig that cannot be used touches no other cluster, and not even the connection that its own cluster has already;
- of two secrets with one cluster id the older wins, by name if they are of one age: every replica decides alike;
- equal kubeconfigs mean that nothing is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from isthmus.api.core import Secret
from isthmus.kubernetes.kubeconfig import ApiAddress, BadKubeconfig, address_from_secret
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace

LABEL = "istio/multiCluster"
RISKS = "PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS"
"""The setting by which an operator accepts that writers of remote secrets run programs, or read files, in the control plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRules:
    """What a control plane accepts. `allowed` are the accepted risks; `config_secret` is the one by which it reaches its config cluster."""

    own_cluster: ClusterId
    system_namespace: Namespace
    config_secret: str = ""
    allowed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCluster:
    """One cluster to discover. `source` is the secret (`namespace/name`) or file. Equal digests mean equal kubeconfigs: nothing to do."""

    id: ClusterId
    source: str
    digest: str
    address: ApiAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A kubeconfig that is not used. `reason` says which part of it is why."""

    cluster: ClusterId
    source: str
    reason: str
    issue: Issue


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """An entry that asks for nothing. `issue` is None where that is as it should be, as for one's own cluster."""

    cluster: ClusterId
    source: str
    reason: str
    issue: Issue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteReading:
    """What the sources ask for. Every entry is in one of the three."""

    clusters: Mapping[ClusterId, RemoteCluster]
    rejected: tuple[Rejected, ...] = ()
    ignored: tuple[Ignored, ...] = ()

    @property
    def issues(self) -> tuple[Issue, ...]:
        told = [*(entry.issue for entry in self.rejected), *(entry.issue for entry in self.ignored)]
        return tuple(issue for issue in told if issue is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """What to do next. A cluster in `connect` that is connected already keeps its connection until the new one has read everything."""

    connect: tuple[RemoteCluster, ...]
    leave: tuple[ClusterId, ...]


def accepted_risks(text: str) -> frozenset[str]:
    """From the setting's text: `exec,tokenFile`. A word that is none is accepted and changes nothing, as with istiod."""
    return frozenset(word.strip() for word in text.split(",") if word.strip())


def is_remote_secret(secret: Secret, rules: RemoteRules) -> bool:
    """Its label and its namespace make a Secret one; its name does not matter, unless it leads to the config cluster: that would count twice."""
    metadata = secret.metadata
    labelled = metadata.labels.get(LABEL) == "true" and metadata.name != rules.config_secret
    return labelled and metadata.namespace == rules.system_namespace


def reading_of(secrets: Iterable[Secret], rules: RemoteRules) -> RemoteReading:
    """What the Secrets ask for; those that are no remote secrets are passed over."""
    wanted: dict[ClusterId, RemoteCluster] = {}
    rejected: list[Rejected] = []
    ignored: list[Ignored] = []
    entries = [
        (secret, key, body)
        for secret in sorted(secrets, key=lambda s: (s.metadata.creation_timestamp, s.metadata.name))
        if is_remote_secret(secret, rules)
        for key, body in sorted(secret.data.items())
    ]
    for secret, key, body in entries:
        cluster, source = ClusterId(key), f"{secret.metadata.namespace}/{secret.metadata.name}"
        if cluster == rules.own_cluster:
            ignored.append(Ignored(cluster=cluster, source=source, reason="it is this control plane's own cluster"))
        elif cluster in wanted:
            reason = f"the cluster is provided by secret {wanted[cluster].source} already, which is older and wins"
            issue = _issue(rules, secret, key, reason, "delete one of the two")
            ignored.append(Ignored(cluster=cluster, source=source, reason=reason, issue=issue))
        else:
            found = remote_cluster(cluster, source, body, rules)
            if isinstance(found, RemoteCluster):
                wanted[cluster] = found
            else:
                issue = _issue(rules, secret, key, found, "create the secret anew for that cluster")
                rejected.append(Rejected(cluster=cluster, source=source, reason=found, issue=issue))
    return RemoteReading(clusters=MappingProxyType(wanted), rejected=tuple(rejected), ignored=tuple(ignored))


def remote_cluster(cluster: ClusterId, source: str, body: bytes, rules: RemoteRules) -> RemoteCluster | str:
    """What one kubeconfig asks for, or what is wrong with it."""
    if not cluster:
        return "the key is empty: it has to be the cluster's id"
    try:
        address = address_from_secret(body.decode(), allowed=rules.allowed)
    except (BadKubeconfig, UnicodeDecodeError) as error:
        return str(error)
    return RemoteCluster(id=cluster, source=source, digest=hashlib.sha256(body).hexdigest(), address=address)


def transition(current: Mapping[ClusterId, RemoteCluster], reading: RemoteReading) -> Transition:
    """From the clusters that are connected, or about to be, to what the sources ask for now. In the order of cluster ids.

    A kubeconfig that has become unusable leaves the connection that it gave while it was good: a mistake in writing must not take
    endpoints away. Deleting the entry does.
    """
    held = {
        entry.cluster
        for entry in reading.rejected
        if entry.cluster in current and current[entry.cluster].source == entry.source
    }
    unreadable = {entry.source for entry in reading.rejected if not entry.cluster}
    held |= {cluster for cluster, remote in current.items() if remote.source in unreadable}
    return Transition(
        connect=tuple(
            remote
            for cluster, remote in sorted(reading.clusters.items())
            if cluster not in current or current[cluster].digest != remote.digest
        ),
        leave=tuple(sorted(current.keys() - reading.clusters.keys() - held)),
    )


def after(current: Mapping[ClusterId, RemoteCluster], change: Transition) -> dict[ClusterId, RemoteCluster]:
    """The clusters that are connected once a transition has been made."""
    left = {cluster: remote for cluster, remote in current.items() if cluster not in change.leave}
    return left | {remote.id: remote for remote in change.connect}


def sharing(identities: Mapping[ClusterId, str], own_cluster: ClusterId) -> tuple[Issue, ...]:
    """Clusters that are one and the same. `identities` are the uids of their kube-system namespaces, empty where unknown."""
    by_uid: dict[str, list[ClusterId]] = {}
    for cluster, uid in sorted(identities.items()):
        if uid:
            by_uid.setdefault(uid, []).append(cluster)
    return tuple(
        Issue(
            subject=Subject(own_cluster, "Cluster", "", cluster),
            code="ISM0203",
            severity=Severity.ERROR,
            what=f"{' and '.join(names)} are one cluster under several ids (kube-system has uid {uid}): "
            "its endpoints count several times",
            fix="keep the remote secret whose key is the cluster's own id, and delete the others",
        )
        for uid, names in sorted(by_uid.items())
        if len(names) > 1
        for cluster in names
        if cluster != own_cluster
    )


def misnamed(cluster: ClusterId, own_names: Collection[str], own_cluster: ClusterId, source: str) -> Issue | None:
    """`own_names` are the ids that the remote cluster gives itself: none of them is the one in our secret."""
    if not own_names or cluster in own_names:
        return None
    said = " or ".join(sorted(own_names))
    namespace, _, name = source.rpartition("/")
    return Issue(
        subject=Subject(own_cluster, "Secret", namespace, name),
        code="ISM0202",
        severity=Severity.ERROR,
        what=f"cluster {cluster} calls itself {said}: its proxies say {said}, and are not taken for workloads of {cluster}",
        fix=f"create the secret anew with the name {sorted(own_names)[0]}, or set CLUSTER_ID={cluster} there",
        field=f"data.{cluster}",
    )


def unusable(remote: RemoteCluster, reason: str, own_cluster: ClusterId) -> Issue:
    """A kubeconfig that reads well, and with which no connection can be made."""
    namespace, _, name = remote.source.rpartition("/")
    return Issue(
        subject=Subject(own_cluster, "Secret" if namespace else "Kubeconfig", namespace, name),
        code="ISM0201",
        severity=Severity.ERROR,
        what=f"cluster {remote.id} is not discovered: {reason}",
        fix="create the secret anew for that cluster",
        field=f"data.{remote.id}" if namespace else "",
    )


def _issue(rules: RemoteRules, secret: Secret, key: str, what: str, fix: str) -> Issue:
    return Issue(
        subject=Subject(rules.own_cluster, "Secret", secret.metadata.namespace, secret.metadata.name),
        code="ISM0201",
        severity=Severity.ERROR,
        what=f"cluster {key} is not discovered: {what}",
        fix=fix,
        field=f"data.{key}",
    )
