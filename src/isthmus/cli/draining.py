"""isthmus drain, undrain and drains: traffic away from a cluster, for a while, and back; and for whom that is so now."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from isthmus.cli.contexts import Context, every, kubeconfig_option, over_the_network, system_namespace_option
from isthmus.cli.durations import Duration
from isthmus.cli.errors import BAD_INPUT, Failed
from isthmus.cli.output import json_output, print_json, print_table

if TYPE_CHECKING:
    from isthmus.assurance.draining import Effect

Object = dict[str, Any]

_CONFIG_MAP = "isthmus-drains"
_contexts = click.option(
    "--context",
    "contexts",
    multiple=True,
    help="The mesh's clusters, also several with commas; all of the kubeconfig by default.",
)


@click.command("drain")
@click.argument("cluster")
@click.option(
    "--for", "seconds", type=Duration(), default="1h", show_default=True, help="Then traffic comes back by itself."
)
@click.option(
    "--over", "over", type=Duration(), default="10s", show_default=True, help="How long the way down, and back, takes."
)
@click.option("--yes", is_flag=True, help="Also if some services stay.")
@click.option("--dry-run", is_flag=True, help="Only show what would happen.")
@_contexts
@kubeconfig_option
@system_namespace_option
@json_output
def drain_command(
    cluster: str,
    seconds: int,
    over: int,
    yes: bool,
    dry_run: bool,
    contexts: Sequence[str],
    kubeconfig: str,
    namespace: str,
    output: str,
) -> None:
    """Send traffic away from a cluster: its share goes down step by step, and comes back when the time is over.

    First, what would happen to each service with endpoints there. A service that is nowhere else stays: requests for it go on to this
    cluster. If there is one, say --yes. Every control plane of the given clusters follows.

    \b
    Examples:
      isthmus drain west --for 1h
      isthmus drain west --for 30m --over 1m --dry-run
    """
    from isthmus.assurance.draining import effects

    chosen = every(kubeconfig, contexts)
    slices, services = over_the_network(lambda: _seen(chosen))
    if cluster not in slices:
        raise Failed(f"no cluster {cluster!r}; there is: {', '.join(slices)}", exit_code=BAD_INPUT)
    found = effects(cluster, slices, services)
    staying = [effect for effect in found if effect.stays]
    if output == "json":
        print_json({"cluster": cluster, "effects": [_row(effect) for effect in found]})
    else:
        print_table(
            ("NAMESPACE", "SERVICE", "READY HERE", "READY ELSEWHERE", "WHAT HAPPENS"),
            [(e.namespace, e.service, e.here, e.elsewhere, e.what) for e in found],
        )
    if dry_run:
        return
    if staying and not yes and not _confirmed(cluster, staying):
        raise Failed(f"{len(staying)} services stay in {cluster}: add --yes if that is meant")
    now = datetime.now(UTC)
    until = now + timedelta(seconds=seconds)
    entry = {"since": now.isoformat(), "until": until.isoformat(), "overSeconds": over}
    written = over_the_network(lambda: _write(chosen, namespace, {cluster: json.dumps(entry)}))
    click.echo(
        f"{cluster} is drained over {over} s, until {until.isoformat(timespec='seconds')}; told {', '.join(written)}",
        err=True,
    )


@click.command("undrain")
@click.argument("cluster")
@_contexts
@kubeconfig_option
@system_namespace_option
def undrain_command(cluster: str, contexts: Sequence[str], kubeconfig: str, namespace: str) -> None:
    """Let traffic come back to a cluster, as slowly as it was sent away.

    \b
    Example:
      isthmus undrain west
    """
    chosen = every(kubeconfig, contexts)
    found = over_the_network(lambda: _entries(chosen, namespace))
    drained = {name: entries[cluster] for name, entries in found.items() if cluster in entries}
    if not drained:
        raise Failed(f"{cluster} is not drained", exit_code=BAD_INPUT)
    now = datetime.now(UTC)
    written: list[str] = []
    for context in chosen:
        if context.name in drained:
            entry = _ended(drained[context.name], now)
            written += over_the_network(lambda c=context, e=entry: _write([c], namespace, {cluster: e}))  # type: ignore[misc]
    click.echo(f"traffic comes back to {cluster}; told {', '.join(written)}", err=True)


@click.command("drains")
@_contexts
@kubeconfig_option
@system_namespace_option
@json_output
def drains_command(contexts: Sequence[str], kubeconfig: str, namespace: str, output: str) -> None:
    """Show which clusters are drained, which share of their traffic they have by now, and when it comes back.

    A drain that some clusters were not told of is one that their control planes do not follow.

    \b
    Examples:
      isthmus drains
      isthmus drains --context east,west -o json
    """
    chosen = every(kubeconfig, contexts)
    found = drained(over_the_network(lambda: _entries(chosen, namespace)), datetime.now(UTC))
    if output == "json":
        print_json({"drains": found})
        return
    if not found:
        click.echo("no cluster is drained")
        return
    print_table(
        ("CLUSTER", "HAS NOW", "UNTIL", "TOLD", "NOT TOLD"),
        [
            (
                each["cluster"],
                each["wrong"] or f"{each['percent']} %",
                each["until"] or "-",
                ", ".join(each["told"]),
                ", ".join(each["notTold"]) or "-",
            )
            for each in found
        ],
    )


def drained(entries: Mapping[str, Mapping[str, str]], now: datetime) -> list[Object]:
    """Of the drains that each context's cluster was told: those that are not over, each with who was told of it in these words, and who was not."""
    from isthmus.ingest.drains import asked

    found = []
    for cluster, text in sorted({entry for each in entries.values() for entry in each.items()}):
        said = asked({cluster: text})
        drain = next(iter(said.drains.values()), None)
        if drain is not None and drain.next_step(now) is None:
            continue
        told = [name for name, each in entries.items() if each.get(cluster) == text]
        found.append(
            {
                "cluster": cluster,
                "percent": drain.share(now) if drain else 100,
                "until": drain.until.isoformat(timespec="seconds") if drain else "",
                "wrong": said.wrong.get(cluster, ""),
                "told": told,
                "notTold": [name for name in entries if name not in told],
            }
        )
    return found


