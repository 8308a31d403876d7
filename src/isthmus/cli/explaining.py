"""explain, why and why-not: what becomes of a request, and which object is to blame or to thank for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import click

from isthmus.cli import forwarded_pages
from isthmus.cli.errors import BAD_INPUT, BAD_USAGE, Failed
from isthmus.cli.files import print_topology_fields
from isthmus.cli.live_questions import asked_of_control_plane
from isthmus.cli.one_answer import keep_to_the_end
from isthmus.cli.output import print_json
from isthmus.cli.running_mesh import mesh_name
from isthmus.cli.state_options import optional_state_options, read_json

Object = dict[str, Any]
_NOTHING: Mapping[str, str] = MappingProxyType({})

_output = click.option(
    "-o", "--output", type=click.Choice(["text", "table", "json"]), default="text", help="How to print the answer."
)


def _request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header; repeatable."),
        click.option("--method", default="GET", show_default=True, help="The request's method."),
        click.option("--path", default="/", show_default=True, help="The request's path."),
    ):
        command = decorate(command)
    return command


def client_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How commands are told which client they are asked about, and where that is known."""
    for decorate in (
        _output,
        forwarded_pages.control_plane,
        mesh_name,
        click.option(
            "--in-cluster", default="", metavar="ID", help="The client's cluster, if several have such a Pod."
        ),
        optional_state_options,
    ):
        command = decorate(command)
    return command


@click.command("explain")
@click.argument("what", type=click.Choice(["topology"]), required=False)
@optional_state_options
@click.option("--node", default="", metavar="FILE", help="The xDS Node (JSON) of the proxy; - is stdin.")
@click.option("--proxy", default="", metavar="TYPE/POD.NAMESPACE", help="Instead of --node: the proxy beside a Pod.")
@click.option("--in-cluster", default="", metavar="ID", help="The cluster of --proxy.")
@click.option("--port", type=int, default=0, help="The port that the connection is sent to.")
@click.option("--address", default="", metavar="IP", help="The address that it is sent to.")
@click.option("--host", default="", help="The host that the request names.")
@click.option(
    "--tls",
    type=click.Choice(["none", "tls", "mtls"]),
    default="none",
    show_default=True,
    help="What the bytes are wrapped in when they reach the proxy.",
)
@click.option("--sni", default="", help="The server name that TLS asks for.")
@click.option("--alpn", multiple=True, help="A protocol that TLS offers; repeatable. Default for mtls: the mesh's.")
@click.option("--caller", default="", metavar="SPIFFE-ID", help="The identity that mtls proves.")
@click.option("--source", default="", metavar="IP", help="The address that the connection comes from.")
@click.option(
    "--direction",
    type=click.Choice(["outbound", "inbound"]),
    default="outbound",
    show_default=True,
    help="Whether the proxy's workload sends the request or is sent it.",
)
@_request_options
@_output
def explain_command(what: str | None, state: Object | None, output: str, **said: Any) -> None:
    """Tell what becomes of a request at a proxy: listener, filter chain, policies, host, route, upstream, endpoints.

    Each with the object that caused it. `isthmus explain topology` explains the fields of a topology file instead.

    \b
    Examples:
      isthmus explain --scenario mesh.yaml --proxy sidecar/client-0.sample --in-cluster east --port 5000 --host helloworld
      isthmus explain --scenario mesh.yaml --node node.json --port 8080 --tls mtls --direction inbound --path /admin
      isthmus explain topology
    """
    if what == "topology":
        print_topology_fields(output)
        return
    if state is None or not said["port"]:
        raise Failed("say which mesh (--scenario or --cluster), which proxy and which --port", exit_code=BAD_USAGE)
    from isthmus.assurance.explaining.asked import Asked, BadQuestion
    from isthmus.assurance.explaining.questions import explain
    from isthmus.assurance.explaining.stories import told_explain
    from isthmus.assurance.rendering import node_of, proxy_in
    from isthmus.assurance.scenario import BadScenario, scenario_of

    if bool(said["node"]) == bool(said["proxy"] and said["in_cluster"]):
        raise Failed(
            "say which proxy: either --node FILE, or --proxy TYPE/POD.NAMESPACE --in-cluster ID", exit_code=BAD_USAGE
        )
    try:
        scenario = scenario_of(state)
        keep_to_the_end(scenario)
        node = read_json(said["node"]) if said["node"] else node_of(scenario, said["proxy"], said["in_cluster"])
        asked = Asked.about(proxy_in(scenario, node), scenario.snapshot())
    except (BadScenario, BadQuestion) as error:
        raise Failed(f"explain: {error}", exit_code=BAD_INPUT) from None
    answer = explain(asked, _request(said), inbound=said["direction"] == "inbound")
    print_answer(answer, told_explain(answer), output)


