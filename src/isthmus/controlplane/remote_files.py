"""Remote clusters from a directory of kubeconfigs, for control planes that are given files rather than Secrets.

Each file is a kubeconfig. The cluster's id is the name of the current context's cluster; else of the first context's, by name; else the first
cluster's, by name. What is wrong with one file touches no other, and not the cluster that the file gave while it was good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from isthmus.controlplane.remote_secrets import (
    Ignored,
    Rejected,
    RemoteCluster,
    RemoteReading,
    RemoteRules,
    remote_cluster,
)
from isthmus.kubernetes.kubeconfig import BadKubeconfig, cluster_named_in
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId

_LOOK_SECONDS = 1.0


def reading_of_files(
    files: Mapping[str, bytes], rules: RemoteRules, current: Mapping[ClusterId, RemoteCluster]
) -> RemoteReading:
    """What the files ask for, in the order of their names. Of two with one id, the one that is connected keeps it."""
    wanted: dict[ClusterId, RemoteCluster] = {}
    rejected: list[Rejected] = []
    ignored: list[Ignored] = []
    holders = {remote.source for remote in current.values()}
    for name, body in sorted(files.items(), key=lambda found: (found[0] not in holders, found[0])):
        try:
            cluster = ClusterId(cluster_named_in(body.decode()))
        except (BadKubeconfig, UnicodeDecodeError) as error:
            rejected.append(_rejected(rules, ClusterId(""), name, str(error)))
            continue
        if cluster == rules.own_cluster:
            ignored.append(Ignored(cluster=cluster, source=name, reason="it is this control plane's own cluster"))
        elif cluster in wanted:
            taken = f"the cluster is provided by file {wanted[cluster].source} already"
            rejected.append(_rejected(rules, cluster, name, taken))
        else:
            found = remote_cluster(cluster, name, body, rules)
            if isinstance(found, RemoteCluster):
                wanted[cluster] = found
            else:
                rejected.append(_rejected(rules, cluster, name, found))
    return RemoteReading(clusters=MappingProxyType(wanted), rejected=tuple(rejected), ignored=tuple(ignored))


async def follow(directory: Path, changed: Callable[[dict[str, bytes]], None]) -> None:
    """Until cancelled: tells the files whenever they are others than before, and at once. Hidden files are none of ours."""
    known: dict[str, bytes] | None = None
    while True:
        found = await asyncio.to_thread(_read, directory)
        if found != known:
            known = found
            changed(found)
        await asyncio.sleep(_LOOK_SECONDS)


def _read(directory: Path) -> dict[str, bytes]:
    """A file that goes while it is read is not there; a directory that is not there has no files."""
    found = {}
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        try:
            if not path.name.startswith(".") and path.is_file():
                found[path.name] = path.read_bytes()
        except OSError as error:
            found[path.name] = f"cannot be read: {error}".encode()
    return found


def _rejected(rules: RemoteRules, cluster: ClusterId, name: str, reason: str) -> Rejected:
    issue = Issue(
        subject=Subject(rules.own_cluster, "Kubeconfig", "", name),
        code="ISM0201",
        severity=Severity.ERROR,
        what=f"cluster {cluster or 'of unknown name'} is not discovered: {reason}",
        fix="mend the file; other files are not affected",
    )
    return Rejected(cluster=cluster, source=name, reason=reason, issue=issue)
