"""trust status, prepare, activate, taint and revoke: another root for the mesh, step by step, while everything runs.

A step is taken when every control plane says that its proxies have done what the step needs; until then the command waits, and says for whom.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from isthmus.cli.contexts import (
    Context,
    contexts_option,
    every,
    kubeconfig_option,
    over_the_network,
    system_namespace_option,
)
from isthmus.cli.durations import Duration
from isthmus.cli.errors import BAD_INPUT, BAD_USAGE, Failed
from isthmus.cli.output import json_output, print_json, print_table

if TYPE_CHECKING:
    from isthmus.cli.trust_clusters import Cluster
    from isthmus.trust.rotation import ClusterTrust
    from isthmus.trust.x509 import Issuer

F = TypeVar("F", bound=Callable[..., Any])
Object = dict[str, Any]


def _options(command: F) -> F:
    for option in (json_output, system_namespace_option, kubeconfig_option, contexts_option):
        command = option(command)
    return command


_timeout = click.option(
    "--timeout", "seconds", type=Duration(), default="5m", show_default=True, help="How long to wait for proxies."
)
_undo = click.option("--undo", is_flag=True, help="Go back to before this step.")


@click.command("status")
@_options
def status_command(contexts: Sequence[str], kubeconfig: str, namespace: str, output: str) -> None:
    """Show the mesh's roots, where each is in its life, and which proxies have not done yet what is asked of them.

    \b
    Examples:
      isthmus trust status
      isthmus trust status -o json
    """

    async def look(clusters: list[Cluster]) -> list[Cluster]:
        from isthmus.cli.trust_clusters import asked

        return await asked(clusters)

    _run(contexts, kubeconfig, namespace, output, look)


@click.command("prepare")
@click.option(
    "--root-cert", default="", metavar="FILE", help="Sign the new authorities with this root; else one is made."
)
@click.option("--root-key", default="", metavar="FILE", help="Its key. It is used here, and stored nowhere.")
@_undo
@_timeout
@_options
def prepare_command(
    root_cert: str,
    root_key: str,
    undo: bool,
    seconds: int,
    contexts: Sequence[str],
    kubeconfig: str,
    namespace: str,
    output: str,
) -> None:
    """Let everybody trust a new root, which signs nothing yet, and give each cluster an authority under it.

    The root's key is forgotten: only the authorities' keys are kept, each in a Secret of its cluster.

    \b
    Examples:
      isthmus trust prepare
      isthmus trust prepare --root-cert root.pem --root-key root-key.pem
      isthmus trust prepare --undo
    """
    if bool(root_cert) != bool(root_key):
        raise click.UsageError("--root-cert and --root-key belong together")
    if undo and root_cert:
        raise click.UsageError("--undo takes back what is prepared: it takes no --root-cert")
    given = _given_root(root_cert, root_key) if root_cert else None

    async def step(clusters: list[Cluster]) -> list[Cluster]:
        from isthmus.cli import trust_steps as steps
        from isthmus.trust import rotation

        if undo:
            return await steps.unprepare(clusters, seconds)
        root = await steps.prepare(clusters, given)
        return await steps.wait(clusters, lambda found: rotation.not_prepared(found, root), seconds)

    _run(contexts, kubeconfig, namespace, output, step)


@click.command("activate")
@click.option("--force", is_flag=True, help="Also if proxies do not trust the new root: their connections will break.")
@_undo
@_timeout
@_options
def activate_command(
    force: bool, undo: bool, seconds: int, contexts: Sequence[str], kubeconfig: str, namespace: str, output: str
) -> None:
    """Sign with the prepared authority, once every proxy trusts its root and has let in who showed a certificate of it.

    Otherwise it waits, and says for whom and why. The old root is trusted on, and certificates of it are good until they are renewed.

    \b
    Examples:
      isthmus trust activate
      isthmus trust activate --timeout 1h
      isthmus trust activate --undo
    """

    if undo and force:
        raise click.UsageError("--undo needs no --force: what signed before is trusted by everybody")

    async def step(clusters: list[Cluster]) -> list[Cluster]:
        from isthmus.cli import trust_steps as steps

        return await (steps.inactivate(clusters, seconds) if undo else steps.activate(clusters, seconds, force=force))

    _run(contexts, kubeconfig, namespace, output, step)


@click.command("taint")
@click.argument("root", default="")
@_undo
@_timeout
@_options
def taint_command(
    root: str, undo: bool, seconds: int, contexts: Sequence[str], kubeconfig: str, namespace: str, output: str
) -> None:
    """Have every certificate of an old root renewed now; it is trusted until all are. ROOT is the beginning of its fingerprint.

    \b
    Examples:
      isthmus trust taint
      isthmus trust taint 5c8e2f
      isthmus trust taint --undo
    """

    async def step(clusters: list[Cluster]) -> list[Cluster]:
        from isthmus.cli import trust_steps as steps

        return await (steps.untaint(clusters, root) if undo else steps.taint(clusters, root, seconds))

    _run(contexts, kubeconfig, namespace, output, step)


@click.command("revoke")
@click.argument("root", default="")
@click.option("--force", is_flag=True, help="Also while something uses the root: its connections will break.")
@_timeout
@_options
def revoke_command(
    root: str, force: bool, seconds: int, contexts: Sequence[str], kubeconfig: str, namespace: str, output: str
) -> None:
    """Trust a tainted root no longer, once nothing uses it: no proxy, no control plane, no remote secret. ROOT is the beginning of its fingerprint.

    \b
    Examples:
      isthmus trust revoke
      isthmus trust revoke 5c8e2f --timeout 1h
    """

    async def step(clusters: list[Cluster]) -> list[Cluster]:
        from isthmus.cli import trust_steps as steps

        return await steps.revoke(clusters, root, seconds, force=force)

    _run(contexts, kubeconfig, namespace, output, step)


@click.command("evict")
@click.argument("cluster")
@click.option("--yes", is_flag=True, help="Without it nothing is done.")
@click.option("--force", is_flag=True, help="Do not wait for proxies that are not ready: their connections will break.")
@_timeout
@_options
def evict_command(
    cluster: str,
    yes: bool,
    force: bool,
    seconds: int,
    contexts: Sequence[str],
    kubeconfig: str,
    namespace: str,
    output: str,
) -> None:
    """Trust nothing any longer that a cluster's authority has signed or will sign: for a cluster that somebody else has taken over.

    Every other cluster gets an authority under a new root, in the steps of prepare, activate, taint and revoke, and no remote secret for it
    stays. Then connections that callers have opened before are ended; who is still trusted opens new ones. CLUSTER is its id and the name of
    its context; it is not asked, and nothing in it is changed.

    \b
    Examples:
      isthmus trust evict west --yes
      isthmus trust evict west --yes --timeout 30s --force
    """
    others = [context for context in every(kubeconfig, contexts) if context.name != cluster]
    has_context = any(context.name == cluster for context in every(kubeconfig, ()))
    if not others:
        raise Failed(f"there is no other cluster than {cluster}", exit_code=BAD_INPUT)
    if not yes:
        raise Failed(
            f"{', '.join(context.name for context in others)} will trust nothing of {cluster} any longer, and every open connection of the mesh "
            "is ended once: say --yes if that is meant",
            exit_code=BAD_USAGE,
        )

    async def step(clusters: list[Cluster]) -> list[Cluster]:
        from isthmus.cli import trust_steps as steps

        return await steps.evict(clusters, cluster, seconds, has_context=has_context, force=force)

    _run([context.name for context in others], kubeconfig, namespace, output, step)


# Reading what was given, and showing.


def _run(
    contexts: Sequence[str],
    kubeconfig: str,
    namespace: str,
    output: str,
    step: Callable[[list[Cluster]], Awaitable[list[Cluster]]],
) -> None:
    """Takes the step, and shows what there is then."""
    chosen: list[Context] = every(kubeconfig, contexts)

    async def taken() -> list[ClusterTrust]:
        from isthmus.cli.trust_clusters import mesh

        async with mesh(chosen, namespace) as clusters:
            return [cluster.trust for cluster in await step(clusters)]

    _show(over_the_network(taken), output)


def _show(clusters: Sequence[ClusterTrust], output: str) -> None:
    from isthmus.trust.rotation import behind, roots_of, unanswered
    from isthmus.trust.x509 import SHORT

    roots = roots_of(clusters)
    waiting = [*unanswered(clusters), *behind(clusters)]
    rows = [_row(cluster) for cluster in clusters]
    if output == "json":
        import msgspec

        print_json({"roots": msgspec.to_builtins(roots), "clusters": rows, "waiting": msgspec.to_builtins(waiting)})
        return
    print_table(
        ("ROOT", "SUBJECT", "STATE", "SINCE", "SIGNS IN", "TRUSTED BY"),
        [
            (
                root.fingerprint[:SHORT],
                root.subject,
                root.state,
                f"{root.since:%Y-%m-%dT%H:%M:%SZ}" if root.since else "",
                ", ".join(root.signs_in),
                ", ".join(root.trusted_by),
            )
            for root in roots
        ],
    )
    click.echo()
    print_table(
        ("CLUSTER", "SIGNS UNDER", "PREPARED", "CONTROL PLANES", "PROXIES AS ASKED"),
        [
            (
                row["name"],
                row["signsUnder"][:SHORT],
                row["prepared"][:SHORT],
                row["controlPlanes"],
                f"{row['proxies'] - row['behind']} of {row['proxies']}",
            )
            for row in rows
        ],
    )
    for each in waiting:
        click.echo(f"waiting for {each}", err=True)


def _row(cluster: ClusterTrust) -> Object:
    reports = [report for report in cluster.reports.values() if report is not None]
    return {
        "name": cluster.name,
        "signsUnder": cluster.active,
        "prepared": cluster.prepared,
        "controlPlanes": len(reports),
        "proxies": sum(report.proxies for report in reports),
        "behind": sum(report.behind_total for report in reports),
    }


def _given_root(certificate: str, key: str) -> Issuer:
    from isthmus.trust import x509

    try:
        found = x509.parse_certificates(Path(certificate).read_text())[0]
        signing = x509.parse_key(Path(key).read_text())
        x509.check_path((found,), datetime.now(UTC))
    except (OSError, x509.BadCertificate) as error:
        raise Failed(f"the root cannot be used: {error}", exit_code=BAD_INPUT) from None
    if not x509.matches(found, signing):
        raise Failed(f"{key} is not the key of {certificate}", exit_code=BAD_INPUT)
    if not x509.is_self_signed(found):
        raise Failed(f"{certificate} is not a root: another authority has signed it", exit_code=BAD_INPUT)
    return x509.Issuer(found, signing)
