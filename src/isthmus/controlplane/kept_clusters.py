"""What was known of remote clusters, kept on disk for a control plane that starts again while one of them does not answer.

Without it, such a control plane would know nothing of that cluster, and take all its endpoints away from proxies that were content with them. What
is kept is what was read, and nothing secret: a remote's Secrets are never read. Its age is known, and shown.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import msgspec
import structlog

from isthmus.api.registry import KINDS, decode
from isthmus.controlplane.kept_files import replace_file
from isthmus.controlplane.world import ImportedCluster
from isthmus.model.names import ClusterId
from isthmus.model.topology import ImportState

log = structlog.get_logger()


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Objects by kind; `at` is when the cluster was known to be so."""

    at: str
    objects: dict[str, list[msgspec.Raw]]


class KeptClusters:
    """Files in a directory, one for each cluster, of mode 0600. Without a directory nothing is kept."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory) if directory else None
        self._written: dict[ClusterId, int] = {}

    def keep(self, cluster: ClusterId, imported: ImportedCluster) -> None:
        """In one step; nothing is written where nothing has changed. A disk that is full costs the copy alone."""
        if self._directory is None:
            return
        objects = {kind: list(found.values()) for kind, found in imported.objects.items()}
        digest = hash(tuple((kind, id(obj)) for kind, found in objects.items() for obj in found))
        if self._written.get(cluster) == digest:
            os.utime(self._path(cluster))
            return
        body = msgspec.json.encode({"at": datetime.now(UTC).isoformat(timespec="seconds"), "objects": objects})
        try:
            replace_file(self._path(cluster), body)
            self._written[cluster] = digest
        except OSError as error:
            log.warning("cluster not kept for bad times", cluster=cluster, error=str(error))

    def forget(self, cluster: ClusterId) -> None:
        """A cluster that left for good must not come back from a file."""
        self._written.pop(cluster, None)
        if self._directory is not None:
            self._path(cluster).unlink(missing_ok=True)

    def recalled(self, cluster: ClusterId) -> ImportedCluster | None:
        """As it was known last, stale since then; None if nothing is kept, or it cannot be read."""
        if self._directory is None:
            return None
        path = self._path(cluster)
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
            since = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            found = ImportedCluster()
            for name, bodies in kept.objects.items():
                kind = KINDS[name]
                objects = [decode(kind, bytes(body)) for body in bodies]
                found.objects[name] = {(obj.metadata.namespace, obj.metadata.name): obj for obj in objects}
        except (OSError, msgspec.MsgspecError, KeyError):
            return None
        found.state, found.stale_since = ImportState.STALE, since.isoformat(timespec="seconds")
        return found

    def _path(self, cluster: ClusterId) -> Path:
        assert self._directory is not None, "asked only where there is one"
        return self._directory / f"{quote(cluster, safe='')}.json"
