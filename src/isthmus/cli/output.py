"""Tables and JSON, as all commands print them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

SCHEMA_VERSION = "1"

json_output = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print the answer."
)

wide_output = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "wide", "json"]),
    default="table",
    show_default=True,
    help="How to print the answer.",
)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as they need to be; `<none>` for what is empty."""
    cells = [list(headers), *([str(cell) if cell not in ("", None) else "<none>" for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    for row in cells:
        line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def print_json(document: dict[str, Any]) -> None:
    """One document with its schemaVersion."""
    click.echo(json.dumps({"schemaVersion": SCHEMA_VERSION} | document, indent=2))
