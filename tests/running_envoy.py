"""A real Envoy with a configuration of its own, on loopback."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from isthmus.agent.envoy_binary import envoy_path

_SECONDS = 60.0


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
            _wait_until_it_listens(process, _ports(config))
            yield
        finally:
            process.terminate()


def _ports(config: dict[str, Any]) -> set[int]:
    """Of its listeners, but for those that others hand connections to, and those on a path."""
    opened = [each["address"] for each in config["staticResources"]["listeners"] if each.get("bindToPort") is not False]
    found = [address.get("socketAddress") or address.get("socket_address") for address in opened]
    return {int(each.get("portValue") or each["port_value"]) for each in found if each}


def _wait_until_it_listens(process: subprocess.Popen[str], ports: set[int]) -> None:
    """Its workers open the ports a moment after it says that it is there; asking them would count as a connection."""
    until = time.monotonic() + _SECONDS
    while not ports <= _listening():
        assert process.poll() is None, "Envoy runs"
        assert time.monotonic() < until, f"Envoy listens at {sorted(ports)}"
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.01)


def _listening() -> set[int]:
    """Ports of this network namespace, as the kernel lists them (0A is LISTEN)."""
    tables = [table for name in ("tcp", "tcp6") if (table := Path("/proc/net") / name).exists()]
    rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}
