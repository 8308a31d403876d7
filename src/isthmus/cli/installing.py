"""install and uninstall: an installation as YAML, or carried out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

import click

from isthmus.cli.applying import Applier, NotApplied, Outcome
from isthmus.cli.contexts import chosen, kubeconfig_option, over_the_network
from isthmus.cli.errors import BAD_INPUT, BAD_USAGE, TIMED_OUT, Failed
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.installation.inventory import BadInventory
from isthmus.installation.manifests import as_yaml, installed
from isthmus.installation.settings import VALUES, BadValue, InstallSettings, Profile, Value, install_settings, parsed
from isthmus.kubernetes.client import ApiClient

_context = click.option("--context", default="", help="The cluster; the current context by default.")


@click.command("install")
@click.option(
    "--profile",
    type=click.Choice([profile.value for profile in Profile]),
    default="primary",
    show_default=True,
    help="What the cluster is to its mesh.",
)
@_context
@kubeconfig_option
@click.option("--cluster", default="", help="The cluster's id in the mesh; the same as --set cluster=ID.")
@click.option("--network", default="", help="The network of its Pods; the same as --set network=NETWORK.")
@click.option("--revision", default="", help="The same as --set revision=R.")
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="Any value; --values lists them.")
@click.option("--values", "list_values", is_flag=True, help="List what can be set, and do nothing else.")
@click.option("--apply", "carry_out", is_flag=True, help="Apply it to the cluster, instead of printing it.")
@click.option("--dry-run", is_flag=True, help="With --apply: only ask the server what would change.")
@click.option("--force-conflicts", is_flag=True, help="Take over fields that somebody else has set.")
@click.option(
    "--wait", "seconds", type=float, default=0.0, metavar="SECONDS", help="Wait for what runs to be available."
)
@json_output
def install_command(
    profile: str,
    context: str,
    kubeconfig: str,
    cluster: str,
    network: str,
    revision: str,
    values: Sequence[str],
    list_values: bool,
    carry_out: bool,
    dry_run: bool,
    force_conflicts: bool,
    seconds: float,
    output: str,
) -> None:
    """Install the mesh on a Kubernetes cluster: print the objects, or apply them.

    \b
    Examples:
      isthmus install --cluster east --network n1 | kubectl --context east apply --server-side -f -
      isthmus install --cluster east --network n1 --context east --apply --wait 120
      isthmus install --profile remote --cluster west --network n2 --context west --apply \\
          --set controlPlane.address=203.0.113.7 --set controlPlane.cluster=east

    Applied again it changes nothing. What an earlier run made and this one does not want is taken away.
    """
    if list_values:
        print_table(("VALUE", "DEFAULT", "FOR", "MEANING"), [_row(value) for value in VALUES])
        return
    said = {
        name: value for name, value in (("cluster", cluster), ("network", network), ("revision", revision)) if value
    }
    try:
        settings = install_settings(Profile(profile), {**said, **parsed(values)})
    except BadValue as error:
        raise Failed(f"install: {error}", exit_code=BAD_USAGE) from None
    found = installed(settings)
    if not carry_out:
        click.echo(as_yaml(found), nl=False)
        return
    address = chosen(kubeconfig, context).address

    async def work() -> tuple[list[Outcome], list[str]]:
        async with ApiClient(address) as client:
            applier = Applier(client, force=force_conflicts, dry_run=dry_run)
            outcomes = await applier.install(settings, found)
            missing = await applier.until_rolled_out(settings, seconds) if seconds and not dry_run else []
            return outcomes, missing

    try:
        outcomes, missing = over_the_network(work)
    except (NotApplied, BadInventory) as error:
        raise Failed(f"install: {error}") from None
    _show(outcomes, output, dry_run)
    _next(settings)
    if missing:
        raise Failed(f"install: not available after {seconds:g} s: {', '.join(missing)}", exit_code=TIMED_OUT)


@click.command("uninstall")
@_context
@kubeconfig_option
@click.option("-n", "--namespace", default="istio-system", show_default=True, help="Where it is installed.")
@click.option("--revision", default="default", show_default=True, help="Which revision is taken away.")
@click.option(
    "--purge",
    is_flag=True,
    help="Definitions with all objects of their kinds, and the namespace with all that is in it, too.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_output
def uninstall_command(
    context: str, kubeconfig: str, namespace: str, revision: str, purge: bool, dry_run: bool, yes: bool, output: str
) -> None:
    """Take away what `isthmus install --apply` made, and nothing else.

    \b
    Examples:
      isthmus uninstall --context east --dry-run
      isthmus uninstall --context east --revision canary --yes
    """
    address = chosen(kubeconfig, context).address
    if not (yes or dry_run):
        if not sys.stdin.isatty():
            raise Failed("uninstall takes the mesh away: say --yes, or look first with --dry-run", exit_code=BAD_USAGE)
        everything = ", with all configuration and everything in the namespace" if purge else ""
        click.confirm(
            f"Take {namespace}.{revision} away from {context or 'the current context'}{everything}?",
            abort=True,
            err=True,
        )

    async def work() -> list[Outcome]:
        async with ApiClient(address) as client:
            return await Applier(client, force=False, dry_run=dry_run).uninstall(namespace, revision, purge=purge)

    try:
        outcomes = over_the_network(work)
    except (NotApplied, BadInventory) as error:
        raise Failed(f"uninstall: {error}", exit_code=BAD_INPUT) from None
    _show(outcomes, output, dry_run)


def _show(outcomes: Sequence[Outcome], output: str, dry_run: bool) -> None:
    rows = [
        {
            "kind": each.name.kind,
            "namespace": each.name.namespace,
            "name": each.name.name,
            "action": each.done.value,
            "why": each.why,
        }
        for each in outcomes
    ]
    if output == "json":
        print_json({"dryRun": dry_run, "objects": rows})
        return
    columns = ("kind", "namespace", "name", "action", "why")
    print_table([column.upper() for column in columns], [[row[column] for column in columns] for row in rows])
    counted = Counter(each.done.value for each in outcomes)
    told = ", ".join(f"{count} {what}" for what, count in sorted(counted.items()))
    click.echo(f"{'would be ' if dry_run else ''}{told}", err=True)


def _next(settings: InstallSettings) -> None:
    """What installing alone does not do."""
    if settings.profile is Profile.REMOTE:
        click.echo(
            "next: let the control plane discover this cluster, with isthmus link PRIMARY THIS --one-way", err=True
        )
    elif settings.profile is Profile.EXTERNAL:
        click.echo(
            "next: give it the kubeconfig of its config cluster, with isthmus create-remote-secret --type config",
            err=True,
        )


def _row(value: Value) -> list[str]:
    return [value.name, value.default, ", ".join(profile.value for profile in value.profiles) or "all", value.meaning]
