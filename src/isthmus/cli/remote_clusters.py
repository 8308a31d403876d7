"""remote-clusters: which clusters each control plane discovers, since when it has heard of them, and until when it may ask.

Control planes of a mesh on this machine are asked themselves. Of other clusters only the remote secrets are read: what they do not say is
`unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from isthmus.cli.contexts import (
    Context,
    every,
    kubeconfig_option,
    meant_outside,
    mesh_meant,
    over_the_network,
    system_namespace_option,
)
from isthmus.cli.errors import Failed
from isthmus.cli.output import print_json, print_table, wide_output
from isthmus.cli.running_mesh import folder_of, mesh_name, rows_of_control_planes

Object = dict[str, Any]

_COLUMNS = {
    "NAME": "id",
    "SECRET": "secretName",
    "STATUS": "syncStatus",
    "STATE": "state",
    "LAST CONTACT": "lastContact",
    "CREDENTIAL EXPIRES": "credentialExpires",
    "ISTIOD": "istiod",
}
_ABOUT_CLUSTERS = ("ISM0201", "ISM0202", "ISM0203", "ISM0204", "ISM0205")
"""Secrets that cannot be used, ids that are not right, rights that are missing, roots that contradict each other."""
_WIDE = {"SERVER": "server", "SINCE": "since", "REASON": "reason"}


@click.command("remote-clusters")
@click.option("--context", "contexts", multiple=True, help="Read the secrets of this cluster; repeatable.")
@kubeconfig_option
@system_namespace_option
@mesh_name
@wide_output
def remote_clusters_command(contexts: Sequence[str], kubeconfig: str, namespace: str, name: str, output: str) -> None:
    """Show which other clusters each control plane discovers.

    The control planes of a mesh on this machine are asked themselves. Of clusters elsewhere the remote secrets are read: of those that --context
    names, or of all that are in the kubeconfig that --kubeconfig or $KUBECONFIG names.

    \b
    Examples:
      isthmus remote-clusters
      isthmus remote-clusters -o wide
      isthmus remote-clusters --context production-eu
    """
    elsewhere = [] if name else meant_outside(kubeconfig)
    if contexts or elsewhere:
        rows = _from_clusters(every(kubeconfig, contexts), namespace)
    else:
        folder = folder_of(name or mesh_meant(kubeconfig))
        click.echo(f"as the control planes of {folder.name}, on this machine, say:", err=True)
        rows = _from_control_planes(folder.name)
    rows.sort(key=lambda row: (row["istiod"], row["id"]))
    if output == "json":
        print_json({"remoteClusters": rows})
        return
    columns = _COLUMNS | (_WIDE if output == "wide" else {})
    print_table(tuple(columns), [[row.get(key, "") for key in columns.values()] for row in rows])


def told(issues: Sequence[Object]) -> list[str]:
    """What control planes have found wrong with clusters, a line each."""
    return [
        f"the control plane of {issue['istiod']} says: {issue['code']} {issue['origin']}: {issue['message']}; {issue['fix']}"
        for issue in issues
        if issue["code"] in _ABOUT_CLUSTERS
    ]


def _from_control_planes(name: str) -> list[Object]:
    waiting, issues, clusters = rows_of_control_planes(name, "", "debug/readyz", "debug/issues", "debug/clusterz")
    for row in waiting:
        click.echo(f"the control plane of {row['istiod']} is not ready: it waits for {row['waitsFor']}", err=True)
    for line in told(issues):
        click.echo(line, err=True)
    return [row | {"since": row["staleSince"]} for row in clusters]


def _from_clusters(contexts: Sequence[Context], namespace: str) -> list[Object]:
    """What is known of each; of one that does not answer it is said why. Raises Failed if none does."""
    found, silent = [], []
    for context in contexts:
        try:
            found += _from_secrets(context, namespace)
        except Failed as failure:
            silent.append(f"{context.name}: {failure}")
    if len(silent) == len(contexts):
        raise Failed(*silent)
    for line in silent:
        click.echo(line, err=True)
    names = ", ".join(context.name for context in contexts)
    click.echo(
        f"read from the remote secrets of {names} alone: what the control planes make of them is unknown", err=True
    )
    return found


def _from_secrets(context: Context, namespace: str) -> list[Object]:
    from isthmus.kubernetes.client import ApiClient
    from isthmus.kubernetes.kubeconfig import BadKubeconfig
    from isthmus.kubernetes.linking import kubeconfig_in
    from isthmus.kubernetes.remote_secret import LABEL
    from isthmus.kubernetes.resources import SECRETS
    from isthmus.kubernetes.token_claims import expiry_of

    async def listed() -> list[Object]:
        async with ApiClient(context.address) as client:
            answer = await client.list_objects(SECRETS, namespace, labelSelector=f"{LABEL}=true")
        items: list[Object] = answer["items"]
        return items

    rows = []
    for secret in over_the_network(listed):
        for cluster in secret.get("data") or {}:
            row: Object = {"id": cluster, "secretName": f"{namespace}/{secret['metadata']['name']}"}
            row |= {"syncStatus": "unknown", "istiod": context.name}
            try:
                address = kubeconfig_in(secret, cluster)
            except BadKubeconfig as error:
                row |= {"syncStatus": "refused", "reason": str(error)}
            else:
                expires = expiry_of(address.token)
                row["server"] = address.server
                row["credentialExpires"] = expires.strftime("%Y-%m-%dT%H:%M:%SZ") if expires else "never"
            rows.append(row)
    return rows
