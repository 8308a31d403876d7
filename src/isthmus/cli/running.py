"""Commands for a mesh on this machine: up, down, status, logs, kubeconfig, exec."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from isthmus.cli.errors import BAD_INPUT, BAD_USAGE, TIMED_OUT, Failed
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.cli.running_mesh import asked, cluster_with, folder_of, mesh_name
from isthmus.cli.sending import print_traffic
from isthmus.cli.topologies import TopologyFile, guide_of
from isthmus.localruntime import state
from isthmus.localruntime.mesh_client import MeshClient, MeshUnavailable

_LOOK_SECONDS = 0.1


@click.command("up")
@click.argument("topology", type=TopologyFile())
@click.option("--timeout", default=300.0, show_default=True, help="Seconds to wait until everything is ready.")
@click.option("--name", default="", help="The mesh's name; the topology's by default.")
@click.option("--traffic/--no-traffic", "with_traffic", default=True, help="Send requests when everything is ready.")
@click.option("--detach", is_flag=True, help="Do not wait.")
@click.option("--rootless", is_flag=True, help="Use a user namespace even as root; other users always do.")
def up_command(topology: Path, timeout: float, name: str, with_traffic: bool, detach: bool, rootless: bool) -> None:
    """Boot the clusters, control planes, gateways and workloads of a topology on this machine: of a file, or of an example by its name.

    \b
    Examples:
      isthmus up examples/two-shores.yaml
      isthmus up two-shores
    """
    from isthmus.localruntime.launch import CannotStart, start, stop

    plan = _planned(topology, name)
    began = time.monotonic()
    try:
        folder = start(plan, topology, rootless=rootless or os.geteuid() != 0)
    except CannotStart as error:
        raise Failed(f"cannot start {plan.name}: {error}") from None
    if detach:
        click.echo(f"{plan.name} is starting: `isthmus status` shows how far it is", err=True)
        return
    mesh = MeshClient(folder)
    try:
        status = _until_ready(mesh, began, timeout)
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted: stopping {plan.name}", err=True)
        stop(folder)
        raise
    _print_clusters(status)
    if with_traffic and _has_traffic(status):
        click.echo()
        print_traffic(mesh, status, 20)
    click.echo(f"\n{plan.name} was ready after {status['readySeconds']:.1f} s. Go on with:\n")
    _print_next_steps(status, guide_of(topology))


def _has_traffic(status: dict[str, Any]) -> bool:
    """Whether there is somebody to send requests; whom they ask is found then."""
    from isthmus.localruntime.traffic import clients

    return any(clients(status))


def _print_next_steps(status: dict[str, Any], guide: Path | None) -> None:
    """What a newcomer can do now, as it works in this mesh."""
    from isthmus.localruntime.traffic import clients

    sender = next(iter(clients(status)), None)
    cluster, namespace = sender[:2] if sender else (status["clusters"][0]["id"], "")
    steps = [
        ("isthmus status", "what runs"),
        ("export KUBECONFIG=$(isthmus kubeconfig)", f"then: kubectl --context {cluster} get pods -A"),
    ]
    if _has_traffic(status):
        steps.append(("isthmus traffic", "send requests again"))
    if sender:
        look = f"isthmus proxy-config endpoints client -n {namespace} --cluster {cluster}"
        steps.append((look, "where the client's Envoy sends its requests"))
    if guide:
        steps.append((f"less {os.path.relpath(guide)}", "why one would choose this model, and what breaks when"))
    steps.append(("isthmus down", "stop it, and leave nothing behind"))
    if sys.prefix != sys.base_prefix and not os.environ.get("VIRTUAL_ENV"):
        steps.insert(0, (f". {os.path.relpath(sys.prefix)}/bin/activate", "so that your shell finds isthmus"))
    for command, meaning in steps:
        click.echo(f"  {command:<66} # {meaning}")


@click.command("down")
@mesh_name
@click.option("--all", "everything", is_flag=True, help="Every mesh on this machine.")
def down_command(name: str, everything: bool) -> None:
    """Stop the running mesh, and leave nothing behind: no process, no namespace, no file.

    \b
    Example:
      isthmus down
    """
    from isthmus.localruntime.launch import stop

    chosen = list(state.folders()) if everything else [folder_of(name)]
    for folder in chosen:
        stop(folder)
        click.echo(f"{folder.name} is down", err=True)


@click.command("status")
@mesh_name
@json_output
def status_command(name: str, output: str) -> None:
    """Show what runs, and what is waited for.

    \b
    Example:
      isthmus status
    """
    mesh = MeshClient(folder_of(name))
    status = asked(mesh.status)
    if output == "json":
        print_json(status)
        return
    click.echo(f"{status['name']}: {status['phase']}, {status['processes']} processes")
    if status["error"]:
        click.echo(f"error: {status['error']}")
    click.echo()
    _print_clusters(status)
    click.echo()
    _print_pods(status)
    if status["machines"]:
        click.echo()
        _print_machines(status)


@click.command("machine")
@click.argument("position", type=click.Choice(["on", "off", "cut"]))
@click.argument("machine")
@mesh_name
def machine_command(position: str, machine: str, name: str) -> None:
    """Switch a machine of the running mesh on or off; cut its power.

    \b
    Examples:
      isthmus machine off ledger      its agent takes its leave of the mesh
      isthmus machine cut ledger      nobody is told anything
      isthmus machine on ledger
    """
    asked(lambda: MeshClient(folder_of(name)).switch(machine, position))


@click.command("logs")
@click.argument("part", default="runtime")
@click.option("--cluster", default="", help="Of which cluster; needed if several have such a Pod.")
@click.option("-n", "--namespace", default="sample", show_default=True, help="The Pod's namespace.")
@click.option("-c", "--container", default="", help="Of which container; the workload's by default.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing.")
@mesh_name
def logs_command(part: str, cluster: str, namespace: str, container: str, follow: bool, name: str) -> None:
    """Print what a part of the mesh has said: runtime, apiserver, agent, or a Pod.

    \b
    Examples:
      isthmus logs runtime
      isthmus logs agent --cluster east
      isthmus logs istiod -n istio-system --cluster east
      isthmus logs client --cluster west -c istio-proxy
    """
    mesh = MeshClient(folder_of(name))
    path = _log_of(mesh, part, cluster, namespace, container)
    if not path.exists():
        raise Failed(f"{path} is not there yet: the part has said nothing")
    if follow:
        os.execvp("tail", ["tail", "-n", "+1", "-f", str(path)])
    with path.open() as file:
        for line in file:
            click.echo(line, nl=False)


@click.command("kubeconfig")
@mesh_name
def kubeconfig_command(name: str) -> None:
    """Print the path of a kubeconfig with a context for each cluster.

    \b
    Example:
      export KUBECONFIG=$(isthmus kubeconfig)
    """
    folder = folder_of(name)
    if not folder.kubeconfig.exists():
        raise Failed(f"{folder.name} has no kubeconfig yet: its API servers are starting")
    click.echo(folder.kubeconfig)


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("pod")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--cluster", default="", help="In which cluster; needed if several have such a Pod.")
@click.option("-n", "--namespace", default="sample", show_default=True, help="The Pod's namespace.")
@click.option("-c", "--container", default="", help="In which container; the workload's by default.")
@mesh_name
def exec_command(pod: str, command: Sequence[str], cluster: str, namespace: str, container: str, name: str) -> int:
    """Run a command inside a workload. POD is a Pod's name, or the beginning of one.

    \b
    Example:
      isthmus exec client --cluster east -- curl -s http://helloworld.sample:5000/hello
    """
    from isthmus.localruntime.entering import NotInside
    from isthmus.localruntime.traffic import inside

    mesh = MeshClient(folder_of(name))
    where = (cluster or cluster_with(mesh, namespace, pod), namespace, pod)
    try:
        line, environment = asked(lambda: inside(mesh, where, list(command), container=container))
    except NotInside as error:
        raise Failed(f"cannot enter {pod}: {error}") from None
    return subprocess.run(line, env=environment, check=False).returncode


def _planned(topology: Path, name: str) -> Any:
    """The plan; a finding for each mistake, and nothing has been started."""
    from dataclasses import replace

    from isthmus.localruntime.marked_yaml import BadInput
    from isthmus.localruntime.planning import plan_of
    from isthmus.localruntime.topology import load

    try:
        plan = plan_of(load(topology))
    except BadInput as bad:
        raise Failed(*map(str, bad.findings), exit_code=BAD_INPUT) from None
    return replace(plan, name=name) if name else plan


def _until_ready(mesh: MeshClient, began: float, timeout: float) -> dict[str, Any]:
    """Prints what happens as it happens. Raises Failed when the mesh fails, dies or takes too long; it is left for a look."""
    told = 0
    while True:
        if mesh.state.running() is None:
            raise Failed(f"the runtime ended: {_last_line(mesh.state.runtime_log)}", f"see {mesh.state.runtime_log}")
        try:
            status = mesh.status()
        except MeshUnavailable:
            status = {"phase": "starting", "told": [], "waitingFor": ["the runtime"], "error": ""}
        for entry in status["told"][told:]:
            click.echo(f"{entry['seconds']:6.2f} s  {entry['what']}", err=True)
        told = max(told, len(status["told"]))
        if status["phase"] == "ready":
            return status
        if status["phase"] == "failed":
            raise Failed(f"cannot boot: {status['error']}", f"see {mesh.state.runtime_log}; end it with `isthmus down`")
        if time.monotonic() - began > timeout:
            waiting = ", ".join(status["waitingFor"]) or "nothing"
            raise Failed(
                f"not ready after {timeout:g} s; waiting for: {waiting}",
                "look with `isthmus status` and `isthmus logs`; end it with `isthmus down`",
                exit_code=TIMED_OUT,
            )
        _pause()


def _pause() -> None:
    """The runtime is another process: it is asked again after a moment."""
    import select

    select.select([], [], [], _LOOK_SECONDS)


def _print_clusters(status: dict[str, Any]) -> None:
    print_table(
        ("CLUSTER", "NETWORK", "API SERVER", "CONTROL PLANE", "GATEWAY", "PODS READY"),
        [
            (
                cluster["id"],
                cluster["network"],
                cluster["apiServer"],
                ", ".join("own" if c == cluster["id"] else c for c in cluster["controlPlanes"]),
                ", ".join(
                    _entrance(cluster, gateway, ip) for gateway in cluster["gateways"] for ip in gateway["addresses"]
                ),
                f"{sum(_is_ready(pod) for pod in cluster['pods'])}/{len(cluster['pods'])}",
            )
            for cluster in status["clusters"]
        ],
    )


def _entrance(cluster: dict[str, Any], gateway: dict[str, Any], ip: str) -> str:
    """With the network that it leads into, if that is another one than the cluster's: a tunnel's outside."""
    return ip if gateway["network"] == cluster["network"] else f"{ip} (into {gateway['network']})"


def _print_pods(status: dict[str, Any]) -> None:
    print_table(
        ("CLUSTER", "NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "IP", "NODE"),
        [
            (cluster["id"], *(pod[key] for key in ("namespace", "name", "ready", "status", "restarts", "ip", "node")))
            for cluster in status["clusters"]
            for pod in cluster["pods"]
        ],
    )


def _print_machines(status: dict[str, Any]) -> None:
    print_table(
        ("MACHINE", "CLUSTER", "NETWORK", "NAMESPACE", "GROUP", "STATUS", "IP"),
        [
            tuple(machine[key] for key in ("name", "cluster", "network", "namespace", "group", "status", "ip"))
            for machine in status["machines"]
        ],
    )


def _is_ready(pod: dict[str, Any]) -> bool:
    ready, _, wanted = pod["ready"].partition("/")
    return bool(ready == wanted)


def _log_of(mesh: MeshClient, part: str, cluster: str, namespace: str, container: str) -> Path:
    if part == "runtime":
        return mesh.state.runtime_log
    if part in ("apiserver", "agent"):
        known = [cluster] if cluster else [entry["id"] for entry in asked(mesh.status)["clusters"]]
        if len(known) > 1:
            raise Failed(f"say of which cluster with --cluster: {', '.join(known)}", exit_code=BAD_USAGE)
        return mesh.state.logs / known[0] / f"{part}.log"
    where = cluster or cluster_with(mesh, namespace, part)
    pod = asked(lambda: mesh.pod(where, namespace, part))
    logs = {entry["name"]: entry["log"] for entry in pod["containers"]}
    chosen = container or next((name for name in logs if name != "istio-proxy"), "istio-proxy")
    if chosen not in logs:
        raise Failed(f"no container {chosen!r} in {pod['name']}; there is: {', '.join(logs) or 'none'}")
    return Path(logs[chosen])


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text().strip().splitlines()
    except OSError:
        return "it left no log"
    return lines[-1] if lines else "it said nothing"
