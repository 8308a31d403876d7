"""audit: who changed what, from the audit logs of local clusters, or from any file of audit.k8s.io/v1 events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from isthmus.apiserver.audit import files_in, tells
from isthmus.cli.errors import BAD_INPUT, Failed
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.cli.running_mesh import asked, folder_of, mesh_name
from isthmus.localruntime.mesh_client import MeshClient

Event = dict[str, Any]


@click.command("audit")
@click.option("-n", "--namespace", default="", help="Of objects in this namespace.")
@click.option("--user", default="", help="By this user, or as this user.")
@click.option("--kind", default="", help="Of this kind: VirtualService, virtualservices, ….")
@click.option("--verb", default="", help="create, update, patch, delete, deletecollection, get, ….")
@click.option("--cluster", default="", help="In this cluster alone.")
@click.option(
    "-f", "--file", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read this audit log instead of a running mesh's; may be repeated.",
)  # fmt: skip
@click.option("--tail", default=0, help="The newest so many alone.")
@mesh_name
@json_output
def audit_command(
    namespace: str, user: str, kind: str, verb: str, cluster: str, files: tuple[Path, ...], tail: int, name: str,
    output: str,
) -> None:  # fmt: skip
    """Show who changed what, and who was refused, the oldest first.

    \b
    Examples:
      isthmus audit -n shop
      isthmus audit --kind AuthorizationPolicy --user ann -o json
      isthmus audit -f /var/log/kubernetes/audit.log --verb delete

    Clusters of the local runtime write these logs by themselves. A real cluster's API server writes one where it is told to
    (--audit-log-path, --audit-policy-file).
    """
    wanted = _names_of(kind)

    def is_wanted(event: Event) -> bool:
        what = event.get("objectRef") or {}
        return (
            namespace in ("", what.get("namespace"))
            and user in ("", *_users(event))
            and (not kind or what.get("resource") in wanted)
            and (event.get("verb") == verb if verb else tells(event))
        )

    logs = [("", files)] if files else _logs_of_mesh(name, cluster)
    unread: list[str] = []
    found = [
        {**each, "cluster": where} for where, paths in logs for each in _events(paths, unread.append) if is_wanted(each)
    ]
    found.sort(key=lambda event: str(event.get("requestReceivedTimestamp", "")))
    found = found[-tail:] if tail > 0 else found
    if output == "json":
        print_json({"events": found})
    else:
        print_table(("TIME", "USER", "VERB", "OBJECT", "CODE", "FROM", "WITH", "CLUSTER"), map(_row, found))
    if unread:
        raise Failed(*unread, exit_code=BAD_INPUT)


def _logs_of_mesh(name: str, cluster: str) -> list[tuple[str, list[Path]]]:
    mesh = MeshClient(folder_of(name))
    clusters = [entry["id"] for entry in asked(mesh.status)["clusters"]]
    if cluster and cluster not in clusters:
        raise click.UsageError(f"there is no cluster {cluster}; there is: {', '.join(clusters)}")
    return [(each, files_in(mesh.state.cluster(each))) for each in clusters if cluster in ("", each)]


def _events(paths: list[Path] | tuple[Path, ...], tell: Callable[[str], None]) -> Iterator[Event]:
    """Of requests that were answered. Of each file whose lines are not all events, the first that is none is told."""
    for path in paths:
        is_told = False
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # It is being written at this moment.
                try:
                    event = msgspec.json.decode(line, type=dict[str, Any])
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    if not is_told:
                        tell(f"{path}:{number}: not an event: {error}")
                    is_told = True
                    continue
                if event.get("stage") == "ResponseComplete":
                    yield event


def _users(event: Event) -> list[str]:
    return [str((event.get(key) or {}).get("username", "")) for key in ("impersonatedUser", "user")]


def _names_of(kind: str) -> frozenset[str]:
    """What API servers may call a kind: its plural."""
    name = kind.lower()
    return frozenset({name, f"{name}s", f"{name}es", f"{name[:-1]}ies"})


def _row(event: Event) -> list[object]:
    what = event.get("objectRef") or {}
    kind = "/".join(filter(None, (what.get("resource", ""), what.get("subresource", ""))))
    place = "/".join(filter(None, (what.get("namespace", ""), what.get("name", ""))))
    acting, user = _users(event)
    return [
        str(event.get("requestReceivedTimestamp", ""))[:19],
        f"{user} as {acting}" if acting else user,
        event.get("verb", ""),
        f"{kind} {place}".strip() or event.get("requestURI", ""),
        (event.get("responseStatus") or {}).get("code", ""),
        ", ".join(map(str, event.get("sourceIPs") or [])),
        str(event.get("userAgent", "")).partition(" ")[0],
        event["cluster"],
    ]
