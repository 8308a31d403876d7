"""How commands find and ask the running mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from isthmus.cli.errors import Failed
from isthmus.localruntime import state
from isthmus.localruntime.mesh_client import MeshRefused, MeshUnavailable

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
