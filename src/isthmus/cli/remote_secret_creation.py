"""create-remote-secret: the Secret by which another control plane discovers a cluster, from the cluster itself or from its objects in files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from isthmus.cli.contexts import (
    Context,
    chosen,
    kubeconfig_option,
    over_the_network,
    require_namespace,
    system_namespace_option,
)
from isthmus.cli.durations import Duration
from isthmus.cli.errors import BAD_INPUT, BAD_USAGE, Failed
from isthmus.cli.output import SCHEMA_VERSION
from isthmus.cli.state_options import documents
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import NotFound
from isthmus.kubernetes.kubeconfig import AuthPlugin
from isthmus.kubernetes.link_client import authority_of, ensure_reader, long_lived_token, proven_token
from isthmus.kubernetes.reader_access import Reader, reader_objects, written_by_hand
from isthmus.kubernetes.remote_secret import (
    READER,
    CannotCreate,
    as_yaml,
    cluster_uid,
    is_server,
    remote_secret,
    server_warnings,
    token_secret_of,
)
from isthmus.kubernetes.resources import NAMESPACES, ResourcePath
from isthmus.kubernetes.token_claims import expiry_of

Object = dict[str, Any]

_SECONDS_MIN = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What is to be made. `plugin` instead of a token."""

    name: str
    server: str
    tls_server_name: str
    kind: str
    namespace: str
    account: str
    secret_name: str
    plugin: AuthPlugin | None

    def secret(self, cluster: str, server: str, ca_pem: str, token: str) -> Object:
        return remote_secret(cluster=cluster, namespace=self.namespace, server=server, ca_pem=ca_pem, token=token,
                             tls_server_name=self.tls_server_name, kind=self.kind, plugin=self.plugin)  # fmt: skip


@click.command("create-remote-secret")
@click.option("--context", default="", help="The cluster that is to be discovered; the current context by default.")
@kubeconfig_option
@click.option(
    "--offline-objects", multiple=True, metavar="FILE", help="Its objects instead: kube-system, token Secret."
)
@click.option("--name", default="", help="What the cluster is called; by default the uid of its kube-system namespace.")
@click.option("--server", default="", metavar="URL", help="Where other clusters find its API server.")
@click.option("--tls-server-name", default="", help="The name in the API server's certificate, if it is another one.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["remote", "config"]),
    default="remote",
    show_default=True,
    help="Whether it says how a cluster is discovered, or where a control plane outside it takes configuration from.",
)
@click.option("--service-account", default="", help=f"Whose token; {READER}, or istiod with --type config.")
@click.option(
    "--create-service-account/--no-create-service-account",
    default=True,
    show_default=True,
    help="First make the account and its rights in the cluster, where they are missing.",
)
@click.option(
    "--manifests",
    multiple=True,
    metavar="FILE|DIR",
    help="The account and its rights in your own words, made instead of Isthmus' own.",
)
@click.option("--token-duration", type=Duration(), default="90d", show_default=True, help="How long the token lives.")
@click.option("--long-lived", is_flag=True, help="A token Secret's token, which never expires.")
@click.option("--secret-name", default="", help="Which token Secret, if the account has several.")
@click.option(
    "--auth-type",
    type=click.Choice(["bearer-token", "plugin"]),
    default="bearer-token",
    show_default=True,
    help="How the control plane proves who it is: a token, or a plugin of the kubeconfig.",
)
@click.option("--auth-plugin-name", default="", help="The auth-provider of --auth-type plugin.")
@click.option("--auth-plugin-config", multiple=True, metavar="KEY=VALUE", help="Its settings; repeatable.")
@system_namespace_option
@click.option(
    "-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True, help="How to print it."
)
def create_remote_secret_command(
    context: str,
    kubeconfig: str,
    offline_objects: Sequence[str],
    name: str,
    server: str,
    tls_server_name: str,
    kind: str,
    service_account: str,
    create_service_account: bool,
    manifests: Sequence[str],
    token_duration: int,
    long_lived: bool,
    secret_name: str,
    auth_type: str,
    auth_plugin_name: str,
    auth_plugin_config: Sequence[str],
    namespace: str,
    output: str,
) -> None:
    """Print the Secret by which another control plane discovers this cluster.

    Makes a service account that may read what has addresses, and no Secret; its token expires. `isthmus link` does this for many
    clusters, and renews.

    \b
    Examples:
      isthmus create-remote-secret --context east --name east | kubectl --context west apply -f -
      isthmus create-remote-secret --offline-objects east.yaml --name east --server https://east.example:6443
    """
    if server and not is_server(server):
        raise Failed(f"--server {server}: write it as https://HOST:PORT", exit_code=BAD_USAGE)
    if (long_lived or secret_name) and _is_said("token_duration"):
        raise Failed(
            "--token-duration: the token of a token Secret never expires; leave out --long-lived and --secret-name",
            exit_code=BAD_USAGE,
        )
    if token_duration < _SECONDS_MIN:
        raise Failed("--token-duration: API servers give no tokens for less than 10m", exit_code=BAD_USAGE)
    order = _Order(
        name=name,
        server=server,
        tls_server_name=tls_server_name,
        kind=kind,
        namespace=namespace,
        account=service_account or ("istiod" if kind == "config" else READER),
        secret_name=secret_name,
        plugin=_plugin(auth_type, auth_plugin_name, auth_plugin_config),
    )
    try:
        if offline_objects:
            secret = _offline(order, [found for source in offline_objects for found in documents(source)])
        else:
            found = chosen(kubeconfig, context)
            seconds = 0 if long_lived or secret_name else token_duration
            # A control plane's own account has more rights than a reader, and is made by whoever installs it.
            makes_account = create_service_account and (kind == "remote" or bool(manifests))
            made = _account_objects(order, manifests) if makes_account else []
            secret = over_the_network(lambda: _online(order, found, made, seconds))
    except CannotCreate as error:
        raise Failed(f"create-remote-secret: {error}", exit_code=BAD_INPUT) from None
    if output == "json":
        click.echo(json.dumps({"schemaVersion": SCHEMA_VERSION, "secret": secret}, indent=2))
    else:
        click.echo(as_yaml(secret), nl=False)


