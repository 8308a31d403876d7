"""A real Envoy with a configuration of its own, on loopback."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isthmus.agent.envoy_binary import envoy_path


@contextmanager
def running_envoy(config: dict[str, Any], directory: Path) -> Iterator[None]:
    """As long as it serves. One that does not start fails with the end of what it said."""
    file = directory / "envoy.json"
    file.write_text(json.dumps(config))
    command = [envoy_path(), "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "info"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if "starting main dispatch loop" in line:
                    break
            assert process.poll() is None, "".join(said[-5:])
            # What it says later is read, too: a full pipe would stop it.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield
        finally:
            process.terminate()
