"""trust export, import and forget: bundles handed from mesh to mesh. They are kept in the ConfigMap `istio`, which control planes follow."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from isthmus.cli.contexts import (
    Context,
    contexts_option,
    every,
    kubeconfig_option,
    over_the_network,
    system_namespace_option,
)
from isthmus.cli.errors import BAD_INPUT, Failed

if TYPE_CHECKING:
    from isthmus.kubernetes.client import ApiClient
    from isthmus.model.identity import TrustDomain

Object = dict[str, Any]

CONFIG_MAP = "istio"
_DEFAULT_DOMAIN = "cluster.local"
domain_option = click.option(
    "--trust-domain", "domain", required=True, help="Whose authorities they are: bundles do not say."
)


@click.command("export")
@domain_option
@click.option(
    "-o", "--output", type=click.Choice(["json", "pem"]), default="json", show_default=True, help="How to print it."
)
@contexts_option
@kubeconfig_option
@system_namespace_option
def export_command(domain: str, output: str, contexts: Sequence[str], kubeconfig: str, namespace: str) -> None:
    """Print the authorities of this mesh's trust domain, or of an imported one, for another mesh to import.

    \b
    Examples:
      isthmus trust export --trust-domain cluster.local > bundle.json
      isthmus trust export --trust-domain cluster.local -o pem > bundle.pem
    """
    from isthmus.trust.spiffe_bundle import render_json_bundle
    from isthmus.trust.x509 import certificate_pem, parse_certificates

    asked = parsed(domain)
    found: dict[str, None] = {}
    known: set[str] = set()
    for each in over_the_network(lambda: on_each(every(kubeconfig, contexts), held(namespace))):
        bundles = {**_imported(each.data), each.trust_domain: each.roots}
        known |= {name for name, pem in bundles.items() if pem}
        if bundles.get(str(asked)):
            found |= dict.fromkeys(certificate_pem(each) for each in parse_certificates(bundles[str(asked)]))
    if not found:
        there = ", ".join(sorted(known)) or "none"
        raise Failed(f"no authority of trust domain {asked} is known here; there is: {there}", exit_code=BAD_INPUT)
    pem = "".join(found)
    click.echo(pem if output == "pem" else render_json_bundle(parse_certificates(pem)), nl=False)


@click.command("import")
@click.argument("file")
@domain_option
@contexts_option
@kubeconfig_option
@system_namespace_option
def import_command(file: str, domain: str, contexts: Sequence[str], kubeconfig: str, namespace: str) -> None:
    """Trust the authorities in a bundle (SPIFFE JSON or PEM; `-` reads stdin) for identities of that trust domain, and of no other.

    It takes the place of what was imported for this trust domain before: an authority that is not in it any longer is not trusted any
    longer.

    \b
    Example:
      isthmus trust import bundle.json --trust-domain partner.example
    """
    from isthmus.trust.spiffe_bundle import BadBundle, parse_bundle

    asked = parsed(domain)
    try:
        document = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        bundle = parse_bundle(asked, document)
    except (OSError, BadBundle) as error:
        raise Failed(f"{file}: {error}", exit_code=BAD_INPUT) from None
    for ignored in bundle.ignored:
        click.echo(f"{file}: {ignored}", err=True)
    if not bundle.x509_authorities:
        raise Failed(
            f"{file}: it has no authority for certificates; to trust nobody of {asked}, use `isthmus trust forget`",
            exit_code=BAD_INPUT,
        )
    _write(every(kubeconfig, contexts), namespace, asked, "".join(bundle.x509_authorities_pem))


@click.command("forget")
@domain_option
@contexts_option
@kubeconfig_option
@system_namespace_option
def forget_command(domain: str, contexts: Sequence[str], kubeconfig: str, namespace: str) -> None:
    """Trust nobody any longer who was trusted by an imported bundle or by the trust domain's endpoint.

    New connections are refused at once; those that are open go on until they close.

    \b
    Example:
      isthmus trust forget --trust-domain partner.example
    """
    _write(every(kubeconfig, contexts), namespace, parsed(domain), None)


def _write(contexts: Sequence[Context], namespace: str, domain: TrustDomain, pem: str | None) -> None:
    """Into each cluster, after all have been looked at: nothing is written if it is any one's own trust domain."""
    from isthmus.ingest.peer_bundles import ENDPOINT, PREFIX

    before_all = of_others(contexts, namespace, domain)
    keys: dict[str, str | None] = {f"{PREFIX}{domain}": pem}
    if pem is None:
        keys[f"{ENDPOINT}{domain}"] = None
    over_the_network(lambda: on_each(contexts, writing(namespace, keys)))
    for context, data in zip(contexts, before_all, strict=True):
        before = _imported(data).get(str(domain))
        click.echo(f"{context.name}: {_change(before, pem)}", err=True)