def _is_said(option: str) -> bool:
    return click.get_current_context().get_parameter_source(option) == ParameterSource.COMMANDLINE


def _offline(order: _Order, found: Sequence[Any]) -> Object:
    objects = [obj for document in found for obj in _flat(document)]
    ca_pem, token = token_secret_of(objects, order.account, order.namespace, order.secret_name)
    cluster = order.name or cluster_uid(objects)
    secret = order.secret(cluster, order.server, ca_pem, token)
    _say(server_warnings(cluster, order.server))
    return secret


def _account_objects(order: _Order, manifests: Sequence[str]) -> list[tuple[ResourcePath, Object]]:
    """Raises CannotCreate for manifests that are something else."""
    if not manifests:
        return list(reader_objects(Reader(namespace=order.namespace, account=order.account, manager="isthmus")))
    objects = [obj for source in manifests for document in documents(source) for obj in _flat(document)]
    try:
        return list(written_by_hand(objects, order.account, order.namespace))
    except ValueError as error:
        raise CannotCreate(f"--manifests: {error}") from None


async def _online(
    order: _Order, context: Context, account: Sequence[tuple[ResourcePath, Object]], token_seconds: int
) -> Object:
    """`account` is what is made first; `token_seconds` 0 is a token that never expires."""
    async with ApiClient(context.address) as client:
        cluster = order.name or str((await client.get(NAMESPACES, "kube-system"))["metadata"]["uid"])
        server = order.server or context.server
        # A name that cannot be used is told before anything is made.
        order.secret(cluster, server, "", "")
        if account:
            await require_namespace(context, client, order.namespace)
        for made_kind, name in await ensure_reader(client, account):
            click.echo(f"created {made_kind} {name}", err=True)
        ca_pem, token = await authority_of(client, order.namespace), ""
        if order.plugin is None and token_seconds:
            token = await _bound_token(client, order, token_seconds)
        elif order.plugin is None:
            ca_pem, token = await long_lived_token(client, order.namespace, order.account, order.secret_name)
    _say(server_warnings(cluster, server))
    return order.secret(cluster, server, ca_pem, token)


async def _bound_token(client: ApiClient, order: _Order, seconds: int) -> str:
    try:
        token = await proven_token(client, order.namespace, order.account, seconds)
    except NotFound:
        raise CannotCreate(f"there is no service account {order.namespace}/{order.account}: create it first") from None
    expires = expiry_of(token)
    if expires is not None:
        click.echo(f"the token expires at {expires:%Y-%m-%dT%H:%M:%SZ}", err=True)
    return token


def _plugin(auth_type: str, name: str, config: Sequence[str]) -> AuthPlugin | None:
    if auth_type != "plugin":
        if name or config:
            raise Failed("--auth-plugin-name and --auth-plugin-config need --auth-type plugin", exit_code=BAD_USAGE)
        return None
    if not name:
        raise Failed("--auth-type plugin: name the plugin with --auth-plugin-name", exit_code=BAD_USAGE)
    pairs = [entry.partition("=") for entry in config]
    for key, separator, _ in pairs:
        if not key or not separator:
            raise Failed(f"--auth-plugin-config {key}: write it as KEY=VALUE", exit_code=BAD_USAGE)
    return AuthPlugin(name=name, config=tuple((key, value) for key, _, value in pairs))


def _flat(document: Any) -> list[Object]:
    """A List's items, or the object itself."""
    if not isinstance(document, dict):
        raise CannotCreate("a document in the files is not an object")
    return list(document.get("items") or []) if str(document.get("kind", "")).endswith("List") else [document]


def _say(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
