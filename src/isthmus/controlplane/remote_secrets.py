"""Remote secrets: which other clusters are to be discovered, and with which kubeconfig. A pure reading of the Secrets.

A Secret labelled `istio/multiCluster=true` in the system namespace has a kubeconfig for each cluster id. A bad one is an issue and touches no
other cluster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from isthmus.api.core import Secret
from isthmus.kubernetes.kubeconfig import ApiAddress, BadKubeconfig, address_from_secret
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId

LABEL = "istio/multiCluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCluster:
    """One cluster to discover. Equal digests mean equal kubeconfigs: nothing to do."""

    id: ClusterId
    secret: str
    digest: str
    address: ApiAddress


def is_remote_secret(secret: Secret, system_namespace: str) -> bool:
    """Its label selects it, in the system namespace alone; its name says nothing."""
    return secret.metadata.namespace == system_namespace and secret.metadata.labels.get(LABEL) == "true"


def remote_clusters(
    secrets: Iterable[Secret], own_cluster: ClusterId, *, allowed: Sequence[str] = ()
) -> tuple[dict[ClusterId, RemoteCluster], list[Issue]]:
    """What the secrets ask for. Of two secrets with one cluster id, the older wins; one's own cluster is skipped.

    `allowed` are fields of kubeconfigs whose risk the operator has accepted.
    """
    wanted: dict[ClusterId, RemoteCluster] = {}
    issues: list[Issue] = []
    for secret in sorted(secrets, key=lambda s: (s.metadata.creation_timestamp, s.metadata.name)):
        for key, body in sorted(secret.data.items()):
            cluster = ClusterId(key)
            if cluster == own_cluster:
                continue
            if cluster in wanted:
                issues.append(
                    _issue(own_cluster, secret, key, _TAKEN.format(wanted[cluster].secret), "delete one of the two")
                )
                continue
            try:
                address = address_from_secret(body.decode(), allowed=allowed)
            except (BadKubeconfig, UnicodeDecodeError) as error:
                issues.append(_issue(own_cluster, secret, key, str(error), "create the secret anew for that cluster"))
                continue
            wanted[cluster] = RemoteCluster(
                id=cluster,
                secret=f"{secret.metadata.namespace}/{secret.metadata.name}",
                digest=hashlib.sha256(body).hexdigest(),
                address=address,
            )
    return wanted, issues


_TAKEN = "the cluster is provided by secret {} already, which is older and wins"


def _issue(own_cluster: ClusterId, secret: Secret, key: str, what: str, fix: str) -> Issue:
    return Issue(
        subject=Subject(own_cluster, "Secret", secret.metadata.namespace, secret.metadata.name),
        code="ISM0201",
        severity=Severity.ERROR,
        what=f"cluster {key} is not discovered: {what}",
        fix=fix,
        field=f"data.{key}",
    )