def _ended(entry: str, now: datetime) -> str | None:
    """The drain as it would be had it been meant to end now; one that is over, or cannot be read, is taken away."""
    try:
        said = json.loads(entry)
        since, until = datetime.fromisoformat(said["since"]), datetime.fromisoformat(said["until"])
    except (ValueError, KeyError, TypeError):
        return None
    return json.dumps(said | {"until": max(now, since).isoformat()}) if until > now else None


async def _seen(contexts: Sequence[Context]) -> tuple[dict[str, list[Object]], dict[str, list[Object]]]:
    from isthmus.kubernetes.client import ApiClient
    from isthmus.kubernetes.resources import ENDPOINT_SLICES, SERVICES

    slices, services = {}, {}
    for context in contexts:
        async with ApiClient(context.address) as client:
            slices[context.name] = (await client.list_objects(ENDPOINT_SLICES))["items"]
            services[context.name] = (await client.list_objects(SERVICES))["items"]
    return slices, services


async def _entries(contexts: Sequence[Context], namespace: str) -> dict[str, dict[str, str]]:
    from isthmus.kubernetes.client import ApiClient
    from isthmus.kubernetes.config_maps import data_of

    found = {}
    for context in contexts:
        async with ApiClient(context.address) as client:
            found[context.name] = await data_of(client, _CONFIG_MAP, namespace)
    return found


async def _write(contexts: Sequence[Context], namespace: str, data: Mapping[str, str | None]) -> list[str]:
    """To all or, as far as can be known before, to none: each is asked first whether it is there."""
    from isthmus.kubernetes.client import ApiClient
    from isthmus.kubernetes.config_maps import put_data
    from isthmus.kubernetes.resources import NAMESPACES

    async with AsyncExitStack() as stack:
        clients = {c.name: await stack.enter_async_context(ApiClient(c.address)) for c in contexts}
        for client in clients.values():
            await client.get(NAMESPACES, namespace)
        for client in clients.values():
            await put_data(client, _CONFIG_MAP, namespace, data)
    return list(clients)


def _confirmed(cluster: str, staying: Sequence[Effect]) -> bool:
    if not sys.stdin.isatty():
        return False
    names = ", ".join(f"{effect.namespace}/{effect.service}" for effect in staying)
    return click.confirm(f"{names} will still be answered by {cluster}. Go on?")


def _row(effect: Effect) -> Object:
    return {
        "namespace": effect.namespace,
        "service": effect.service,
        "here": effect.here,
        "elsewhere": effect.elsewhere,
        "stays": effect.stays,
    }
