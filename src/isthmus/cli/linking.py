"""Commands that let control planes discover each other's clusters, and end it: link and unlink."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import click

from isthmus.cli.contexts import (
    Context,
    chosen,
    kubeconfig_option,
    over_the_network,
    require_namespace,
    system_namespace_option,
)
from isthmus.cli.durations import Duration
from isthmus.cli.errors import BAD_USAGE, Failed
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.link_client import Party, authority_of, carry_out, declared_id, observe_all
from isthmus.kubernetes.linking import Action, Step, Wishes, all_pairs, one_way, plan_link, plan_unlink
from isthmus.kubernetes.remote_secret import READER, CannotCreate, check_cluster_name, is_server, server_warnings

Pairs = list[tuple[str, str]]
Work = Callable[[dict[str, Party], Pairs], Coroutine[Any, Any, list[Step]]]

_SECONDS_MIN = 600
_one_way = click.option("--one-way", "is_one_way", is_flag=True, help="Only the first discovers the others.")
_clusters = click.argument("clusters", nargs=-1, required=True, metavar="CONTEXT[=ID]...")


@click.command("link")
@_clusters
@kubeconfig_option
@system_namespace_option
@click.option("--service-account", default=READER, show_default=True, help="Who reads, in each cluster that is read.")
@click.option("--server", "servers", multiple=True, metavar="CONTEXT=URL", help="Where other clusters find its API.")
@click.option("--token-duration", type=Duration(), default="90d", show_default=True, help="How long credentials live.")
@click.option("--renew", is_flag=True, help="Replace credentials that are still good, too.")
@_one_way
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@json_output
def link_command(
    clusters: Sequence[str],
    kubeconfig: str,
    namespace: str,
    service_account: str,
    servers: Sequence[str],
    token_duration: int,
    renew: bool,
    is_one_way: bool,
    dry_run: bool,
    output: str,
) -> None:
    """Let the control planes of clusters discover each other's endpoints.

    A second run changes nothing, except that it renews credentials in the last third of their life. Renewing breaks nothing: the new credential
    is shown to work first, and the old one stays good until it expires.

    \b
    Examples:
      isthmus link east west north
      isthmus link primary remote-1 remote-2 --one-way
      isthmus link gke_p_eu_one=east arn:aws:eks:two=west --renew --token-duration 30d
    """
    if token_duration < _SECONDS_MIN:
        raise Failed("--token-duration: API servers give no tokens for less than 10m", exit_code=BAD_USAGE)
    wishes = Wishes(namespace=namespace, account=service_account, renew=renew, now=datetime.now(UTC))

    async def work(parties: dict[str, Party], pairs: Pairs) -> list[Step]:
        for read in dict.fromkeys(read for _, read in pairs):
            _require_name(read)
            for warning in server_warnings(read, parties[read].server):
                click.echo(f"warning: {warning}", err=True)
        steps = plan_link(await observe_all(parties, pairs, wishes), pairs, wishes)
        return steps if dry_run else await carry_out(steps, parties, wishes, token_duration)

    steps = _run(clusters, kubeconfig, namespace, _addresses(servers), is_one_way, work)
    _show(steps, output, dry_run)


@click.command("unlink")
@_clusters
@kubeconfig_option
@system_namespace_option
@click.option("--service-account", default=READER, show_default=True, help="Who reads, in each cluster that is read.")
@_one_way
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_output
def unlink_command(
    clusters: Sequence[str],
    kubeconfig: str,
    namespace: str,
    service_account: str,
    is_one_way: bool,
    dry_run: bool,
    yes: bool,
    output: str,
) -> None:
    """Take away what `isthmus link` made between clusters, and nothing else.

    \b
    Examples:
      isthmus unlink east west --dry-run
      isthmus unlink east west --yes
    """
    if not (yes or dry_run):
        if not sys.stdin.isatty():
            raise Failed("unlink takes endpoints away: say --yes, or look first with --dry-run", exit_code=BAD_USAGE)
        click.confirm(f"Shall {', '.join(clusters)} stop discovering each other?", abort=True, err=True)
    wishes = Wishes(namespace=namespace, account=service_account, renew=False, now=datetime.now(UTC))

    async def work(parties: dict[str, Party], pairs: Pairs) -> list[Step]:
        steps = plan_unlink(await observe_all(parties, pairs, wishes), pairs, wishes)
        return steps if dry_run else await carry_out(steps, parties, wishes, 0)

    _show(_run(clusters, kubeconfig, namespace, {}, is_one_way, work), output, dry_run)


def _run(
    clusters: Sequence[str],
    kubeconfig: str,
    namespace: str,
    servers: Mapping[str, str],
    is_one_way: bool,
    work: Work,
) -> list[Step]:
    named = [(name, wanted) for name, _, wanted in (entry.partition("=") for entry in clusters)]
    if len({name for name, _ in named}) < max(2, len(named)):
        raise Failed("name two or more different clusters", exit_code=BAD_USAGE)
    unknown = servers.keys() - {name for name, _ in named}
    if unknown:
        raise Failed(f"--server {min(unknown)}: is not one of the clusters", exit_code=BAD_USAGE)
    contexts = [(chosen(kubeconfig, name), wanted) for name, wanted in named]

    async def connected() -> list[Step]:
        async with AsyncExitStack() as stack:
            parties: dict[str, Party] = {}
            for context, wanted in contexts:
                client = await stack.enter_async_context(ApiClient(context.address))
                party = await _party(context, wanted, client, namespace, servers.get(context.name, ""))
                if party.id in parties:
                    raise Failed(f"two of the clusters are {party.id}: name them apart with CONTEXT=ID")
                parties[party.id] = party
            return await work(parties, one_way(list(parties)) if is_one_way else all_pairs(list(parties)))

    try:
        return over_the_network(connected)
    except CannotCreate as error:
        raise Failed(str(error)) from None


async def _party(context: Context, wanted: str, client: ApiClient, namespace: str, server: str) -> Party:
    """Everything that can be known before anything is changed. Raises Failed, KubernetesError."""
    await require_namespace(context, client, namespace)
    declared = await declared_id(client, namespace)
    if wanted and declared and wanted != declared:
        raise Failed(
            f"{context.name}: its control plane calls the cluster {declared}, not {wanted}: "
            "under another name its workloads would not be recognised"
        )
    authority = await authority_of(client, namespace)
    if context.address.server.startswith("https://") and not authority:
        raise Failed(f"{context.name}: neither the kubeconfig nor the cluster says which authority its API server has")
    return Party(
        id=wanted or declared or context.name,
        client=client,
        server=server or context.server,
        ca_pem=authority,
        tls_server_name="" if server else context.address.tls_server_name,
    )


def _require_name(cluster: str) -> None:
    """Before anything is made. Raises Failed."""
    try:
        check_cluster_name(cluster)
    except CannotCreate as error:
        raise Failed(f"{error}; give the cluster another one with isthmus install --cluster NAME --apply") from None


def _addresses(servers: Sequence[str]) -> dict[str, str]:
    found = {}
    for entry in servers:
        name, separator, url = entry.partition("=")
        if not separator or not is_server(url):
            raise Failed(f"--server {entry}: write it as CONTEXT=https://HOST:PORT", exit_code=BAD_USAGE)
        found[name] = url.rstrip("/")
    return found


def _show(steps: Sequence[Step], output: str, dry_run: bool) -> None:
    rows = [
        {
            "cluster": step.cluster,
            "kind": step.resource.plural,
            "name": step.name,
            "action": step.action.value,
            "reads": step.reads,
            "expires": step.expires.strftime("%Y-%m-%dT%H:%M:%SZ") if step.expires else "",
            "why": step.why,
        }
        for step in steps
    ]
    if output == "json":
        print_json({"dryRun": dry_run, "steps": rows})
    else:
        columns = ("cluster", "kind", "name", "action", "reads", "expires", "why")
        headers = ("CLUSTER", "KIND", "NAME", "ACTION", "READS", "EXPIRES", "WHY")
        print_table(headers, [[row[column] for column in columns] for row in rows])
    changed = sum(step.action is not Action.UNCHANGED for step in steps)
    if dry_run:
        click.echo(f"nothing was changed; {changed} of {len(steps)} objects would be", err=True)
    else:
        click.echo(f"{changed} of {len(steps)} objects changed" if changed else "nothing to change", err=True)
