"""isthmus drift and sync: in what the rules of several primaries differ, and replicating them on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from isthmus.cli.contexts import Context, every, kubeconfig_option, over_the_network, system_namespace_option
from isthmus.cli.errors import BAD_USAGE, DIFFERENT, FAILED, Failed
from isthmus.cli.output import json_output, print_json, print_table

if TYPE_CHECKING:
    from isthmus.assurance.drift import Object, RuleName, Step
    from isthmus.kubernetes.client import ApiClient
    from isthmus.kubernetes.resources import ResourcePath

_PER_CLUSTER = ("WorkloadEntry",)
"""Read from the config cluster alone, but about one cluster's own workloads."""

_contexts = click.option(
    "--context", "contexts", multiple=True, help="The primaries; those of the kubeconfig by default."
)


@click.command("drift")
@_contexts
@kubeconfig_option
@system_namespace_option
@json_output
def drift_command(contexts: Sequence[str], kubeconfig: str, namespace: str, output: str) -> int:
    """Show in what the rules of several primaries differ. The exit code is 2 if they do.

    An object that is meant to be in one cluster only has the annotation `isthmus.io/drift: ignored`.

    \b
    Examples:
      isthmus drift
      isthmus drift --context east,west -o json
    """
    from isthmus.assurance.drift import differences

    primaries = _primaries(every(kubeconfig, contexts), namespace, named=bool(contexts))
    found = differences(over_the_network(lambda: rules_in(primaries, namespace)))
    if output == "json":
        rows = [
            {
                "kind": each.rule.kind,
                "namespace": each.rule.namespace,
                "name": each.rule.name,
                "missingIn": list(each.missing_in),
                "fields": list(each.fields),
            }
            for each in found
        ]
        print_json({"clusters": [context.name for context in primaries], "differences": rows})
    elif found:
        print_table(
            ("KIND", "NAMESPACE", "NAME", "MISSING IN", "DIFFERS IN"),
            [(d.rule.kind, d.rule.namespace, d.rule.name, ", ".join(d.missing_in), ", ".join(d.fields)) for d in found],
        )
    else:
        click.echo(f"{', '.join(context.name for context in primaries)}: the rules are the same")
    return DIFFERENT if found else 0


