"""The `isthmus` command. Each command's module is imported when it is called, so that help and light commands start fast."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence

import click

from isthmus import __version__
from isthmus.cli.errors import run_guarded

_COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "up": ("running", "Boot a mesh on this machine."),
        "down": ("running", "Stop the running mesh, and leave nothing behind."),
        "status": ("running", "Show what runs."),
        "logs": ("running", "Print what a part of the mesh has said."),
        "kubeconfig": ("running", "Print the path of a kubeconfig for all clusters."),
        "exec": ("running", "Run a command inside a workload."),
        "machine": ("running", "Switch a machine of the running mesh on or off."),
        "traffic": ("sending", "Send requests, and show who answered and which way they went."),
        "install": ("installing", "Install the mesh on a Kubernetes cluster: print the objects, or apply them."),
        "uninstall": ("installing", "Take away what install made."),
        "control-plane": ("processes", "Run a control plane."),
        "agent": ("processes", "Run an agent: of one Pod or machine with its Envoy, or for many Envoys."),
        "gateway": ("processes", "Run a gateway: an Envoy and its agent."),
        "tunnel": ("tunnels", "Run an end of a tunnel out of a network that nobody can reach."),
        "capture": ("processes", "Lead a Pod's connections into its proxy."),
        "apiserver": ("processes", "Run an embedded API server."),
    },
    "Link": {
        "link": ("linking", "Let the control planes of clusters discover each other."),
        "unlink": ("linking", "Take away what link made."),
        "create-remote-secret": ("remote_secret_creation", "Print the Secret by which another cluster discovers one."),
        "tag": ("tags", "Name revisions of a control plane, and move namespaces between them."),
        "peers": ("peers", "Show other meshes: what is heard of them, exported to them and imported."),
        "workload": ("workload", "Write the files with which a machine outside every cluster joins."),
        "remote-clusters": ("remote_clusters", "Show which clusters each control plane discovers."),
        "remote-secrets": (
            "linking_questions",
            "Ask what a control plane makes of remote secrets, without any server.",
        ),
    },
    "Look": {
        "proxy-status": ("proxies", "Show which proxies are connected, and what they have acknowledged."),
        "proxy-config": ("proxies", "Show what an Envoy has been given."),
        "render": ("offline", "Compute what a proxy would be given, without any server."),
        "dns": ("names", "Tell what names resolve to for a workload, and why."),
        "gateway-status": ("gateway_status", "Compute what Gateway API objects are told, without any server."),
        "validate": ("validating", "Check objects, each by itself: their fields and what they mean."),
        "analyze": ("analyzing", "Check whether objects fit together, in one cluster and over several."),
        "ca": ("certificates", "Ask the certificate service, without any server."),
        "trust": (
            "trusting",
            "Show until when certificates and credentials are good; exchange bundles of authorities.",
        ),
        "batch": ("offline", "Answer questions read as JSON lines."),
        "audit": ("auditing", "Show who changed what, and who was refused."),
        "quotas": ("quotas", "Show what namespaces use of what they may add to everybody's configuration."),
        "drift": ("drifting", "Show in what the rules of several primaries differ."),
        "examples": ("files", "List the example topologies."),
        "explain": ("explaining", "Tell what becomes of a request; or explain a topology file."),
        "why": ("explaining", "Tell why requests go where they go."),
        "why-not": ("explaining", "Tell why an endpoint gets no requests, and what would change that."),
        "version": ("files", "Print the version."),
    },
    "Change": {
        "sync": ("drifting", "Replicate the rules of one primary to others."),
        "drain": ("draining", "Send traffic away from a cluster, for a while."),
        "undrain": ("draining", "Let it come back."),
        "drains": ("draining", "Show which clusters are drained, and until when."),
    },
}


class LazyGroup(click.Group):
    """Finds commands by name in the table above; lists them without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for commands in _COMMANDS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for commands in _COMMANDS.values():
            if cmd_name in commands:
                module = importlib.import_module(f"isthmus.cli.{commands[cmd_name][0]}")
                command: click.Command = getattr(module, cmd_name.replace("-", "_") + "_command")
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group, commands in _COMMANDS.items():
            with formatter.section(group):
                formatter.write_dl([(name, help_text) for name, (_, help_text) in commands.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="isthmus")
@click.pass_context
def isthmus(context: click.Context, verbose: bool) -> None:
    """One service mesh over many clusters and networks.

    \b
    Example:
      isthmus up examples/two-shores.yaml     boot two clusters on two networks
      isthmus traffic                         send requests across them
      isthmus down                            leave nothing behind
    """
    context.obj = {"verbose": verbose}


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point. Exit codes: 0 pass, 1 error, 2 differences, 64 bad usage, 65 bad input, 79 findings, 124 timed out."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # What modules define stays: looked at again with every 700 new values, it costs a command a tenth of its time.
    gc.set_threshold(50_000)
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    code = run_guarded(lambda: isthmus.main(given, standalone_mode=False), "-v" in given or "--verbose" in given)
    # What the interpreter would look through once more, to end, it need not: that took a tenth of a large answer's time.
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
