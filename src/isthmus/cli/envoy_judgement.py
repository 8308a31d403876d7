"""The real Envoy's judgement of a rendered configuration."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from isthmus.envoy.static import static_bootstrap

_SECONDS = 60


def verdict(document: dict[str, Any]) -> str:
    """What Envoy has against a rendered document; empty when it accepts it."""
    return complaint(json.dumps(static_bootstrap(document)).encode())


def complaint(bootstrap: bytes) -> str:
    """What Envoy has against a bootstrap (`--mode validate`), in its own words; empty when it accepts it."""
    from isthmus.agent.envoy_binary import envoy_path

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "bootstrap.json"
        file.write_bytes(bootstrap)
        done = subprocess.run(
            [envoy_path(), "--mode", "validate", "-c", str(file), "-l", "error"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    return "" if done.returncode == 0 else (done.stderr + done.stdout).strip()
