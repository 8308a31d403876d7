"""Which clusters a command means: contexts of a kubeconfig. A mesh on this machine has one, too, and other addresses between its clusters."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from isthmus.cli.errors import BAD_INPUT, Failed
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import KubernetesError, NotFound
from isthmus.kubernetes.kubeconfig import ApiAddress, BadKubeconfig, context_names, load_merged
from isthmus.kubernetes.resources import NAMESPACES
from isthmus.localruntime import state

T = TypeVar("T")

kubeconfig_option = click.option(
    "--kubeconfig",
    default="",
    metavar="FILE",
    help="Default: $KUBECONFIG, else the mesh that runs here, else ~/.kube/config.",
)
contexts_option = click.option(
    "--context",
    "contexts",
    multiple=True,
    help="The mesh's clusters, also several with commas; all of the kubeconfig by default.",
)
system_namespace_option = click.option(
    "-n", "--namespace", default="istio-system", show_default=True, help="Where control planes and remote secrets are."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One context. `server` is where other clusters find its API server; `address` is how this command does."""

    name: str
    address: ApiAddress
    server: str


def chosen(kubeconfig: str, name: str) -> Context:
    """The context of that name, or the current one. Raises Failed."""
    paths = _paths(kubeconfig)
    address = _read(paths, lambda: load_merged(paths, name))
    between = {id_: server for path in reversed(paths) for id_, server in _addresses_between(path).items()}
    return Context(name=name, address=address, server=between.get(name, address.server))


def every(kubeconfig: str, names: Sequence[str]) -> list[Context]:
    """The contexts of these names, or all that there are, by name. Raises Failed."""
    if not names:
        paths = _paths(kubeconfig)
        names = _read(paths, lambda: context_names(paths))
    if not names:
        looked = os.pathsep.join(map(str, paths))
        what = f"no context in {looked}: name a kubeconfig with --kubeconfig, or boot a mesh with `isthmus up`"
        raise Failed(what, exit_code=BAD_INPUT)
    return [chosen(kubeconfig, name) for name in dict.fromkeys(part for given in names for part in given.split(","))]


def _read(paths: Sequence[Path], reading: Callable[[], T]) -> T:
    try:
        return reading()
    except (OSError, UnicodeDecodeError) as error:
        what = f"cannot be read: {error}"
    except BadKubeconfig as error:
        what = str(error)
    raise Failed(f"kubeconfig {os.pathsep.join(map(str, paths))}: {what}", exit_code=BAD_INPUT)


def over_the_network(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What the work answers; what an API server refused, or that it did not answer, in one line."""
    import asyncio

    try:
        return asyncio.run(work())
    except KubernetesError as error:
        raise Failed(str(error)) from None


async def require_namespace(context: Context, client: ApiClient, namespace: str) -> None:
    """Raises Failed for a cluster in which nothing of the mesh is yet."""
    try:
        await client.get(NAMESPACES, namespace)
    except NotFound:
        raise Failed(
            f"{context.name}: has no namespace {namespace}: install the mesh there first, or name it with -n"
        ) from None


def _paths(given: str) -> list[Path]:
    """As kubectl chooses them, and the mesh that runs here before ~/.kube/config."""
    if given:
        return [Path(given)]
    from_environment = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if from_environment:
        return from_environment
    try:
        return [state.find().kubeconfig]
    except state.NoSuchMesh:
        return [Path.home() / ".kube" / "config"]


def meant_outside(given: str) -> list[Path]:
    """Kubeconfigs that somebody has named and that are of no mesh on this machine: what they mean is elsewhere. Empty if nothing is named."""
    named = bool(given or os.environ.get("KUBECONFIG"))
    paths = _paths(given) if named else []
    return [] if any(_mesh_of(path) for path in paths) else paths


def mesh_meant(given: str) -> str:
    """The name of the mesh on this machine whose kubeconfig is named; empty if that is nobody's, or none is named."""
    found = (_mesh_of(path) for path in _paths(given))
    return next((folder.name for folder in found if folder), "")


def _mesh_of(kubeconfig: Path) -> state.StateFolder | None:
    """The mesh on this machine that the kubeconfig is of."""
    folder = state.StateFolder(kubeconfig.parent)
    is_one = kubeconfig.name == folder.kubeconfig.name and folder.plan_file.exists()
    return folder if is_one else None


def _addresses_between(kubeconfig: Path) -> dict[str, str]:
    """Of the clusters of a mesh on this machine: its kubeconfig is for this host, inside they have addresses of their own."""
    folder = _mesh_of(kubeconfig)
    if folder is None:
        return {}
    from isthmus.localruntime.plan import decode_plan

    return {cluster.id: cluster.api_url for cluster in decode_plan(folder.plan_file.read_bytes()).clusters}
