"""Remote secrets from files: what they would be, and what a control plane makes of them, without any server."""

from __future__ import annotations

from typing import Any

import click

from isthmus.cli.errors import BAD_INPUT, Failed
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.cli.state_options import documents, read_json

Object = dict[str, Any]


def created(objects: list[Object], account: str, namespace: str, server: str, flags: Object) -> Object:
    """The Secret from a cluster's objects. `flags` are create-remote-secret's, without their dashes. Raises ValueError."""
    from isthmus.kubernetes.remote_secret import cluster_uid, remote_secret, token_secret_of

    ca, token = token_secret_of(objects, account, namespace, str(flags.get("secret-name", "")))
    return remote_secret(
        cluster=str(flags.get("name") or cluster_uid(objects)),
        namespace=namespace,
        server=str(flags.get("server", server)),
        ca_pem=ca,
        token=token,
        tls_server_name=str(flags.get("tls-server-name", "")),
        kind=str(flags.get("type", "remote")),
    )


@click.group("remote-secrets")
def remote_secrets_command() -> None:
    """Ask what a control plane makes of remote secrets, without any server.

    \b
    Example:
      isthmus remote-secrets check -f secret.yaml --config-cluster east
    """


def _where(command: Any) -> Any:
    command = click.option(
        "--system-namespace", default="istio-system", show_default=True, help="Where the control plane lives."
    )(command)
    return click.option("--config-cluster", required=True, metavar="ID", help="The cluster that asks.")(command)


@remote_secrets_command.command("check")
@click.option("-f", "--filename", required=True, metavar="FILE", help="A Secret, as YAML or JSON; - is stdin.")
@_where
@json_output
def _check(filename: str, config_cluster: str, system_namespace: str, output: str) -> None:
    """Which clusters of a Secret would be discovered, and why others would not.

    \b
    Example:
      isthmus remote-secrets check -f secret.yaml --config-cluster east
    """
    from isthmus.controlplane.secret_questions import check

    found = _asked(filename, lambda: check(read_json(filename), config_cluster, system_namespace, {}))
    if output == "json":
        print_json(found)
        return
    rows = [(cluster, "accepted", "") for cluster in found["accepted"]]
    rows += [(each["cluster"], word, each["reason"]) for word in ("rejected", "ignored") for each in found[word]]
    print_table(("CLUSTER", "ANSWER", "REASON"), rows)


@remote_secrets_command.command("simulate")
@click.option(
    "--steps", required=True, metavar="FILE", help="A list of {name, apply: SECRET} and {name, delete: NS/NAME}."
)
@_where
@json_output
def _simulate(steps: str, config_cluster: str, system_namespace: str, output: str) -> None:
    """Which clusters are discovered after each change, and which are connected anew.

    \b
    Example:
      isthmus remote-secrets simulate --steps steps.yaml --config-cluster east
    """
    from isthmus.controlplane.secret_questions import simulate

    found = _asked(steps, lambda: simulate(_steps(steps), config_cluster, system_namespace, {}))
    if output == "json":
        print_json(found)
        return
    rows = [
        (step["name"], ", ".join(step["remoteClusters"]), ", ".join(step["reconnected"]), "; ".join(step["problems"]))
        for step in found["steps"]
    ]
    print_table(("STEP", "DISCOVERED", "CONNECTED ANEW", "PROBLEMS"), rows)


def _steps(source: str) -> list[Object]:
    [document] = documents(source) or [None]
    found = document.get("steps") if isinstance(document, dict) else document
    if not isinstance(found, list) or not all(isinstance(step, dict) for step in found):
        raise ValueError("is not a list of steps")
    return found


def _asked(source: str, ask: Any) -> Object:
    try:
        answer: Object = ask()
    except (OSError, ValueError, AttributeError) as error:
        raise Failed(f"{source}: {error}", exit_code=BAD_INPUT) from None
    return answer
