"""Images of the local runtime: which program a container's image stands for. There is no registry; a command runs as it is on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

PROXY = "isthmus/proxy"
CONTROL_PLANE = "isthmus/control-plane"
TUNNEL = "isthmus/tunnel"
_SAMPLES = Path(__file__).parent / "samples"


class NoSuchImage(ValueError):
    """An image that this machine has no program for."""


def _sample(name: str) -> list[str]:
    """Without site packages, where the sample needs none: half the start-up time and memory."""
    return [sys.executable, "-S", "-E", str(_SAMPLES / f"{name}.py")]


_PROGRAMS: dict[str, list[str]] = {
    CONTROL_PLANE: [sys.executable, "-m", "isthmus.cli.app", "control-plane"],
    TUNNEL: [sys.executable, "-m", "isthmus.cli.app", "tunnel"],
    "isthmus/helloworld": _sample("helloworld"),
    "isthmus/client": _sample("client"),
    "isthmus/tcp-echo": _sample("tcp_echo"),
    "isthmus/grpc-echo": [sys.executable, str(_SAMPLES / "grpc_echo.py")],
}


def command_of(container: dict[str, Any]) -> list[str]:
    """What to run. A command in the container wins; without one the image must be known. Raises NoSuchImage."""
    arguments = [str(part) for part in container.get("args") or ()]
    if container.get("command"):
        return [*map(str, container["command"]), *arguments]
    image = str(container.get("image", "")).partition(":")[0]
    if image not in _PROGRAMS:
        known = ", ".join(sorted([*_PROGRAMS, PROXY]))
        raise NoSuchImage(f"no image {image!r} on this machine: give the container a command, or use one of {known}")
    return [*_PROGRAMS[image], *arguments]
