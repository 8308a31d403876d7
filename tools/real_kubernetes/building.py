"""Builds the three programs once for each set of versions, and keeps them outside the checkout."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
SOURCES = Path(__file__).parent / "programs"
_VERSION_PACKAGE = "k8s.io/component-base/version"
_REQUIRED = re.compile(r"^\t(?P<module>\S+) (?P<version>v\S+)", re.MULTILINE)
_AT_ONCE = "2"


class CannotBuild(Exception):
    """What is missing, and what to do."""


def versions() -> dict[str, str]:
    """Of Kubernetes and etcd, as `go.mod` asks for them."""
    required = dict(_REQUIRED.findall((SOURCES / "go.mod").read_text()))
    return {"kubernetes": required["k8s.io/kubernetes"], "etcd": required["go.etcd.io/etcd/server/v3"]}


def built() -> Path:
    """The folder with the programs. Raises CannotBuild."""
    folder = _cache() / _digest()
    if all((folder / program).exists() for program in PROGRAMS):
        return folder
    if shutil.which("go") is None:
        raise CannotBuild("building a real API server needs Go 1.26 or newer: install it, and put `go` into PATH")
    folder.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        if not (folder / program).exists():
            _build(program, folder / program)
    return folder


def _build(program: str, target: Path) -> None:
    """Written beside its place first: what is there is whole."""
    print(f"building {program} (the first time it takes minutes) ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    version = versions()["kubernetes"]
    major, minor, _ = version.removeprefix("v").split(".", 2)
    told = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s", "-w", *(f"-X {_VERSION_PACKAGE}.{name}={value}" for name, value in told.items())])
    unfinished = target.with_name(f"{program}.unfinished")
    command = ["go", "build", "-p", _AT_ONCE, "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", flags]
    done = subprocess.run(
        ["nice", "-n", "10", *command, "-o", str(unfinished), f"./{program}"],
        cwd=SOURCES,
        env=os.environ | {"CGO_ENABLED": "0"},
        check=False,
    )
    if done.returncode:
        raise CannotBuild(f"`go build ./{program}` failed in {SOURCES}: see above")
    unfinished.rename(target)
    size = target.stat().st_size / 1e6
    print(f"  {program}: {size:.0f} MB in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _digest() -> str:
    """Of all that decides what is built."""
    found = hashlib.sha256()
    for path in (*sorted(SOURCES.rglob("*.go")), SOURCES / "go.mod", SOURCES / "go.sum"):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "isthmus" / "real-kubernetes"
