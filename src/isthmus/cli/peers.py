"""peers: which other meshes each control plane knows, what has been heard of them, and what the two let each other have."""

from __future__ import annotations

from typing import Any

import click

from isthmus.cli.output import print_json, print_table, wide_output
from isthmus.cli.running_mesh import mesh_name, rows_of_control_planes

_COLUMNS = {
    "MESH": "mesh",
    "TRUST DOMAIN": "trustDomain",
    "STATE": "state",
    "SINCE": "staleSince",
    "LAST CONTACT": "lastContact",
    "LISTENERS": "listeners",
    "EXPORTS": "exports",
    "IMPORTS": "imports",
    "ISTIOD": "istiod",
}
_WIDE = {"CONTROL PLANE": "controlPlane", "GATEWAYS": "gateways", "REASON": "reason"}


@click.command("peers")
@click.option("--in-cluster", "cluster", default="", help="Ask the control plane of this cluster alone.")
@mesh_name
@wide_output
def peers_command(cluster: str, name: str, output: str) -> None:
    """Show the other meshes that each control plane knows by a MeshPeer.

    \b
    Examples:
      isthmus peers
      isthmus peers -o wide
      isthmus peers --in-cluster east -o json

    What of an object, or of what a peer tells, cannot be used is printed below the table.
    """
    [found] = rows_of_control_planes(name, cluster, "debug/peerz")
    rows = sorted(found, key=lambda row: (row["istiod"], row["mesh"]))
    if output == "json":
        print_json({"peers": rows})
        return
    columns = _COLUMNS | (_WIDE if output == "wide" else {})
    print_table(tuple(columns), [[_shown(row[key]) for key in columns.values()] for row in rows])
    for row in rows:
        where = f"{row['mesh']} ({row['istiod']})"
        for problem in row["problems"]:
            click.echo(f"{where}: {problem}", err=True)
        for what, why in row["refusedByPeer"].items():
            click.echo(f"{where}: the peer cannot use {what}: {why}", err=True)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
