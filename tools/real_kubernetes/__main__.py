"""python -m real_kubernetes: what we promise of API servers, asked of a real one. See `make help` and docs/apiserver.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.apiserver.settings import ApiServerSettings
from isthmus.kubernetes.kubeconfig import ContextEntry, render
from real_kubernetes.building import SERVER, CannotBuild, built, versions
from real_kubernetes.server import ETCD_URL

_SERVER = [sys.executable, "-m", "real_kubernetes.server"]
_TOOLS = str(Path(__file__).parent.parent)
_STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """Tests of ours, and how they are told which server is meant."""

    title: str
    paths: tuple[str, ...]
    environment: dict[str, str]


@contextlib.contextmanager
def _server(directory: Path) -> Iterator[Path]:
    """The administrator's kubeconfig of a server that runs until the end of the block."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{chosen.getsockname()[1]}"
    state = directory / "server"
    settings = ApiServerSettings(cluster_id="real", directory=str(state), bind=[address])
    file = directory / "settings.json"
    file.write_bytes(msgspec.json.encode(settings))
    process = subprocess.Popen(
        [*_SERVER, "--settings", str(file)], env=_environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            print(line, end="", flush=True)
            if line.startswith("serving"):
                break
        else:
            raise SystemExit(process.wait())
        entry = ContextEntry(
            name="real",
            server=f"https://{address}",
            ca_pem=(state / "ca.crt").read_text(),
            token=(state / "admin-token").read_text().strip(),
        )
        kubeconfig = directory / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(render([entry]))
        yield kubeconfig
    finally:
        process.terminate()
        process.communicate(timeout=_STOP_SECONDS)


def _environment() -> dict[str, str]:
    """The servers are modules beside this one."""
    path = os.pathsep.join(filter(None, [_TOOLS, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


def _held(part: Part, options: list[str]) -> bool:
    print(f"\n== {part.title}: pytest {' '.join(part.paths)}", flush=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-rs", *part.paths, *options]
    done = subprocess.run(command, env=_environment() | part.environment, check=False)
    print(f"== {part.title}: {'held' if done.returncode == 0 else 'BROKEN'} in {time.monotonic() - began:.0f} s")
    return done.returncode == 0


def _laws(directory: Path, options: list[str]) -> bool:
    with _server(directory):
        pass  # So that there are versions from before its restart, which it does not know any more.
    with _server(directory) as kubeconfig:
        etcd = (directory / "server" / ETCD_URL).read_text()
        told = {"ISTHMUS_CONFORMANCE_KUBECONFIG": str(kubeconfig), "ISTHMUS_CONFORMANCE_ETCD": etcd}
        return _held(Part("the laws of API servers", ("tests/conformance",), told), options)


def _installation(options: list[str]) -> bool:
    told = {"ISTHMUS_API_SERVER": shlex.join(_SERVER)}
    title = "installing, discovery, a Pod's agent"
    return _held(Part(title, ("tests/installation",), told), options)


def _serve(directory: Path) -> None:
    with _server(directory) as kubeconfig:
        print(f"export KUBECONFIG={kubeconfig}\nEnter ends it.", flush=True)
        sys.stdin.readline()


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Builds a real API server, and holds it and our use of it to the same tests as the embedded one.",
        epilog="example: python -m real_kubernetes laws -- -k watch",
    )
    parser.add_argument("part", nargs="?", choices=("all", "laws", "installation", "serve"), default="all")
    parser.add_argument("pytest", nargs="*", help="options of pytest, after --")
    options = parser.parse_args()
    try:
        folder = built(SERVER)
    except CannotBuild as error:
        print(f"real_kubernetes: {error}", file=sys.stderr)
        return 1
    print(", ".join(f"{name} {version}" for name, version in versions().items()), f"in {folder}", flush=True)
    with tempfile.TemporaryDirectory(prefix="isthmus-real-") as name:
        if options.part == "serve":
            _serve(Path(name))
            return 0
        held = [
            *([_laws(Path(name), options.pytest)] if options.part in ("all", "laws") else []),
            *([_installation(options.pytest)] if options.part in ("all", "installation") else []),
        ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
