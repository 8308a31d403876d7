"""Builds programs once for each set of versions, and keeps them outside the checkout."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Programs:
    """Of one Go module beside this file: the packages that they are built of, by their names."""

    module: Path
    packages: Mapping[str, str]


_KUBERNETES = HERE / "programs"
_CONTAINERS = HERE / "containers"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
SERVER = Programs(_KUBERNETES, {name: f"./{name}" for name in ("etcd", "kube-apiserver", "kube-controller-manager")})
NODE = Programs(
    _KUBERNETES, {name: f"k8s.io/kubernetes/cmd/{name}" for name in ("kubelet", "kube-proxy", "kube-scheduler")}
)
CONTAINERS = Programs(
    _CONTAINERS,
    {name: f"{_CONTAINERD}/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")}
    | {name: f"./{name}" for name in ("coredns", "pause")},
)
_VERSION_PACKAGE = "k8s.io/component-base/version"
_REQUIRED = re.compile(r"^\t(?P<module>\S+) (?P<version>v\S+)", re.MULTILINE)
_AT_ONCE = "2"
_NAMED = {"kubernetes": "k8s.io/kubernetes", "etcd": "go.etcd.io/etcd/server/v3"}


class CannotBuild(Exception):
    """What is missing, and what to do."""


def versions() -> dict[str, str]:
    """Of Kubernetes and etcd, as `go.mod` asks for them."""
    return {name: _required(_KUBERNETES, module) for name, module in _NAMED.items()}


def containerd_version() -> str:
    return _required(_CONTAINERS, "github.com/containerd/containerd/v2")


def _required(module: Path, name: str) -> str:
    required: dict[str, str] = dict(_REQUIRED.findall((module / "go.mod").read_text()))
    return required[name]


def built(programs: Programs) -> Path:
    """The folder with the programs. Raises CannotBuild."""
    folder = cache() / _digest(programs.module)
    missing = [name for name in programs.packages if not (folder / name).exists()]
    if missing and shutil.which("go") is None:
        raise CannotBuild("building a real API server needs Go 1.26 or newer: install it, and put `go` into PATH")
    folder.mkdir(parents=True, exist_ok=True)
    for name in missing:
        _build(programs.module, programs.packages[name], folder / name)
    return folder


def _build(module: Path, package: str, target: Path) -> None:
    """Written beside its place first: what is there is whole."""
    print(f"building {target.name} (the first time it takes minutes) ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    version = versions()["kubernetes"]
    major, minor, _ = version.removeprefix("v").split(".", 2)
    told = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s", "-w", *(f"-X {_VERSION_PACKAGE}.{name}={value}" for name, value in told.items())])
    unfinished = target.with_name(f"{target.name}.unfinished")
    command = ["go", "build", "-p", _AT_ONCE, "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", flags]
    done = subprocess.run(
        ["nice", "-n", "10", *command, "-o", str(unfinished), package],
        cwd=module,
        env=os.environ | {"CGO_ENABLED": "0"},
        check=False,
    )
    if done.returncode:
        raise CannotBuild(f"`go build {package}` failed in {module}: see above")
    unfinished.rename(target)
    size = target.stat().st_size / 1e6
    print(f"  {target.name}: {size:.0f} MB in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _digest(module: Path) -> str:
    """Of all that decides what is built."""
    found = hashlib.sha256()
    for path in (*sorted(module.rglob("*.go")), module / "go.mod", module / "go.sum"):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "isthmus" / "real-kubernetes"
