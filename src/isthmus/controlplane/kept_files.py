"""Files that a control plane keeps for the time after its next start: written in one step, readable by nobody else."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, body: bytes) -> None:
    """Either the old content or the new one is there, never a part. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(body)
    new.rename(path)
