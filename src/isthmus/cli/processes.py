"""The processes, as they run in production."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from isthmus.cli.errors import BAD_INPUT, Failed


@click.command("control-plane")
def control_plane_command() -> int:
    """Run a control plane for one mesh.

    \b
    Example:
      KUBECONFIG=~/.kube/config CLUSTER_ID=east isthmus control-plane

    It is told by environment variables, under Istio's names where Istio has one: KUBECONFIG (in a Pod: its own cluster), CLUSTER_ID, MESH_ID,
    TRUST_DOMAIN, NETWORK, POD_NAMESPACE, POD_NAME, REVISION, BIND_ADDRESS, PILOT_REMOTE_CLUSTER_TIMEOUT, ISTIOD_CUSTOM_HOST,
    ISTHMUS_PROXY_IMAGE, ENABLE_NATIVE_SIDECARS, RESOLVE_HOSTNAME_GATEWAYS, ISTHMUS_UNREACHABLE_NETWORKS_DIRECT,
    ISTHMUS_POLICIES_MEAN_ANY_TRUST_DOMAIN, ISTHMUS_PREFER_LOCAL_CLUSTER, ISTHMUS_LOCALITY_FAILOVER, ISTHMUS_HEDGE_AFTER.
    """
    from isthmus.controlplane.process import main

    return main()


_POD_OPTIONS = (
    ("--token-file", "/var/run/secrets/tokens/istio-token", "A service account's token for the audience istio-ca."),
    (
        "--roots-file",
        "/var/run/secrets/istio/root-cert.pem",
        "What the control plane's certificate is checked against.",
    ),
    ("--labels-file", "/etc/istio/pod/labels", "The Pod's labels, as the downward API writes them."),
    ("--directory", "/etc/istio/proxy", "A folder of the proxy's own."),
)


def _pod_options(command: Callable[..., int]) -> Callable[..., int]:
    for name, default, meaning in reversed(_POD_OPTIONS):
        command = click.option(name, default=default, show_default=True, metavar="PATH", help=meaning)(command)
    return command


@click.command("agent")
@click.argument("role", type=click.Choice(["sidecar", "router", "machine", "wait"]), required=False)
@click.option("--settings", type=click.Path(exists=True, dir_okay=False), help="A JSON file of AgentSettings.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds that `wait` waits.")
@click.option(
    "--kit", default="/etc/isthmus", show_default=True, metavar="PATH", help="A machine's kit: a folder of files."
)
@click.option(
    "--state", default="/var/lib/isthmus", show_default=True, metavar="PATH", help="What a machine keeps: a folder."
)
@click.option("--name", default="", help="The machine's name; by default its host name.")
@click.option("--address", default="", metavar="IP", help="Where others reach the machine; by default it is found out.")
@_pod_options
def agent_command(
    role: str | None,
    settings: str | None,
    timeout: float,
    kit: str,
    state: str,
    name: str,
    address: str,
    token_file: str,
    roots_file: str,
    labels_file: str,
    directory: str,
) -> int:
    """Run an agent: certificates, DNS, bootstrap and readiness.

    \b
    Examples:
      isthmus agent sidecar                   in a Pod: the agent and its one Envoy
      isthmus agent wait                      in a Pod: until that one is ready
      isthmus agent machine --kit /etc/isthmus   on a machine outside every cluster
      isthmus agent --settings agent.json     for many Envoys of a machine

    A machine's kit is what `isthmus workload entry configure` writes. Its agent needs the capability NET_ADMIN: it leads the machine's
    connections into its proxy.

    In a Pod it is told by environment variables, under Istio's names: POD_NAME, POD_NAMESPACE, INSTANCE_IP (required), SERVICE_ACCOUNT,
    PROXY_CONFIG (a ProxyConfig as JSON), TRUST_DOMAIN, SECRET_TTL, PILOT_SAN, ISTIO_META_…,
    ISTIO_KUBE_APP_PROBERS.
    """
    if bool(settings) == bool(role):
        raise click.UsageError("say what to be (sidecar, router, machine or wait), or name a file with --settings")
    if settings:
        from isthmus.agent.process import main

        return main(settings)
    if role == "wait":
        from isthmus.agent.pod_process import wait_until_ready

        return wait_until_ready(timeout)
    if role == "machine":
        from isthmus.agent.machine_process import main as run_on_machine

        return run_on_machine(Path(kit).absolute(), Path(state).absolute(), name=name, address=address)
    return _run_in_pod(str(role), token_file, roots_file, labels_file, directory)


@click.command("gateway")
@_pod_options
def gateway_command(token_file: str, roots_file: str, labels_file: str, directory: str) -> int:
    """Run a gateway: an Envoy that serves others, and its agent.

    \b
    Example:
      POD_NAME=gateway-1 POD_NAMESPACE=istio-system INSTANCE_IP=10.0.0.5 isthmus gateway

    The same as `isthmus agent router`, and told in the same way.
    """
    return _run_in_pod("router", token_file, roots_file, labels_file, directory)


def _run_in_pod(role: str, token_file: str, roots_file: str, labels_file: str, directory: str) -> int:
    from isthmus.agent.pod_process import DEFAULT_PATHS, main

    paths = replace(
        DEFAULT_PATHS,
        token=Path(token_file),
        roots=Path(roots_file),
        labels=Path(labels_file),
        directory=Path(directory).absolute(),
    )
    return main(role, paths)


@click.command("capture")
@click.option("--user", default=1337, show_default=True, help="The user that the proxy runs as.")
@click.option("--dns", is_flag=True, help="Lead questions to name servers into the agent, too.")
@click.option("--inbound-ports", default="*", show_default=True, help="Ports that are captured: a list, or *.")
@click.option("--exclude-inbound-ports", default="", help="Ports that are not.")
@click.option("--outbound-ranges", default="*", show_default=True, help="Destinations that are captured: CIDRs, or *.")
@click.option("--exclude-outbound-ranges", default="", help="Destinations that are not.")
@click.option("--outbound-ports", default="", help="Ports that are captured wherever they are.")
@click.option("--exclude-outbound-ports", default="", help="Ports that are not.")
@click.option(
    "--addresses",
    default="",
    envvar="INSTANCE_IPS",
    show_envvar=True,
    help="The Pod's, whose families are captured; those of its interfaces by default.",
)
@click.option("--dry-run", is_flag=True, help="Only print the rules.")
def capture_command(
    user: int,
    dns: bool,
    inbound_ports: str,
    exclude_inbound_ports: str,
    outbound_ranges: str,
    exclude_outbound_ranges: str,
    outbound_ports: str,
    exclude_outbound_ports: str,
    addresses: str,
    dry_run: bool,
) -> None:
    """Lead the connections of this network namespace into its proxy, all but the proxy's own.

    \b
    Example:
      isthmus capture --dns --exclude-outbound-ports=3306
    """
    from isthmus.agent.capture import ByUser, CaptureFailed, install, rules
    from isthmus.agent.families import families_here, families_of
    from isthmus.injection.settings import BadRequest, Capture, check_capture

    wanted = Capture(
        inbound_ports=inbound_ports,
        excluded_inbound_ports=exclude_inbound_ports,
        outbound_ranges=outbound_ranges,
        excluded_outbound_ranges=exclude_outbound_ranges,
        outbound_ports=outbound_ports,
        excluded_outbound_ports=exclude_outbound_ports,
    )
    try:
        check_capture(wanted)
        families = families_of(addresses.split(",")) if addresses else families_here()
        text = rules(ByUser(user), wanted, dns=dns, families=families)
        if dry_run:
            click.echo(text, nl=False)
        else:
            install(text, families)
    except BadRequest as error:
        raise Failed(f"capture: {error}", exit_code=BAD_INPUT) from None
    except CaptureFailed as error:
        raise Failed(f"capture: {error}") from None


@click.command("apiserver")
@click.option(
    "--settings", required=True, type=click.Path(exists=True, dir_okay=False), help="A JSON file of ApiServerSettings."
)
def apiserver_command(settings: str) -> int:
    """Run an embedded, Kubernetes-compatible API server.

    \b
    Example:
      echo '{"clusterId": "c1", "directory": "/tmp/c1", "bind": ["127.0.0.1:6443"]}' > c1.json
      isthmus apiserver --settings c1.json
    """
    from isthmus.apiserver.process import main

    return main(settings)
