"""Commands about files that people write: examples, and what a topology may say."""

from __future__ import annotations

from pathlib import Path

import click

from isthmus import __version__
from isthmus.cli.output import json_output, print_json, print_table

_EXAMPLES = Path(__file__).parents[3] / "examples"


@click.command("version")
def version_command() -> None:
    """Print the version.

    \b
    Example:
      isthmus version
    """
    click.echo(__version__)


@click.command("examples")
@json_output
def examples_command(output: str) -> None:
    """List the example topologies.

    \b
    Example:
      isthmus examples
    """
    found = [(str(path), _summary(path)) for path in sorted(_EXAMPLES.glob("*.yaml"))]
    if output == "json":
        print_json({"examples": [{"path": path, "summary": summary} for path, summary in found]})
    else:
        print_table(("TOPOLOGY", "WHAT IT IS"), found)


@click.command("explain")
@click.argument("what", type=click.Choice(["topology"]))
@json_output
def explain_command(what: str, output: str) -> None:
    """Explain a topology file, field by field.

    \b
    Example:
      isthmus explain topology
    """
    from isthmus.localruntime.topology import documented_fields

    fields = documented_fields()
    if output == "json":
        named = ("path", "type", "default", "meaning")
        print_json({what: [{name: getattr(field, name) for name in named} for field in fields]})
    else:
        print_table(("FIELD", "TYPE", "DEFAULT", "MEANING"), [(f.path, f.type, f.default, f.meaning) for f in fields])


def _summary(path: Path) -> str:
    """The first line of the file, a comment."""
    first = path.read_text().splitlines()[0]
    return first.removeprefix("#").strip()
