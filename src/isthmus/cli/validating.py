"""`isthmus validate`: are these files right, before anything runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import yaml

from isthmus.cli.errors import BAD_INPUT, Failed


@click.command("validate")
@click.option(
    "-f", "--filename", "files", multiple=True, required=True, metavar="FILE", help="YAML or JSON; repeatable."
)
@click.option("--mesh-config", default="", metavar="FILE", help="A MeshConfig to check too.")
@click.option("--mesh-networks", default="", metavar="FILE", help="A MeshNetworks to check too.")
def validate_command(files: tuple[str, ...], mesh_config: str, mesh_networks: str) -> None:
    """Check objects: unknown fields, wrong types, and what they mean. Exit 0 when all are valid, 65 otherwise.

    \b
    Example:
      isthmus validate -f routes.yaml -f policies.yaml
    """
    from isthmus.assurance.validation import validate, validate_mesh

    results: list[dict[str, Any]] = []
    for name in files:
        for item in _documents(name):
            metadata = item.get("metadata") if isinstance(item, dict) else None
            metadata = metadata if isinstance(metadata, dict) else {}
            kind = item.get("kind", "") if isinstance(item, dict) else ""
            where = {"kind": kind, "namespace": metadata.get("namespace", ""), "name": metadata.get("name", "")}
            results.append({**where, **validate(item)})
    for kind, name in (("MeshConfig", mesh_config), ("MeshNetworks", mesh_networks)):
        for document in _documents(name) if name else []:
            found = validate_mesh(document) if kind == "MeshConfig" else validate_mesh(None, document)
            results.append({"kind": kind, "namespace": "", "name": name, **found})
    lines: dict[str, list[str]] = {"errors": [], "warnings": []}
    for result in results:
        origin = f"{result['kind']} {result['namespace']}/{result['name']}"
        for level, said in lines.items():
            said += [f"{origin}: {line}" for line in result[level]]
    click.echo(json.dumps({"valid": not lines["errors"], **lines, "results": results}, indent=2))
    if lines["errors"]:
        raise click.exceptions.Exit(BAD_INPUT)


def _documents(name: str) -> list[Any]:
    try:
        documents = [item for item in yaml.safe_load_all(Path(name).read_text()) if item is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Failed(f"validate: cannot read {name}: {error}", exit_code=BAD_INPUT) from None
    lists = [item["items"] if isinstance(item, dict) and item.get("kind") == "List" else [item] for item in documents]
    return [item for items in lists for item in items]
