"""The images of our Dockerfile and the two that a cluster needs besides, built by buildah, as archives that containerd takes.

No registry is asked. What the Dockerfile begins with, `python:3.11-slim`, is stood in for by Debian's own packages: the same release and the same
Python, made by mmdebstrap once and kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from real_kubernetes.building import CannotBuild

PAUSE = "isthmus.example/pause:1"
TARGETS = ("control-plane", "proxy", "gateway")
BASE = "docker.io/library/python:3.11-slim"
_ROOT = Path(__file__).parents[2]
_ISOLATED = ("--isolation", "chroot", "--network", "host")
"""Container runtimes of distributions want other cgroups than some machines have; the build needs none of its own."""
_NEEDED = ("buildah", "mmdebstrap")
_RELEASE = "bookworm"
_PACKAGES = ("ca-certificates", "python-is-python3", "python3-pip")
_BUILDER_SETTINGS = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
"""Where this machine's own ways to packages are: the builder has them, and the images do not."""


class Images:
    """In a store of their own below `cache`; nothing of the machine's own images is touched."""

    def __init__(self, cache: Path) -> None:
        missing = [program for program in _NEEDED if shutil.which(program) is None]
        if missing:
            raise CannotBuild(f"building images needs {' and '.join(missing)}: install them")
        self._cache = cache
        self._store = ["--root", str(cache / "store"), "--runroot", str(cache / "run")]

    def archives(self, tag: str, pause: Path) -> list[Path]:
        """One for each image: `isthmus/TARGET:TAG`, and the one that holds Pods."""
        self._cache.mkdir(parents=True, exist_ok=True)
        if BASE not in self._there():
            self._make_base()
        found = []
        for target in TARGETS:
            name = f"docker.io/isthmus/{target}:{tag}"
            settings = [path for path in _BUILDER_SETTINGS if Path(path).exists()]
            mounts = [word for path in settings for word in ("--volume", f"{path}:{path}:ro")]
            self._buildah("bud", *_ISOLATED, "--layers", *mounts, "--target", target, "-t", name, str(_ROOT))
            found.append(self._saved(name, f"{target}.tar"))
        return [*found, self._holder_of_pods(pause)]

    def _make_base(self) -> None:
        archive = self._cache / "base.tar"
        _run(["mmdebstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", _RELEASE, str(archive)])
        container = self._buildah("from", "scratch")
        self._buildah("add", "--quiet", container, str(archive), "/")
        self._buildah("commit", "--quiet", container, BASE)
        self._buildah("rm", container)
        archive.unlink()

    def _holder_of_pods(self, pause: Path) -> Path:
        container = self._buildah("from", "scratch")
        self._buildah("copy", "--quiet", container, str(pause), "/pause")
        self._buildah("config", "--entrypoint", '["/pause"]', "--user", "65535:65535", container)
        self._buildah("commit", "--quiet", container, PAUSE)
        self._buildah("rm", container)
        return self._saved(PAUSE, "pause.tar")

    def _saved(self, image: str, file: str) -> Path:
        archive = self._cache / file
        archive.unlink(missing_ok=True)
        self._buildah("push", "--quiet", image, f"docker-archive:{archive}:{image}")
        return archive

    def _there(self) -> list[str]:
        return self._buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()

    def _buildah(self, *words: str) -> str:
        return _run(["buildah", *self._store, *words])


def _run(command: Sequence[str]) -> str:
    """What it prints; all that it does is said if it fails."""
    began = time.monotonic()
    done = subprocess.run(["nice", "-n", "10", *command], capture_output=True, text=True, env=_told(), check=False)
    if done.returncode:
        raise CannotBuild(f"`{' '.join(command)}` failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    seconds = time.monotonic() - began
    if seconds > 5:
        print(f"  {' '.join(command)[:150]}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return done.stdout.strip()


def _told() -> dict[str, str]:
    """As it is, with the folders of system programs."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
