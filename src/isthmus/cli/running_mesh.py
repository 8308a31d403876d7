"""How commands find and ask the running mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from isthmus.cli.errors import Failed
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


def rows_of_control_planes(name: str, wanted: str, page: str) -> list[dict[str, Any]]:
    """The rows of a page of every control plane (or of the wanted cluster's alone), with its cluster as `istiod`. Raises UsageError."""
    mesh = MeshClient(folder_of(name))
    clusters = [entry["id"] for entry in asked(mesh.status)["clusters"] if entry["role"] != "remote"]
    if wanted and wanted not in clusters:
        raise click.UsageError(f"{wanted} runs no control plane; these do: {', '.join(clusters)}")
    found: list[dict[str, Any]] = []
    for cluster in [wanted] if wanted else clusters:
        rows = asked(lambda where=cluster: mesh.control_plane(where, page))  # type: ignore[misc]
        found += [row | {"istiod": cluster} for row in rows]
    return found