@click.command("sync")
@click.option("--from", "source", required=True, help="The cluster whose rules are replicated.")
@click.option("--to", "targets", multiple=True, help="To which; by default all other primaries.")
@click.option("--overwrite", is_flag=True, help="Also what other hands wrote or changed there.")
@click.option("--prune", is_flag=True, help="Delete what was replicated and is there no more.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@kubeconfig_option
@system_namespace_option
@json_output
def sync_command(
    source: str,
    targets: Sequence[str],
    overwrite: bool,
    prune: bool,
    dry_run: bool,
    kubeconfig: str,
    namespace: str,
    output: str,
) -> int:
    """Replicate the rules of one primary to others. What was written there by another hand is a conflict, named and left alone; what the
    source does not have is kept, unless it was replicated from there and --prune is said.

    \b
    Examples:
      isthmus sync --from east --dry-run
      isthmus sync --from east --to west --prune
    """
    from isthmus.assurance.drift import Deed, plan_sync

    contexts = _primaries(every(kubeconfig, [source, *targets] if targets else []), namespace, named=bool(targets))
    if source not in [context.name for context in contexts]:
        raise Failed(f"{source} is no primary; there is: {', '.join(c.name for c in contexts)}", exit_code=BAD_USAGE)
    rules = over_the_network(lambda: rules_in(contexts, namespace))
    steps = {
        context: plan_sync(source, rules[source], rules[context.name], overwrite=overwrite, prune=prune)
        for context in contexts
        if context.name != source
    }
    if not dry_run:
        over_the_network(lambda: carry_out(steps))
    rows = [
        {"cluster": context.name, "what": step.deed.value, "rule": str(step.rule), "why": step.why}
        for context, todo in steps.items()
        for step in todo
    ]
    if output == "json":
        print_json({"dryRun": dry_run, "steps": rows})
    elif rows:
        print_table(("CLUSTER", "WHAT", "RULE", "WHY"), [tuple(row.values()) for row in rows])
    else:
        click.echo("nothing to do: the rules are the same")
    conflicts = [step for todo in steps.values() for step in todo if step.deed is Deed.CONFLICT]
    if conflicts:
        count = "1 conflict: settle it" if len(conflicts) == 1 else f"{len(conflicts)} conflicts: settle them"
        click.echo(f"{count}, or say --overwrite", err=True)
    return FAILED if conflicts else 0


def _primaries(contexts: list[Context], namespace: str, *, named: bool) -> list[Context]:
    """Of all contexts, those in which a control plane runs; where they are named, they are taken at their word."""
    from isthmus.kubernetes.client import ApiClient
    from isthmus.kubernetes.resources import SERVICES

    async def found() -> list[Context]:
        chosen = []
        for context in contexts:
            async with ApiClient(context.address) as client:
                services = await client.list_objects(SERVICES, namespace, labelSelector="app=istiod")
                if any(service["spec"].get("selector") for service in services["items"]):
                    chosen.append(context)
        return chosen

    chosen = contexts if named else over_the_network(found)
    if len(chosen) < 2:
        raise Failed(
            f"there are no two primaries to compare, only {', '.join(c.name for c in chosen) or 'none'}",
            exit_code=BAD_USAGE,
        )
    return chosen


async def rules_in(contexts: Sequence[Context], namespace: str) -> dict[str, dict[RuleName, Object]]:
    """Of each cluster. A kind that a cluster does not know has no objects there."""
    from isthmus.assurance.drift import rules_of
    from isthmus.kubernetes.client import ApiClient
    from isthmus.kubernetes.errors import NotFound
    from isthmus.kubernetes.resources import CONFIG_MAPS

    found = {}
    for context in contexts:
        objects: list[tuple[str, Object]] = []
        async with ApiClient(context.address) as client:
            for kind, paths in _kinds().items():
                path = await served(client, paths)
                try:
                    items = (await client.list_objects(path))["items"]
                except NotFound:
                    continue
                head = {"apiVersion": path.api_version, "kind": kind.partition(".")[0]}
                objects += [(kind, head | item) for item in items]
            settings = await client.list_objects(CONFIG_MAPS, namespace, fieldSelector="metadata.name=istio")
            head = {"apiVersion": "v1", "kind": "ConfigMap"}
            objects += [("ConfigMap", head | item) for item in settings["items"]]
        found[context.name] = rules_of(objects)
    return found


async def carry_out(steps: dict[Context, list[Step]]) -> None:
    from isthmus.assurance.drift import Deed
    from isthmus.kubernetes.client import ApiClient

    for context, todo in steps.items():
        async with ApiClient(context.address) as client:
            for step in todo:
                path = await served(client, _paths(step.rule.kind))
                match step.deed:
                    case Deed.CREATE:
                        wanted = {**(step.wanted or {}), "apiVersion": path.api_version}
                        await client.create(path, wanted, step.rule.namespace)
                    case Deed.UPDATE:
                        await _replace(client, path, step)
                    case Deed.DELETE:
                        await client.delete(path, step.rule.name, step.rule.namespace)
                    case Deed.KEEP | Deed.CONFLICT:
                        pass


async def _replace(client: ApiClient, path: ResourcePath, step: Step) -> None:
    """Onto the version that is there now: who writes at the same time is not overwritten."""
    wanted: dict[str, Any] = {**(step.wanted or {}), "apiVersion": path.api_version}
    present = await client.get(path, step.rule.name, step.rule.namespace)
    wanted["metadata"] = wanted["metadata"] | {"resourceVersion": present["metadata"]["resourceVersion"]}
    await client.replace(path, wanted)


async def served(client: ApiClient, paths: Sequence[ResourcePath]) -> ResourcePath:
    """The first of the versions that this server has; clusters of one mesh may have Gateway API's kinds in different ones."""
    from isthmus.kubernetes.errors import NotFound

    *newer, oldest = paths
    for path in newer:
        try:
            await client.list_objects(path, limit="1")
        except NotFound:
            continue
        return path
    return oldest


def _paths(kind: str) -> list[ResourcePath]:
    from isthmus.kubernetes.resources import CONFIG_MAPS

    return [CONFIG_MAPS] if kind == "ConfigMap" else _kinds()[kind]


def _kinds() -> dict[str, list[ResourcePath]]:
    """What is configuration, by name, with the group where two have one name; and where a server may have it, the newest version first."""
    from isthmus.api.registry import KINDS
    from isthmus.kubernetes.kind_paths import paths_of

    kinds = [k for k in KINDS.values() if k.is_custom and not k.from_every_cluster and k.name not in _PER_CLUSTER]
    names = [kind.name for kind in kinds]
    return {kind.name if names.count(kind.name) == 1 else f"{kind.name}.{kind.group}": paths_of(kind) for kind in kinds}
