"""The two ends of a tunnel out of a network that nobody can reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from isthmus.cli.errors import BAD_USAGE, Failed

if TYPE_CHECKING:
    from isthmus.agent.tunnel_process import TunnelSettings

_PORTS = range(1, 65536)
_PORT = click.IntRange(min=_PORTS[0], max=_PORTS[-1])
_OPTIONS = (
    click.option("--peer", default="istio-system/istio-tunnel", show_default=True, metavar="NAMESPACE/ACCOUNT",
                 help="The service account of the other end; nobody else is accepted."),
    click.option("--control-plane", "control_planes", multiple=True, required=True, metavar="HOST:PORT",
                 help="Where certificates are signed; repeatable, in order."),
    click.option("--cluster-id", required=True, help="The cluster that this end is in."),
    click.option("--token-file", default="/var/run/secrets/tokens/istio-token", show_default=True, envvar="ISTHMUS_TOKEN_FILE",
                 help="A service account's token for the audience istio-ca."),
    click.option("--roots-file", default="/var/run/secrets/istio/root-cert.pem", show_default=True, envvar="ISTHMUS_ROOTS_FILE",
                 help="What the control plane's certificate is checked against."),
    click.option("--control-plane-name", default="istiod.istio-system.svc", show_default=True,
                 help="The name in that certificate."),
    click.option("--trust-domain", default="cluster.local", show_default=True, envvar="TRUST_DOMAIN",
                 help="The mesh's; named in requests for certificates."),
)  # fmt: skip


def _common(command: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group("tunnel")
def tunnel_command() -> None:
    """A way into a network that nobody can reach: its inside dials out.

    \b
    Example:
      isthmus tunnel outside --cluster-id east --control-plane istiod.istio-system.svc:15012 --call 15443
    """


@tunnel_command.command("outside")
@click.option("--dial", "dialled", type=_PORT, default=15446, show_default=True, help="The port that the inside dials.")
@click.option("--call", "called", multiple=True, type=_PORT, required=True, help="A port for callers; repeatable.")
@_common
def outside_command(
    dialled: int, called: Sequence[int], peer: str, control_planes: Sequence[str], cluster_id: str,
    token_file: str, roots_file: str, control_plane_name: str, trust_domain: str,
) -> int:  # fmt: skip
    """Run the end where callers come in.

    \b
    Example:
      isthmus tunnel outside --cluster-id east --control-plane istiod.istio-system.svc:15012 --call 15443 --call 6443
    """
    from isthmus.agent.tunnel_process import run_outside

    settings = _settings(peer, control_planes, cluster_id, token_file, roots_file, control_plane_name, trust_domain)
    return run_outside(settings, dialled=dialled, called=called)


@tunnel_command.command("inside")
@click.option("--outside", required=True, metavar="HOST:PORT", help="Where the outside waits.")
@click.option("--target", "targets", multiple=True, required=True, metavar="PORT=HOST:PORT",
              help="Where callers of the outside's PORT are led; repeatable.")  # fmt: skip
@click.option(
    "--spare", type=click.IntRange(min=1), default=8, show_default=True, help="How many connections wait for callers."
)
@_common
def inside_command(
    outside: str, targets: Sequence[str], spare: int, peer: str, control_planes: Sequence[str], cluster_id: str,
    token_file: str, roots_file: str, control_plane_name: str, trust_domain: str,
) -> int:  # fmt: skip
    """Run the end that dials out.

    \b
    Example:
      isthmus tunnel inside --cluster-id vault --control-plane istiod.istio-system.svc:15012 \\
          --outside 203.0.113.9:15446 --target 15443=istio-eastwestgateway.istio-system:15443
    """
    from isthmus.agent.tunnel_process import run_inside

    led: dict[int, tuple[str, int]] = {}
    for target in targets:
        port, _, there = target.partition("=")
        if not _is_port(port):
            raise Failed(f"--target: {target!r} is not PORT=HOST:PORT", exit_code=BAD_USAGE)
        led[int(port)] = _address(there, "--target")
    settings = _settings(peer, control_planes, cluster_id, token_file, roots_file, control_plane_name, trust_domain)
    return run_inside(settings, outside=_address(outside, "--outside"), targets=led, spare=spare)


def _settings(
    peer: str,
    control_planes: Sequence[str],
    cluster: str,
    token_file: str,
    roots_file: str,
    name: str,
    trust_domain: str,
) -> TunnelSettings:
    from isthmus.agent.tunnel import Account
    from isthmus.agent.tunnel_process import TunnelSettings
    from isthmus.model.identity import TrustDomain
    from isthmus.model.names import Namespace

    namespace, slash, account = peer.partition("/")
    if not namespace or not slash or not account:
        raise Failed(f"--peer: {peer!r} is not NAMESPACE/ACCOUNT", exit_code=BAD_USAGE)
    for each in control_planes:
        _address(each, "--control-plane")
    try:
        domain = TrustDomain.parse(trust_domain)
    except ValueError as error:
        raise Failed(f"--trust-domain: {error}", exit_code=BAD_USAGE) from None
    return TunnelSettings(
        cluster=cluster,
        trust_domain=domain,
        control_planes=control_planes,
        control_plane_name=name,
        token_file=token_file,
        roots_file=roots_file,
        peer=Account(Namespace(namespace), account),
    )


def _address(text: str, option: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not _is_port(port):
        raise Failed(f"{option}: {text!r} is not HOST:PORT", exit_code=BAD_USAGE)
    return host, int(port)


def _is_port(text: str) -> bool:
    return text.isdecimal() and int(text) in _PORTS
