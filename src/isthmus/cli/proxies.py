"""Commands that look at the proxies of the running mesh, or of one whose ports are forwarded here: proxy-status and proxy-config."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any

import click

from isthmus.agent.specification import ADMIN_SOCKET
from isthmus.cli import envoy_dump, forwarded_pages
from isthmus.cli.errors import Failed
from isthmus.cli.forwarded_pages import pages_at
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.cli.running_mesh import asked, cluster_with, control_planes, folder_of, mesh_name, rows_of
from isthmus.localruntime.mesh_client import MeshClient, answer_at

_TYPES = (("CDS", "cluster"), ("LDS", "listener"), ("EDS", "endpoint"), ("RDS", "route"), ("NDS", "nameTable"))


@click.command("proxy-status")
@click.argument("pod", default="")
@click.option("--cluster", default="", help="Only proxies of this cluster.")
@mesh_name
@forwarded_pages.control_plane
@json_output
def proxy_status_command(pod: str, cluster: str, name: str, control_plane: str, output: str) -> None:
    """Show which proxies are connected to which control plane, and what they have acknowledged.

    SYNCED: everything that was sent has been acknowledged. STALE: not yet. NOT SENT: it asked for nothing. ERROR: the proxy refused it,
    and goes on with what it had; with -o json the reason is in lastError. ISTIOD is where the Envoy is connected; a proxy that returns to the
    control plane that it prefers has its agent at that one already, which is then said, too.

    \b
    Examples:
      isthmus proxy-status
      isthmus proxy-status client --cluster east -o json
      isthmus proxy-status --control-plane http://127.0.0.1:15014
    """
    found = _connected_at(control_plane) if control_plane else _connected_in(MeshClient(folder_of(name)))
    rows = [
        row
        for row in each_once(found)
        if row["proxy"].startswith(pod) and (not cluster or row["cluster_id"] == cluster)
    ]
    if output == "json":
        print_json({"proxies": rows})
        return
    print_table(
        ("NAME", "CLUSTER", *(short for short, _ in _TYPES), "ISTIOD", "VERSION"),
        [
            (
                row["proxy"],
                row["cluster_id"],
                *(_state(row["resources"].get(kind)) for _, kind in _TYPES),
                ", its agent also ".join((_place(row), *row["alsoAt"])),
                row["proxy_version"],
            )
            for row in rows
        ],
    )


def each_once(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each proxy, also while two control planes have streams of it: where its Envoy is, which is told of listeners. What its agent
    alone is told may come from the other one; that one is in `alsoAt`."""
    by_proxy: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        by_proxy.setdefault((row["cluster_id"], row["proxy"]), []).append(row)
    found = []
    for _, same in sorted(by_proxy.items()):
        own, *others = sorted(same, key=lambda row: ("listener" not in row["resources"], -len(row["resources"])))
        resources = {kind: told for row in reversed(others) for kind, told in row["resources"].items()}
        found.append(own | {"resources": resources | own["resources"], "alsoAt": [_place(row) for row in others]})
    return found


def _place(row: dict[str, Any]) -> str:
    """Of a control plane: its cluster, where that is known, and its Pod."""
    return "/".join(filter(None, (row["controlPlane"], row["istiod"])))


def _connected_at(url: str) -> list[dict[str, Any]]:
    """The proxies of one control plane, whose cluster nobody says."""
    return [row | {"controlPlane": ""} for row in pages_at(url, "--control-plane")("debug/syncz")]


def _connected_in(mesh: MeshClient) -> Iterator[dict[str, Any]]:
    for cluster, pod in control_planes(mesh):
        yield from (row | {"controlPlane": cluster} for row in rows_of(mesh, cluster, pod, "debug/syncz"))


@click.group("proxy-config")
def proxy_config_command() -> None:
    """Show what an Envoy has been given, as the Envoy itself tells it.

    POD is a Pod's name, or the beginning of one; NAME.NAMESPACE works, too. On Kubernetes an Envoy answers inside its Pod alone: ask it
    there, with --directory instead of POD.

    \b
    Examples:
      isthmus proxy-config endpoints client --cluster east
      isthmus proxy-config listeners helloworld-v1 -n sample --port 5000
      isthmus proxy-config secrets istio-eastwestgateway.istio-system --cluster west
      kubectl exec client-1 -c istio-proxy -- isthmus proxy-config routes --directory /etc/istio/proxy
    """


