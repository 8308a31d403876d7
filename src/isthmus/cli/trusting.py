"""trust: whom the mesh believes, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from isthmus.cli.contexts import Context, every, kubeconfig_option, over_the_network, system_namespace_option
from isthmus.cli.durations import Duration, largest_unit
from isthmus.cli.errors import FAILED, FINDINGS
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.cli.running_mesh import asked, folder_of, mesh_name
from isthmus.cli.trust_bundles import export_command, forget_command, import_command
from isthmus.cli.trust_following import bundles_command, follow_command
from isthmus.cli.trust_rotation import (
    activate_command,
    evict_command,
    prepare_command,
    revoke_command,
    status_command,
    taint_command,
)
from isthmus.localruntime import state
from isthmus.trust.expiry import Horizon, alarming, nearest_first

Object = dict[str, Any]


@click.group("trust")
def trust_command() -> None:
    """Look at the mesh's certificates, authorities and tokens, exchange bundles with other meshes, and change the mesh's root.

    \b
    Examples:
      isthmus trust expiry
      isthmus trust status
      isthmus trust import bundle.json --trust-domain partner.example
    """


_ROTATION = (status_command, prepare_command, activate_command, taint_command, revoke_command, evict_command)
_BUNDLES = (export_command, import_command, follow_command, forget_command, bundles_command)
for _command in (*_BUNDLES, *_ROTATION):
    trust_command.add_command(_command)


@trust_command.command("expiry")
@click.option("--context", "contexts", multiple=True, help="Read the objects of this cluster; repeatable.")
@click.option("--within", type=Duration(), help="Exit with code 79 if anything ends within this time, such as 7d.")
@kubeconfig_option
@system_namespace_option
@mesh_name
@json_output
def _expiry(
    contexts: Sequence[str], within: int | None, kubeconfig: str, namespace: str, name: str, output: str
) -> None:
    """Show until when certificates, authorities and remote secrets' credentials are good, the nearest end first.

    Of a mesh on this machine the control planes and Envoys are asked, too; of other clusters the objects in the mesh's namespace are
    read, and what runs there is not seen.

    \b
    Examples:
      isthmus trust expiry
      isthmus trust expiry --within 7d
      isthmus trust expiry --context production-eu --context production-us -o json
    """
    live = [] if contexts or kubeconfig else _in_running_mesh(name)
    clusters = every(kubeconfig or _kubeconfig_of_mesh(name, asked_for=not contexts), contexts)
    found, unanswered = over_the_network(lambda: _in_clusters(clusters, namespace))
    rows = nearest_first([*live, *found])
    now = datetime.now(UTC)
    ending = alarming(rows, now + timedelta(seconds=within or 0))
    if output == "json":
        print_json({"horizons": [_document(row, now) for row in rows], "unanswered": unanswered})
    else:
        print_table(("ENDS", "IN", "KIND", "NAME", "CLUSTER", "WHERE"), [_row(row, now) for row in rows])
    for answer in unanswered:
        click.echo(f"{answer['cluster']}: {answer['error']}", err=True)
    if within is not None and ending:
        click.echo(f"{len(ending)} of {len(rows)} end within the time, have ended, or cannot be read", err=True)
        raise click.exceptions.Exit(FINDINGS)
    if unanswered:
        raise click.exceptions.Exit(FAILED)


def _in_running_mesh(name: str) -> list[Horizon]:
    """Nothing where no mesh runs here: then a kubeconfig says which clusters are meant."""
    from isthmus.cli.trust_horizons import in_control_planes, in_proxies
    from isthmus.localruntime.mesh_client import MeshClient

    if not name and not _kubeconfig_of_mesh("", asked_for=True):
        return []
    mesh = MeshClient(folder_of(name))
    clusters = asked(mesh.status)["clusters"]
    return asked(lambda: [*in_control_planes(mesh, clusters), *in_proxies(mesh, clusters)])


def _kubeconfig_of_mesh(name: str, *, asked_for: bool) -> str:
    """Of the mesh that runs here, if that is what is asked about; empty for what the environment names."""
    if not asked_for:
        return ""
    try:
        return str(state.find(name).kubeconfig)
    except state.NoSuchMesh:
        return ""


async def _in_clusters(contexts: Sequence[Context], namespace: str) -> tuple[list[Horizon], list[Object]]:
    """What was found, and who did not answer: one cluster out of reach hides no other's horizon."""
    import asyncio

    from isthmus.cli.trust_horizons import in_cluster
    from isthmus.kubernetes.errors import KubernetesError

    found: list[Horizon] = []
    unanswered: list[Object] = []
    answers = await asyncio.gather(*(in_cluster(context, namespace) for context in contexts), return_exceptions=True)
    for context, answer in zip(contexts, answers, strict=True):
        if isinstance(answer, KubernetesError):
            unanswered.append({"cluster": context.name, "error": str(answer)})
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found += answer
    return found, unanswered


def _document(horizon: Horizon, now: datetime) -> Object:
    return {
        "cluster": horizon.cluster,
        "kind": str(horizon.kind),
        "name": horizon.name,
        "where": horizon.where,
        "notAfter": horizon.ends.isoformat() if horizon.ends else None,
        "secondsLeft": int((horizon.ends - now).total_seconds()) if horizon.ends else None,
        "problem": horizon.problem,
    }


def _row(horizon: Horizon, now: datetime) -> Sequence[object]:
    ends = f"{horizon.ends:%Y-%m-%dT%H:%M:%SZ}" if horizon.ends else "unknown" if horizon.problem else "never"
    left = (largest_unit(horizon.ends - now) or "ended") if horizon.ends else "-"
    return ends, left, horizon.kind, horizon.name or horizon.problem, horizon.cluster, horizon.where
