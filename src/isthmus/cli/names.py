"""Names: what a workload would be answered, from a file alone."""

from __future__ import annotations

import click

from isthmus.cli.errors import BAD_INPUT, Failed
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.cli.state_options import read_json


@click.group("dns")
def dns_command() -> None:
    """Ask a name table, without any server.

    \b
    Example:
      isthmus dns query --table table.yaml --name helloworld.sample --type A
    """


@dns_command.command("query")
@click.option(
    "--table", required=True, metavar="FILE", help="proxyNamespace, proxyDomain, searchDomains, nameTable, upstream."
)
@click.option("--name", required=True, help="The host name.")
@click.option("--type", "kind", type=click.Choice(["A", "AAAA", "CNAME"]), default="A", show_default=True)
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
