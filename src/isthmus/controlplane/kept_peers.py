"""What other meshes have told, kept on disk for a control plane that starts again while one of them does not answer.

Without it, such a control plane would take the other mesh's services away from proxies that were content with them. It is told again as it
came, so it is believed no more than it was then; its age is known, and shown.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from isthmus.model.identity import TrustDomain
from isthmus.model.names import MeshId
from isthmus.peering.messages import Resources
from isthmus.trust.private_files import write_privately

log = structlog.get_logger()


class _Kept(msgspec.Struct, frozen=True):
    trust_domain: str
    resources: Mapping[str, msgspec.Raw]


class KeptPeers:
    """Files in a directory, one for each mesh, of mode 0600; a file's time is that of the last contact. Without a directory nothing is kept."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory) / "peers" if directory else None

    def keep(self, mesh: MeshId, trust_domain: TrustDomain, resources: Resources) -> None:
        """In one step. A disk that is full costs the copy alone."""
        if self._directory is None:
            return
        kept = _Kept(str(trust_domain), {name: msgspec.Raw(body) for name, body in resources.items()})
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_privately(self._path(mesh), msgspec.json.encode(kept))
        except OSError as error:
            log.warning("peer not kept for bad times", mesh=mesh, error=str(error))

    def touch(self, mesh: MeshId) -> None:
        """It is still so."""
        if self._directory is not None and self._path(mesh).exists():
            os.utime(self._path(mesh))

    def forget(self, mesh: MeshId) -> None:
        """A peer that left for good must not come back from a file."""
        if self._directory is not None:
            self._path(mesh).unlink(missing_ok=True)

    def recalled(self, mesh: MeshId, trust_domain: TrustDomain) -> tuple[Resources, datetime] | None:
        """What it told last, and when; None if nothing is kept of it, or it cannot be read, or the mesh had another trust domain then."""
        if self._directory is None:
            return None
        path = self._path(mesh)
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
            at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except (OSError, msgspec.MsgspecError, RecursionError):
            return None
        if kept.trust_domain != str(trust_domain):
            return None
        return {name: bytes(body) for name, body in kept.resources.items()}, at

    def _path(self, mesh: MeshId) -> Path:
        assert self._directory is not None, "asked only where there is one"
        return self._directory / f"{mesh}.json"