def of_others(contexts: Sequence[Context], namespace: str, domain: TrustDomain) -> list[Object]:
    """What each cluster's ConfigMap has. Raises Failed if the trust domain is any one's own."""
    found = over_the_network(lambda: on_each(contexts, held(namespace)))
    for context, each in zip(contexts, found, strict=True):
        if each.trust_domain == str(domain):
            raise Failed(
                f"{domain} is the trust domain of {context.name} itself: its authority is the control plane's",
                exit_code=BAD_INPUT,
            )
    return [each.data for each in found]


def _change(before: str | None, now: str | None) -> str:
    from isthmus.trust.x509 import BadCertificate, to_der

    def authorities(pem: str | None) -> set[bytes]:
        try:
            return set(to_der(pem)) if pem else set()
        except BadCertificate:
            return set()  # What could not be read vouched for nobody.

    had, has = authorities(before), authorities(now)
    if had == has:
        return "unchanged"
    return f"{len(has - had)} authorities more, {len(had - has)} fewer, {len(has)} in all"


@dataclass(frozen=True, slots=True)
class Held:
    """A cluster's trust domain (as its control plane says, else its MeshConfig), its roots, its MeshConfig, what its ConfigMap `istio` has, and
    what its control planes noted."""

    trust_domain: str
    roots: str
    mesh: Object
    data: Object
    records: Object


def held(namespace: str) -> Callable[[ApiClient], Awaitable[Held]]:
    """What one cluster has."""
    import msgspec

    from isthmus.controlplane.bundle_endpoint import PUBLISHED, Published
    from isthmus.controlplane.trust_records import CONFIG_MAP as RECORDS
    from isthmus.installation.rights import ROOTS_CONFIG_MAP
    from isthmus.kubernetes.config_maps import data_of

    async def read(client: ApiClient) -> Held:
        data = await data_of(client, CONFIG_MAP, namespace)
        roots = (await data_of(client, ROOTS_CONFIG_MAP, namespace)).get("root-cert.pem", "")
        records = await data_of(client, RECORDS, namespace)
        published = records.get(PUBLISHED)
        told = msgspec.json.decode(published, type=Published).trust_domain if published else ""
        try:
            mesh = yaml.safe_load(data.get("mesh", "")) or {}
        except yaml.YAMLError:
            mesh = None
        if not isinstance(mesh, dict):
            raise Failed(f"ConfigMap {namespace}/{CONFIG_MAP}: `mesh` is not a MeshConfig", exit_code=BAD_INPUT)
        own = told or str(mesh.get("trustDomain") or _DEFAULT_DOMAIN)
        return Held(own, roots, mesh, data, records)

    return read


def writing(namespace: str, data: Mapping[str, str | None]) -> Callable[[ApiClient], Awaitable[None]]:
    """Puts these keys into the ConfigMap `istio`; None takes one out."""

    async def write(client: ApiClient) -> None:
        from isthmus.kubernetes.config_maps import put_data

        await put_data(client, CONFIG_MAP, namespace, data)

    return write


async def on_each(contexts: Sequence[Context], work: Callable[[ApiClient], Awaitable[Any]]) -> list[Any]:
    from isthmus.kubernetes.client import ApiClient

    answers = []
    for context in contexts:
        async with ApiClient(context.address) as client:
            answers.append(await work(client))
    return answers


def _imported(data: Object) -> dict[str, str]:
    from isthmus.ingest.peer_bundles import PREFIX

    return {key.removeprefix(PREFIX): str(pem) for key, pem in data.items() if key.startswith(PREFIX)}


def parsed(domain: str) -> TrustDomain:
    from isthmus.model.identity import trust_domain_of

    try:
        return trust_domain_of(domain)
    except ValueError as error:
        raise Failed(f"--trust-domain: {error}", exit_code=BAD_INPUT) from None
