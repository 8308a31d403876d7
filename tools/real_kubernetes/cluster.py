"""A real cluster of one node, with real Pods of our own images, for as long as a command runs:

    python -m real_kubernetes.cluster [COMMAND...]

Everything happens in mount, network and process namespaces of its own, in one folder and below one cgroup; all of it is gone afterwards. Needs root.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus import __version__
from real_kubernetes.building import CONTAINERS, NODE, SERVER, CannotBuild, built, cache, containerd_version, versions
from real_kubernetes.images import Images

_CGROUPS = Path("/sys/fs/cgroup")
_PROOF = (sys.executable, "-m", "pytest", "-p", "no:xdist", "-rs", "-v", str(Path(__file__).parent / "test_cluster.py"))
_NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


@contextmanager
def _cgroup(name: str) -> Iterator[str]:
    """Made in every hierarchy that there is, and taken away with what is below it."""
    made = [hierarchy / name for hierarchy in _hierarchies()]
    try:
        for folder in made:
            folder.mkdir()
            # Without processors and memory of its own, nothing could be put into it.
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (folder / file).exists():
                    (folder / file).write_text((folder.parent / file).read_text())
        yield f"/{name}"
    finally:
        for folder in made:
            for below in sorted(folder.glob("**/"), key=lambda path: len(path.parts), reverse=True):
                below.rmdir()


def _hierarchies() -> list[Path]:
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    found = [path for path in _CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]
    return [path for path in found if path.is_mount()]


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Builds our images and a real cluster of one node, and installs the mesh on it.",
        epilog="example: python -m real_kubernetes.cluster bash",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="instead of the proof; finds KUBECONFIG set")
    command = parser.parse_args().command or list(_PROOF)
    if os.geteuid() != 0:
        print("real_kubernetes: containers of a kubelet need root", file=sys.stderr)
        return 1
    try:
        for programs in (SERVER, NODE, CONTAINERS):
            built(programs)
        archives = Images(cache() / "images").archives(__version__, built(CONTAINERS) / "pause")
    except CannotBuild as error:
        print(f"real_kubernetes: {error}", file=sys.stderr)
        return 1
    print(
        ", ".join(f"{name} {version}" for name, version in {**versions(), "containerd": containerd_version()}.items())
    )
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="isthmus-cluster-") as directory, _cgroup(Path(directory).name) as cgroup:
        inside = [sys.executable, "-m", "real_kubernetes.node", directory, cgroup, *map(str, archives), "--", *command]
        return subprocess.run([*_NAMESPACES, *inside], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
