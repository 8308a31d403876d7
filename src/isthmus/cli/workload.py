"""workload entry configure: the files with which a machine outside every cluster joins the mesh."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from isthmus.api.registry import KINDS, UndecodableObject, decode
from isthmus.cli.contexts import chosen, kubeconfig_option, over_the_network
from isthmus.cli.durations import Duration
from isthmus.cli.errors import BAD_INPUT, BAD_USAGE, Failed
from isthmus.cli.output import print_json
from isthmus.cli.state_options import documents
from isthmus.injection.workloads import NETWORK_LABEL
from isthmus.installation.machine_kit import (
    ROOTS,
    SECRET_FILES,
    KitOrder,
    NoKit,
    account_of,
    kit_files,
    network_of,
    settings_of,
    ways_to_control_plane,
)
from isthmus.installation.rights import ROOTS_CONFIG_MAP
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.config_maps import data_of
from isthmus.kubernetes.errors import NotFound
from isthmus.kubernetes.resources import DEPLOYMENTS, NAMESPACES, SERVICES, WORKLOAD_GROUPS

Object = dict[str, Any]

_TOKEN_PORT = 15012
_SECONDS_MIN = 600


@click.group("workload")
def workload_command() -> None:
    """Machines outside every cluster.

    \b
    Example:
      isthmus workload entry configure ledger -n bank --context east -d kit
    """


@workload_command.group("entry")
def entry_command() -> None:
    """One machine of a WorkloadGroup.

    \b
    Example:
      isthmus workload entry configure ledger -n bank --context east -d kit
    """


@entry_command.command("configure")
@click.argument("name", required=False)
@click.option("-f", "--file", "file", metavar="FILE", help="The WorkloadGroup, instead of one that the cluster has.")
@click.option("-n", "--namespace", default="default", show_default=True, help="The group's namespace.")
@click.option("--context", default="", help="The cluster that the machine belongs to; the current context by default.")
@kubeconfig_option
@click.option("-d", "--directory", required=True, metavar="FOLDER", help="Where the files are written.")
@click.option(
    "--control-plane",
    "control_planes",
    multiple=True,
    metavar="HOST:PORT",
    help="Where the machine reaches a control plane; repeatable. By default found at the cluster's load balancers.",
)
@click.option("--cluster-id", default="", help="The cluster's id; by default what its control plane says.")
@click.option("--mesh-id", default="", help="By default what the control plane says.")
@click.option("--trust-domain", default="", help="By default what the control plane says.")
@click.option(
    "--network", default="", help="The machine's network, where the group says none; by default the cluster's."
)
@click.option(
    "--token-duration", type=Duration(), default="1h", show_default=True, help="By when the machine must have joined."
)
@click.option(
    "--autoregister/--no-autoregister",
    default=True,
    show_default=True,
    help="Whether the machine gets a WorkloadEntry for as long as it is connected.",
)
@click.option("--istio-namespace", default="istio-system", show_default=True, help="Where the control plane is.")
@click.option(
    "-o", "--output", type=click.Choice(["name", "json"]), default="name", show_default=True, help="How to print it."
)
def configure_command(
    name: str | None,
    file: str | None,
    namespace: str,
    context: str,
    kubeconfig: str,
    directory: str,
    control_planes: Sequence[str],
    cluster_id: str,
    mesh_id: str,
    trust_domain: str,
    network: str,
    token_duration: int,
    autoregister: bool,
    istio_namespace: str,
    output: str,
) -> None:
    """Write the kit of a machine: a token, the mesh's roots, and what its agent has to know.

    \b
    Examples:
      isthmus workload entry configure ledger -n bank --context east -d kit
      isthmus agent machine --kit kit         there

    Carry the folder to the machine: the token in it stands for the group's account until it expires. From its first certificate on, a
    machine proves itself by that.
    """
    if bool(name) == bool(file):
        raise Failed("workload entry configure: name a WorkloadGroup, or a file with one", exit_code=BAD_USAGE)
    if token_duration < _SECONDS_MIN:
        raise Failed("--token-duration: API servers give no tokens for less than 10m", exit_code=BAD_USAGE)
    written = _group_in(file, namespace) if file else None
    found = chosen(kubeconfig, context)

    async def ask() -> dict[str, str]:
        async with ApiClient(found.address) as client:
            group = written or await _group(client, str(name), namespace)
            space, account = group["metadata"]["namespace"], account_of(group)
            if network and network_of(group) not in ("", network):
                raise NoKit(f"the group is on network {network_of(group)}: leave out --network {network}")
            known = await _said_by_control_plane(client, istio_namespace)
            ways = list(control_planes) or await _ways(client, istio_namespace)
            try:
                token = await client.request_token(space, account, audiences=("istio-ca",), seconds=token_duration)
            except NotFound:
                raise NoKit(f"there is no service account {space}/{account}: create it first") from None
            order = KitOrder(
                cluster=cluster_id or known.get("CLUSTER_ID") or context or "Kubernetes",
                mesh=mesh_id or known.get("MESH_ID", "mesh1"),
                trust_domain=trust_domain or known.get("TRUST_DOMAIN", "cluster.local"),
                network=network or await _network(client, istio_namespace),
                control_planes=ways,
                token=token,
                roots_pem=await _roots(client, space),
                registers_itself=autoregister,
            )
            return kit_files(group, order)

    try:
        files = over_the_network(ask)
        paths = _write(Path(directory), files)
    except NoKit as error:
        raise Failed(f"workload entry configure: {error}", exit_code=BAD_INPUT) from None
    except OSError as error:
        raise Failed(f"workload entry configure: cannot write: {error}") from None
    if output == "json":
        print_json({"files": paths})
    else:
        for path in paths:
            click.echo(path)


def _group_in(file: str, namespace: str) -> Object:
    groups = [each for each in documents(file) if isinstance(each, dict) and each.get("kind") == "WorkloadGroup"]
    named = [each for each in groups if isinstance(each.get("metadata"), dict) and each["metadata"].get("name")]
    if len(groups) != 1 or not named:
        raise Failed(f"{file}: has {len(named)} WorkloadGroups with a name, not one", exit_code=BAD_INPUT)
    group: Object = named[0]
    try:
        decode(KINDS["WorkloadGroup"], group)
    except UndecodableObject as error:
        raise Failed(f"{file}: is not a WorkloadGroup: {error}", exit_code=BAD_INPUT) from None
    return group | {"metadata": {"namespace": namespace} | group["metadata"]}


async def _group(client: ApiClient, name: str, namespace: str) -> Object:
    try:
        return await client.get(WORKLOAD_GROUPS, name, namespace)
    except NotFound:
        raise NoKit(f"there is no WorkloadGroup {namespace}/{name}: create it first, or name a file with -f") from None


async def _said_by_control_plane(client: ApiClient, namespace: str) -> dict[str, str]:
    found = await client.list_objects(DEPLOYMENTS, namespace, labelSelector="app=istiod")
    return settings_of(found["items"][0]) if found["items"] else {}


async def _ways(client: ApiClient, namespace: str) -> list[str]:
    return ways_to_control_plane((await client.list_objects(SERVICES, namespace))["items"], _TOKEN_PORT)


async def _network(client: ApiClient, namespace: str) -> str:
    labels = (await client.get(NAMESPACES, namespace))["metadata"].get("labels") or {}
    return str(labels.get(NETWORK_LABEL, ""))


async def _roots(client: ApiClient, namespace: str) -> str:
    return (await data_of(client, ROOTS_CONFIG_MAP, namespace)).get(ROOTS, "")


def _write(directory: Path, files: dict[str, str]) -> list[str]:
    """What is secret can be read by its owner alone."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        mode = 0o600 if name in SECRET_FILES else 0o644
        path = directory / name
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
    return [str(directory / name) for name in files]
