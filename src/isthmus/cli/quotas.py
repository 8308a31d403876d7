"""quotas: how much of what all others are given each namespace may add, and has added."""

from __future__ import annotations

from typing import Any

import click

from isthmus.cli.output import json_output, print_json, print_table
from isthmus.cli.running_mesh import mesh_name, rows_of_control_planes

_COLUMNS = {"NAMESPACE": "namespace", "RESOURCE": "resource", "USED": "used", "ALLOWED": "allowed", "ISTIOD": "istiod"}


@click.command("quotas")
@click.option("-n", "--namespace", default="", help="Show this namespace alone.")
@click.option("--in-cluster", "cluster", default="", help="Ask the control plane of this cluster alone.")
@mesh_name
@json_output
def quotas_command(namespace: str, cluster: str, name: str, output: str) -> None:
    """Show what namespaces use of their quotas, as each control plane counts.

    \b
    Examples:
      isthmus quotas
      isthmus quotas -n shop -o json
      kubectl annotate namespace shop isthmus.io/quota="services=10, virtualservices=20"

    The annotation on the system namespace holds for every namespace that does not say it itself. Where more is used than allowed,
    others are not given the youngest; `isthmus analyze` names them (ISM0120).
    """
    [used] = rows_of_control_planes(name, cluster, "debug/quotaz")
    found = [row for row in used if namespace in ("", row["namespace"])]
    rows: list[dict[str, Any]] = sorted(found, key=lambda row: (row["namespace"], row["resource"], row["istiod"]))
    if output == "json":
        print_json({"quotas": rows})
    else:
        print_table(tuple(_COLUMNS), [[str(row[key]) for key in _COLUMNS.values()] for row in rows])
