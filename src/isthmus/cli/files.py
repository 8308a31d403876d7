"""Commands about files that people write: examples, and what a topology may say."""

from __future__ import annotations

import itertools
from pathlib import Path

import click

from isthmus import __version__
from isthmus.cli.errors import BAD_INPUT, Failed
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.cli.topologies import examples


@click.command("version")
def version_command() -> None:
    """Print the version.

    \b
    Example:
      isthmus version
    """
    click.echo(__version__)


@click.command("examples")
@click.argument("name", default="")
@json_output
def examples_command(name: str, output: str) -> None:
    """List the example topologies: one line and a drawing of each, or of NAME alone.

    \b
    Examples:
      isthmus examples
      isthmus examples primary-remote
    """
    paths = [path for path in examples() if name in ("", path.stem)]
    if not paths:
        known = ", ".join(path.stem for path in examples())
        raise Failed(f"no example {name!r}; there is: {known}", exit_code=BAD_INPUT)
    found = [(path, *_introduction(path)) for path in paths]
    if output == "json":
        keys = ("path", "summary", "drawing")
        print_json({"examples": [dict(zip(keys, (str(path), *said), strict=True)) for path, *said in found]})
        return
    for path, summary, drawing in found:
        click.echo(f"{path}\n  {summary}\n\n{drawing}\n")


def print_topology_fields(output: str) -> None:
    """What a topology file may say, field by field: `isthmus explain topology`."""
    from isthmus.localruntime.topology import documented_fields

    fields = documented_fields()
    if output == "json":
        named = ("path", "type", "default", "meaning")
        print_json({"topology": [{name: getattr(field, name) for name in named} for field in fields]})
    else:
        print_table(("FIELD", "TYPE", "DEFAULT", "MEANING"), [(f.path, f.type, f.default, f.meaning) for f in fields])


def _introduction(path: Path) -> tuple[str, str]:
    """The first line of the file, a comment, and the drawing in the comment's other lines."""
    lines = path.read_text().splitlines()
    comment = [line.removeprefix("#") for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]
    return comment[0].strip(), "\n".join(line.rstrip() for line in comment[1:] if line.strip())
