"""How commands find and ask the running mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from isthmus.cli.errors import BAD_USAGE, Failed
from isthmus.localruntime import state
from isthmus.localruntime.mesh_client import MeshClient, MeshRefused, MeshUnavailable

T = TypeVar("T")

mesh_name = click.option("--name", default="", help="Which mesh, if several run.")


def folder_of(name: str) -> state.StateFolder:
    """Of the mesh of that name, or of the only one. Raises Failed."""
    try:
        return state.find(name)
    except state.NoSuchMesh as error:
        raise Failed(str(error)) from None


def asked(question: Callable[[], T]) -> T:
    """The answer of the running mesh; Failed with its own words if it has none."""
    try:
        return question()
    except (MeshUnavailable, MeshRefused) as error:
        raise Failed(str(error)) from None


def cluster_with(mesh: MeshClient, namespace: str, name: str) -> str:
    """The cluster that has a Pod or a machine of that name, or whose name begins with it, if it is clear. Raises Failed."""
    status = asked(mesh.status)
    there = [(entry["id"], pod) for entry in status["clusters"] for pod in entry["pods"]]
    there += [(machine["cluster"], machine) for machine in status["machines"]]
    found = sorted(
        {c for c, each in there if each["namespace"] == namespace and f"{each['name']}-".startswith(f"{name}-")}
    )
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise Failed(f"no Pod {namespace}/{name} in any cluster: `isthmus status` lists all; -n names the namespace")
    raise Failed(f"{', '.join(found)} have a Pod {namespace}/{name}: say which with --cluster", exit_code=BAD_USAGE)


def control_planes(mesh: MeshClient) -> list[tuple[str, str]]:
    """(cluster, Pod) of each, replicas and revisions alike; where none runs that should, the beginning of its name."""
    return [
        (entry["id"], name)
        for entry in asked(mesh.status)["clusters"]
        if entry["role"] != "remote"
        for name in [pod["name"] for pod in entry["pods"] if pod["labels"].get("app") == "istiod"] or ["istiod"]
    ]


def rows_of(mesh: MeshClient, cluster: str, pod: str, page: str) -> list[dict[str, Any]]:
    """Of a page of one control plane. One that does not answer has none, and that is said: others may be asked all the same."""
    try:
        return list(mesh.control_plane(cluster, page, pod))
    except MeshRefused as refusal:
        click.echo(str(refusal), err=True)
        return []


def rows_of_control_planes(name: str, wanted: str, *pages: str) -> list[list[dict[str, Any]]]:
    """For each page the rows of every cluster's control plane (or of the wanted one's alone), with its cluster as `istiod`.

    Of replicas one is asked: they know the same. One that does not answer has none, and that is said. Raises UsageError, Failed.
    """
    mesh = MeshClient(folder_of(name))
    clusters = list(dict.fromkeys(cluster for cluster, _ in control_planes(mesh)))
    if wanted and wanted not in clusters:
        raise click.UsageError(f"{wanted} runs no control plane; these do: {', '.join(clusters)}")
    clusters = [wanted] if wanted else clusters
    found: list[list[dict[str, Any]]] = [[] for _ in pages]
    silent: list[str] = []
    for cluster in clusters:
        try:
            answers = [mesh.control_plane(cluster, page) for page in pages]
        except MeshRefused as refusal:
            silent.append(str(refusal))
            continue
        for rows, answer in zip(found, answers, strict=True):
            rows += [row | {"istiod": cluster} for row in answer]
    if len(silent) == len(clusters):
        raise Failed("; ".join(silent) or "no cluster runs a control plane")
    for line in silent:
        click.echo(line, err=True)
    return found
