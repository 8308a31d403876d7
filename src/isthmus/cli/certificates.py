"""Certificates from files: what the certificate service would answer, without any server."""

from __future__ import annotations

import click

from isthmus.cli.errors import BAD_INPUT, Failed
from isthmus.cli.output import json_output, print_json
from isthmus.cli.state_options import read_json


@click.group("ca")
def ca_command() -> None:
    """Ask the certificate service, without any server.

    \b
    Example:
      isthmus ca explain --config ca.yaml --request request.yaml
    """


@ca_command.command("explain")
@click.option(
    "--config", required=True, metavar="FILE", help="trustDomain, localCluster, clusters {id: {tokens, pods}}, …."
)
@click.option(
    "--request", required=True, metavar="FILE", help="csr, metadata {clusterid, authorization []}, validitySeconds, …."
)
@json_output
def _explain(config: str, request: str, output: str) -> None:
    """Decide one CreateCertificate call: what the caller is told, and why.

    \b
    Example:
      isthmus ca explain --config ca.yaml --request request.yaml -o json
    """
    from datetime import UTC, datetime

    from isthmus.trust.explaining import explain

    try:
        answer = explain(read_json(config), read_json(request), datetime.now(UTC))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Failed(f"{config}, {request}: {error}", exit_code=BAD_INPUT) from None
    if output == "json":
        print_json(answer)
        return
    click.echo(f"{answer['code']}   {answer.get('identity') or answer['message']}")
    if answer.get("why"):
        click.echo(f"because: {answer['why']}")
    for pem in answer["certChain"]:
        click.echo(pem, nl=False)
