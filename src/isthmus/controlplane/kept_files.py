"""Files that a control plane keeps for the time after its next start: written in one step, readable by nobody else."""

from __future__ import annotations

from pathlib import Path

from isthmus.trust.private_files import write_privately


def replace_file(path: Path, body: bytes) -> None:
    """Either the old content or the new one is there, never a part. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_privately(path, body)
