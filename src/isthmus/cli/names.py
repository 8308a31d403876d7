"""Names: what a workload is answered, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from isthmus.cli.errors import BAD_INPUT, Failed
from isthmus.cli.explaining import answered_offline, client_options, print_answer
from isthmus.cli.live_questions import asked_of_control_plane
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.cli.state_options import read_json

Object = dict[str, Any]


@click.group("dns")
def dns_command() -> None:
    """Tell what names resolve to for a workload, and why; or ask a name table alone.

    \b
    Examples:
      isthmus dns explain helloworld --from client.sample --in-cluster east
      isthmus dns query --table table.yaml --name helloworld.sample --type A
    """


@dns_command.command("query")
@click.option(
    "--table", required=True, metavar="FILE", help="proxyNamespace, proxyDomain, searchDomains, nameTable, upstream."
)
@click.option("--name", required=True, help="The host name.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["A", "AAAA", "CNAME"]),
    default="A",
    show_default=True,
    help="Which records are asked for.",
)
@json_output
def _query(table: str, name: str, kind: str, output: str) -> None:
    """One question.

    \b
    Example:
      isthmus dns query --table table.yaml --name helloworld.sample -o json
    """
    from isthmus.dns.query import query

    try:
        found = query(read_json(table), name, kind)
    except (OSError, ValueError) as error:
        raise Failed(f"{table}: {error}", exit_code=BAD_INPUT) from None
    if output == "json":
        print_json(found)
        return
    click.echo(found["rcode"], err=True)
    print_table(("NAME", "TYPE", "TTL", "DATA"), [tuple(each.values()) for each in found["answers"]])


@dns_command.command("explain")
@click.argument("host", metavar="NAME")
@click.option("--from", "client", required=True, metavar="CLIENT", help="POD or POD.NAMESPACE: who looks the name up.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["A", "AAAA"]),
    default="A",
    show_default=True,
    help="Which records are asked for.",
)
@click.option("--ndots", type=click.IntRange(0, 15), help="Of the client's resolv.conf, where it is not Kubernetes' 5.")
@click.option(
    "--search", multiple=True, metavar="DOMAIN", help="A search domain instead of Kubernetes' own; repeatable."
)
@click.option(
    "--dns-capture/--no-dns-capture",
    "captured",
    default=True,
    show_default=True,
    help="Of files: whether the client's proxy answers it. A running mesh knows.",
)
@client_options
def _explain(
    host: str,
    client: str,
    kind: str,
    ndots: int | None,
    search: Sequence[str],
    captured: bool,
    state: Object | None,
    output: str,
    **where: Any,
) -> None:
    """Tell which full names a client's resolver tries, who answers each, with what, and why.

    Asked of the mesh that runs here, or, with --scenario or --cluster, of files.

    \b
    Examples:
      isthmus dns explain helloworld --from client.sample --in-cluster east
      isthmus dns explain --scenario mesh.yaml db-0.db --from client-0.sample --type AAAA -o json
    """
    from isthmus.assurance.explaining.stories import told_name

    if state is None:
        said: Object = {"name": host, "type": kind, "search": list(search)} | (
            {} if ndots is None else {"ndots": ndots}
        )
        answer = asked_of_control_plane("dns", client, said, where)
    else:
        claims = {"DNS_CAPTURE": "true" if captured else "false"}
        answer = answered_offline(
            state, client, where, lambda asked: _explained(asked, host, kind, search, ndots), claims
        )
    print_answer(answer, told_name(answer), output)


def _explained(asked: Any, name: str, kind: str, search: Sequence[str], ndots: int | None) -> Object:
    from isthmus.assurance.explaining.lookups import explain_name, resolver_for

    return explain_name(asked, name, kind, resolver_for(asked, tuple(search), ndots))