@click.command("why")
@click.argument("client")
@click.argument("service", metavar="SERVICE[:PORT]")
@client_options
@_request_options
def why_command(
    client: str,
    service: str,
    state: Object | None,
    output: str,
    path: str,
    method: str,
    headers: Sequence[str],
    **where: Any,
) -> None:
    """Tell why a client's requests to a service go where they go: names, endpoints, weights, policies.

    CLIENT is POD or POD.NAMESPACE, or the beginning of a Pod's name. Asked of the mesh that runs here, or, with --scenario or --cluster, of files.

    \b
    Examples:
      isthmus why client.sample helloworld --in-cluster east
      isthmus why --scenario mesh.yaml client-0.sample helloworld:5000 --path /admin
    """
    from isthmus.assurance.explaining.stories import told_why

    name, _, port = service.partition(":")
    if port and not port.isdecimal():
        raise Failed(f"{service}: write it as SERVICE:PORT", exit_code=BAD_USAGE)
    parameters = {"service": name, "port": port or "0", "path": path, "method": method}
    if state is None:
        answer = asked_of_control_plane("why", client, parameters | {"header": list(headers)}, where)
    else:
        answer = answered_offline(
            state, client, where, lambda asked: _why(asked, name, int(port or 0), path, method, headers)
        )
    print_answer(answer, told_why(answer), output)


@click.command("why-not")
@click.argument("endpoint", metavar="ADDRESS|POD")
@click.option("--from", "client", required=True, metavar="CLIENT", help="Whose requests it should get.")
@client_options
def why_not_command(endpoint: str, client: str, state: Object | None, output: str, **where: Any) -> None:
    """Tell by which rule an endpoint gets no requests from a client, and which edit would bring it back.

    \b
    Examples:
      isthmus why-not helloworld-v2.sample --from client.sample --in-cluster east
      isthmus why-not --scenario mesh.yaml 10.10.0.6 --from client-0.sample
    """
    from isthmus.assurance.explaining.stories import told_why_not

    if state is None:
        answer = asked_of_control_plane("why-not", client, {"endpoint": endpoint}, where)
    else:
        answer = answered_offline(state, client, where, lambda asked: _why_not(asked, endpoint))
    print_answer(answer, told_why_not(answer), output)


def _why(asked: Any, name: str, port: int, path: str, method: str, headers: Sequence[str]) -> Object:
    from isthmus.assurance.explaining.questions import why
    from isthmus.assurance.traffic.request import Request

    return why(asked, name, port, Request(port=port, path=path, method=method, headers=_pairs(headers)))


def _why_not(asked: Any, endpoint: str) -> Object:
    from isthmus.assurance.explaining.absence import why_not

    return why_not(asked, endpoint)


def answered_offline(
    state: Object, client: str, where: Object, question: Callable[[Any], Object], claims: Mapping[str, str] = _NOTHING
) -> Object:
    """The answer to a question about a client of a mesh in files. `claims` are what its proxy says of itself, besides. Raises Failed."""
    from isthmus.assurance.explaining.asked import Asked, BadQuestion
    from isthmus.assurance.rendering import client_in, proxy_in
    from isthmus.assurance.scenario import BadScenario, scenario_of

    try:
        scenario = scenario_of(state)
        keep_to_the_end(scenario)
        node = client_in(scenario, client, where["in_cluster"])
        node["metadata"] |= claims
        return question(Asked.about(proxy_in(scenario, node), scenario.snapshot()))
    except (BadScenario, BadQuestion) as error:
        raise Failed(str(error), exit_code=BAD_INPUT) from None


def _request(said: Object) -> Any:
    from isthmus.assurance.traffic.request import Request, Tls
    from isthmus.envoy.tls import MESH_ANY

    tls = Tls(said["tls"])
    return Request(
        port=said["port"],
        address=said["address"],
        host=said["host"],
        path=said["path"],
        method=said["method"],
        headers=_pairs(said["headers"]),
        tls=tls,
        sni=said["sni"],
        alpn=tuple(said["alpn"]) or (tuple(reversed(MESH_ANY)) if tls is Tls.MUTUAL else ()),
        caller=said["caller"],
        source=said["source"],
    )


def _pairs(headers: Iterable[str]) -> tuple[tuple[str, str], ...]:
    found = []
    for header in headers:
        name, separator, value = header.partition("=")
        if not separator or not name:
            raise Failed(f"--header {header}: write it as NAME=VALUE", exit_code=BAD_USAGE)
        found.append((name, value))
    return tuple(found)


def print_answer(answer: Object, lines: Iterable[str], output: str) -> None:
    """As JSON, or line by line."""
    if output == "json":
        print_json(answer)
        return
    for line in lines:
        click.echo(line)
