"""Files that are their owner's alone, because keys or tokens are in them."""

from __future__ import annotations

import os
from pathlib import Path


def write_privately(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Either the old content is there or the new one, never a part. What lies in the way is replaced, not followed and not written into: who may
    write in the folder learns nothing by a link or an open file of his own. Raises OSError.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    new.rename(path)
