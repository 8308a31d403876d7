"""Offline inspection: the compiler as a pure function, asked without a server, a clock or a network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from isthmus.cli.errors import BAD_INPUT, BAD_USAGE, Failed
from isthmus.cli.one_answer import keep_to_the_end
from isthmus.cli.output import print_table
from isthmus.cli.state_options import documents, read_json, state_options

Object = dict[str, Any]


@click.command("render")
@state_options
@click.option("--node", default="", metavar="FILE", help="The xDS Node (JSON) that the proxy would send; - is stdin.")
@click.option(
    "--proxy", default="", metavar="TYPE/POD.NAMESPACE", help="Instead of --node: the proxy beside a Pod of the state."
)
@click.option("--in-cluster", default="", metavar="ID", help="The cluster of --proxy.")
@click.option("--only", default="", help="Parts of the answer: listeners,routes,clusters,endpoints,nametable.")
@click.option(
    "--explain",
    is_flag=True,
    help="Add which objects each resource came from, where each endpoint did, and what was left out, with the reason.",
)
@click.option("--validate", is_flag=True, help="Have the real Envoy judge the answer.")
@click.option(
    "-o", "--output", type=click.Choice(["json", "table"]), default="json", show_default=True, help="How to print it."
)
def render_command(
    state: Object, node: str, proxy: str, in_cluster: str, only: str, explain: bool, validate: bool, output: str
) -> None:
    """Compute what a proxy would be given: listeners, routes, clusters, endpoints and names.

    \b
    Examples:
      isthmus render --scenario mesh.yaml --proxy sidecar/client-0.sample --in-cluster east
      isthmus render --cluster east=east/ --cluster west=west/ --node node.json --only endpoints --explain
    """
    import msgspec

    from isthmus.assurance.rendering import PARTS, node_of, render
    from isthmus.assurance.scenario import BadScenario, scenario_of

    if bool(node) == bool(proxy and in_cluster):
        raise Failed(
            "say which proxy: either --node FILE, or --proxy TYPE/POD.NAMESPACE --in-cluster ID", exit_code=BAD_USAGE
        )
    parts = _parts(only, PARTS)
    try:
        scenario = scenario_of(state)
        claims = read_json(node) if node else node_of(scenario, proxy, in_cluster)
        whole = render(scenario, claims, explain=explain or output == "table")
        keep_to_the_end(scenario, whole)
    except BadScenario as error:
        raise Failed(f"render: {error}", exit_code=BAD_INPUT) from None
    if validate:
        _judge(whole)
    if output == "table":
        _print_explanation(whole)
    else:
        hidden = set(PARTS) - set(parts)
        shown = {key: value for key, value in whole.items() if key not in hidden}
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2))


@click.command("batch")
def batch_command() -> None:
    """Answer questions that other programs write as JSON lines, one answer line for each, in order.

    \b
    Example:
      echo '{"id": 1, "verb": "spiffe-parse", "params": {"id": "spiffe://example.org/a"}}' | isthmus batch
    """
    from isthmus.cli.verbs import VERBS

    for line in sys.stdin:
        if line.strip():
            click.echo(json.dumps(_answered(line, VERBS)))
            sys.stdout.flush()


def _answered(line: str, verbs: dict[str, Callable[[Object], Object]]) -> Object:
    """A bad request is an error line, never the end of the process."""
    number: Any = None
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ValueError("a request is an object with id, verb and params")
        number = request.get("id")
        verb = verbs.get(str(request.get("verb")))
        if verb is None:
            raise ValueError(f"unknown verb {request.get('verb')!r}; there is: {', '.join(sorted(verbs))}")
        params = request.get("params") or {}
        if not isinstance(params, dict):
            raise ValueError("params is not an object")
        return {"id": number, "result": verb(params)}
    except Exception as error:
        return {"id": number, "error": {"message": f"{error}" or type(error).__name__}}


def _parts(only: str, known: tuple[str, ...]) -> list[str]:
    by_name = {part.lower(): part for part in known}
    wanted = [part.strip().lower() for part in only.split(",") if part.strip()] or list(by_name)
    unknown = [part for part in wanted if part not in by_name]
    if unknown:
        raise Failed(f"--only: no part {', '.join(unknown)}; there is: {', '.join(by_name)}", exit_code=BAD_USAGE)
    return [by_name[part] for part in wanted]


def _judge(whole: Object) -> None:
    """Raises Failed with Envoy's own words."""
    from isthmus.cli.envoy_judgement import verdict

    complaint = verdict(whole)
    if complaint:
        raise Failed(f"Envoy refuses this configuration: {complaint}", exit_code=BAD_INPUT)
    click.echo("Envoy accepts this configuration", err=True)


def _print_explanation(whole: Object) -> None:
    rows = []
    for upstream in whole["explanation"]:
        for given in upstream["given"]:
            stands = ", ".join(given["standsFor"])
            rows.append(
                (upstream["cluster"], given["address"], given["weight"], given["priority"], given["way"], stands)
            )
        for left in upstream["leftOut"]:
            where = left["workload"] and f"{left['cluster']}/{left['workload']}"
            rows.append((upstream["cluster"], left["address"], "-", "-", f"left out: {left['detail']}", where))
    print_table(("CLUSTER", "ADDRESS", "WEIGHT", "PRIORITY", "WAY", "STANDS FOR"), rows)
    for warning in whole["warnings"]:
        click.echo(f"warning: {warning}", err=True)


__all__ = ["batch_command", "documents", "render_command"]