def _subject(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments that all parts of proxy-config have."""
    for decorate in reversed(
        (
            click.argument("pod", default=""),
            click.option("--cluster", default="", help="In which cluster; needed if several have such a Pod."),
            click.option("-n", "--namespace", default="sample", show_default=True, help="The Pod's namespace."),
            mesh_name,
            click.option(
                "--directory",
                metavar="PATH",
                default="",
                help="Ask the Envoy whose agent has its files here; in a Pod: /etc/istio/proxy.",
            ),
            json_output,
        )
    ):
        command = decorate(command)
    return command


@proxy_config_command.command("clusters")
@_subject
@click.option("--fqdn", default="", help="Only this Service.")
@click.option("--port", default="", help="Only this port.")
def _clusters(output: str, fqdn: str, port: str, **where: str) -> None:
    """The clusters.

    \b
    Example:
      isthmus proxy-config clusters client --cluster east --port 5000
    """
    dump = _page("config_dump", **where)
    if output == "json":
        print_json({"clusters": list(envoy_dump.clusters(dump))})
        return
    rows = [row for row in envoy_dump.cluster_rows(dump) if fqdn in str(row[0]) and port in ("", str(row[1]))]
    print_table(("SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE"), rows)


@proxy_config_command.command("listeners")
@_subject
@click.option("--port", default="", help="Only this port.")
def _listeners(output: str, port: str, **where: str) -> None:
    """The listeners, with a row for each filter chain.

    \b
    Example:
      isthmus proxy-config listeners client --cluster east
    """
    dump = _page("config_dump", **where)
    if output == "json":
        print_json({"listeners": list(envoy_dump.listeners(dump))})
        return
    rows = [row for row in envoy_dump.listener_rows(dump) if port in ("", str(row[1]))]
    print_table(("ADDRESS", "PORT", "MATCH", "DESTINATION"), rows)


@proxy_config_command.command("routes")
@_subject
@click.option("--route", default="", help="Only the table of this name, such as 5000.")
def _routes(output: str, route: str, **where: str) -> None:
    """The route tables.

    \b
    Example:
      isthmus proxy-config routes client --cluster east --route 5000
    """
    dump = _page("config_dump", **where)
    if output == "json":
        print_json({"routes": list(envoy_dump.routes(dump))})
        return
    rows = [row for row in envoy_dump.route_rows(dump) if route in ("", row[0])]
    print_table(("NAME", "VHOST NAME", "DOMAINS", "MATCH", "DESTINATION"), rows)


@proxy_config_command.command("endpoints")
@_subject
@click.option("--service", default="", help="Only endpoints of clusters with this in their name.")
def _endpoints(output: str, service: str, **where: str) -> None:
    """The endpoints, with their weights and the requests that this Envoy has sent to each.

    \b
    Example:
      isthmus proxy-config endpoints client --cluster east --service helloworld
    """
    page = _page("clusters?format=json", **where)
    if output == "json":
        print_json({"endpoints": page.get("cluster_statuses", [])})
        return
    rows = [row for row in envoy_dump.endpoint_rows(page) if service in str(row[5])]
    print_table(("ENDPOINT", "STATUS", "OUTLIER CHECK", "WEIGHT", "REQUESTS", "CLUSTER"), rows)


@proxy_config_command.command("secrets")
@_subject
def _secrets(output: str, **where: str) -> None:
    """The certificates and trust bundles; never a key.

    \b
    Example:
      isthmus proxy-config secrets client --cluster east
    """
    dump = _page("config_dump", **where)
    rows = envoy_dump.secret_rows(dump, _described)
    headers = ("RESOURCE NAME", "TYPE", "STATUS", "IDENTITY", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE")
    if output == "json":
        keys = ("name", "type", "status", "identity", "serialNumber", "notAfter", "notBefore")
        print_json({"secrets": [dict(zip(keys, row, strict=True)) for row in rows]})
        return
    print_table(headers, rows)


def _described(chain: str) -> tuple[str, str, str, str]:
    from isthmus.trust.x509 import BadCertificate, facts_of, identity_of

    try:
        facts = facts_of(chain)
        return str(identity_of(chain)), facts.serial, facts.not_after.isoformat(), facts.not_before.isoformat()
    except BadCertificate as error:
        return str(error), "-", "-", "-"


def _page(page: str, *, pod: str, cluster: str, namespace: str, name: str, directory: str) -> dict[str, Any]:
    """Of the Envoy beside us, or of a Pod of the running mesh."""
    if bool(pod) == bool(directory):
        raise click.UsageError("say which: POD of the mesh that runs here, or --directory of the agent beside us")
    if directory:
        return dict(json.loads(_beside_us(Path(directory) / ADMIN_SOCKET, page)))
    mesh = MeshClient(folder_of(name))
    own, separator, inside = pod.rpartition(".")
    if separator:
        pod, namespace = own, inside
    where = cluster or cluster_with(mesh, namespace, pod)
    return dict(json.loads(asked(lambda: mesh.envoy(where, namespace, pod, page))))


def _beside_us(socket: Path, page: str) -> bytes:
    try:
        code, body = answer_at(socket, "GET", f"/{page}")
    except (OSError, HTTPException) as error:
        raise Failed(f"no Envoy answers at {socket}: {error}") from None
    if code != HTTPStatus.OK:
        raise Failed(f"the Envoy at {socket} answers {code} to /{page}")
    return body


def _state(resources: dict[str, Any] | None) -> str:
    if resources is None or not resources["subscribed"]:
        return "NOT SENT"
    if resources["lastError"]:
        return "ERROR"
    return "SYNCED" if resources["settled"] else "STALE"
