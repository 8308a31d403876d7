"""The processes, as they run in production."""

from __future__ import annotations

import click


@click.command("control-plane")
def control_plane_command() -> int:
    """Run a control plane for one mesh.

    \b
    Example:
      KUBECONFIG=~/.kube/config CLUSTER_ID=east isthmus control-plane

    It is told by environment variables, under Istio's names where Istio has one: KUBECONFIG (required), CLUSTER_ID, MESH_ID, TRUST_DOMAIN,
    POD_NAMESPACE, POD_NAME, REVISION, BIND_ADDRESS, PILOT_REMOTE_CLUSTER_TIMEOUT, ISTIOD_CUSTOM_HOST, ISTHMUS_UNREACHABLE_NETWORKS_DIRECT,
    ISTHMUS_POLICIES_MEAN_ANY_TRUST_DOMAIN.
    """
    from isthmus.controlplane.process import main

    return main()


@click.command("agent")
@click.option(
    "--settings", required=True, type=click.Path(exists=True, dir_okay=False), help="A JSON file of AgentSettings."
)
def agent_command(settings: str) -> int:
    """Run an agent: certificates, DNS and readiness for the Envoys of a machine.

    \b
    Example:
      isthmus agent --settings agent.json
    """
    from isthmus.agent.process import main

    return main(settings)


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
