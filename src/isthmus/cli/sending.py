"""isthmus traffic: requests from the mesh's own workloads, and by evidence who answered and which way they went."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from isthmus.cli.errors import BAD_USAGE, Failed
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.cli.running_mesh import asked, folder_of, mesh_name
from isthmus.localruntime.mesh_client import MeshClient

_COLUMNS = ("ANSWERED BY", "IN", "REQUESTS", "WAY", "SERVER SAW THE CLIENT AS", "SERVER'S OWN IDENTITY")


@click.command("traffic")
@click.option("-c", "--count", default=20, show_default=True, help="Requests from each client, to each that it asks.")
@click.option(
    "--from",
    "sender",
    default="",
    help="Which Pods or machines send, by the beginning of their names; all clients by default.",
)
@click.option(
    "--to",
    "target",
    default="",
    metavar="NAME.NAMESPACE:PORT",
    help="Who is asked. By default helloworld.sample:5000, or, by who does not know that, whoever he knows.",
)
@mesh_name
@json_output
def traffic_command(count: int, sender: str, target: str, name: str, output: str) -> int:
    """Send requests from every client, and show who answered, which way, and the identities that both sides saw.

    Without --to helloworld is asked. A client that does not know it asks what its own proxy knows: services, names of single Pods, global
    names, and the load balancer of its cluster, as far as they answer as the samples do.

    \b
    Examples:
      isthmus traffic
      isthmus traffic --from ledger --to helloworld.sample:5000
    """
    host, _, port = target.rpartition(":")
    if target and (host.count(".") != 1 or not (port.isdecimal() and 1 <= int(port) <= 65535)):
        raise Failed(f"--to: {target!r} is not NAME.NAMESPACE:PORT, with a port from 1 to 65535", exit_code=BAD_USAGE)
    mesh = MeshClient(folder_of(name))
    status = asked(mesh.status)
    to = (host, int(port)) if target else None
    if output == "json":
        from dataclasses import asdict

        rows = list(_sent(mesh, status, count, sender, to))
        print_json({"answers": [asdict(row) for row in rows]})
        return int(_in_vain(rows))
    return print_traffic(mesh, status, count, sender, to)


def print_traffic(
    mesh: MeshClient, status: dict[str, Any], count: int, sender: str = "", to: tuple[str, int] | None = None
) -> int:
    """The table; the exit code. Raises Failed where nobody is there who could send."""
    from isthmus.localruntime.traffic import HELLOWORLD, Target, is_there

    rows = list(_sent(mesh, status, count, sender, to))
    if rows:
        is_clear = to is not None or all(row.asked == str(HELLOWORLD) for row in rows)
        print_table(
            ("FROM", *(() if is_clear else ("ASKED",)), *_COLUMNS),
            [
                (
                    row.client,
                    *(() if is_clear else (row.asked,)),
                    row.answered_by or row.error,
                    row.cluster,
                    row.requests,
                    row.path,
                    row.caller,
                    row.server,
                )
                for row in rows
            ],
        )
    failed = _in_vain(rows)
    if to is not None and failed and not is_there(status, Target.of_service(*to)):
        click.echo(f"no Pod of this mesh is called {to[0]}: --to NAME.NAMESPACE:PORT says who is asked", err=True)
    return int(failed)


def _in_vain(rows: list[Any]) -> bool:
    """Whether a request failed, or none was sent."""
    return not rows or any(row.error for row in rows)


def _sent(
    mesh: MeshClient, status: dict[str, Any], count: int, sender: str, to: tuple[str, int] | None
) -> Iterator[Any]:
    """What was answered. Who knows nobody to ask sends nothing, and that is said. Raises Failed where nobody is there who could send."""
    from isthmus.localruntime.destinations import destinations
    from isthmus.localruntime.traffic import Target, clients, named, send

    senders = list(named(status, sender) if sender else clients(status))
    if not senders:
        raise Failed(_why_nobody_sends(status, sender))
    for where in senders:
        targets = [Target.of_service(*to)] if to else asked(lambda w=where: destinations(mesh, status, w))  # type: ignore[misc]
        if not targets:
            who = f"{where[0]}/{where[2]}"
            click.echo(f"{who} knows no name that answers as samples do: --to says who is asked", err=True)
        for target in targets:
            yield from asked(lambda w=where, t=target: send(mesh, *w, count=count, status=status, target=t))  # type: ignore[misc]


def _why_nobody_sends(status: dict[str, Any], sender: str) -> str:
    if status["phase"] == "starting":
        return "the mesh is starting, and no client runs yet: `isthmus status` shows how far it is"
    if sender:
        return f"--from: nothing runs whose name begins with {sender!r}: see `isthmus status`"
    return "no client runs in this mesh: add samples/client to the topology's workloads"
