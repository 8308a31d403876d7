"""trust follow and bundles: other trust domains' bundles from their endpoints, and how each is doing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from isthmus.cli.contexts import (
    contexts_option,
    every,
    kubeconfig_option,
    over_the_network,
    system_namespace_option,
)
from isthmus.cli.durations import largest_unit
from isthmus.cli.errors import BAD_INPUT, FINDINGS, Failed
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.cli.trust_bundles import Held, domain_option, held, of_others, on_each, parsed, writing

Object = dict[str, Any]

OWN = "own"
_TOLD = {
    "state",
    "sequence",
    "refreshHintSeconds",
    "fetchedAt",
    "failingSince",
    "nextAt",
    "refusal",
    "problem",
    "warnings",
}
_COLUMNS = ("TRUST DOMAIN", "SOURCE", "STATE", "AUTHORITIES", "SEQUENCE", "AGE", "NEXT", "ASKS FOR OURS", "CLUSTER")


@click.command("follow")
@domain_option
@click.option("--url", required=True, help="Where its bundle is published; https.")
@click.option(
    "--identity", default="", help="The SPIFFE ID of the endpoint: then the profile is https_spiffe, else https_web."
)
@contexts_option
@kubeconfig_option
@system_namespace_option
def follow_command(
    domain: str, url: str, identity: str, contexts: Sequence[str], kubeconfig: str, namespace: str
) -> None:
    """Fetch another trust domain's bundle from its endpoint, and fetch it again, for as long as it is not forgotten.

    With --identity the endpoint is believed by the bundle of the identity's trust domain: import the first one. Without, by the web's
    authorities, for the host in the URL.

    \b
    Examples:
      isthmus trust follow --trust-domain partner.example --url https://bundles.partner.example/
      isthmus trust follow --trust-domain partner.example --url https://203.0.113.9:15019/ \\
          --identity spiffe://partner.example/ns/istio-system/sa/istiod
    """
    import yaml

    from isthmus.ingest.peer_bundles import ENDPOINT, PREFIX
    from isthmus.model.bundles import BundleEndpoint, Profile

    asked = parsed(domain)
    profile = Profile.SPIFFE if identity else Profile.WEB
    try:
        endpoint = BundleEndpoint.parse(asked, url, profile.value, identity)
    except ValueError as error:
        raise Failed(str(error), exit_code=BAD_INPUT) from None
    clusters = every(kubeconfig, contexts)
    there = of_others(clusters, namespace, asked)
    said = {"url": url, "profile": profile.value} | ({"identity": identity} if identity else {})
    text = yaml.safe_dump(said, sort_keys=False)
    over_the_network(lambda: on_each(clusters, writing(namespace, {f"{ENDPOINT}{asked}": text})))
    for context, data in zip(clusters, there, strict=True):
        before = data.get(f"{ENDPOINT}{asked}")
        click.echo(f"{context.name}: {'unchanged' if before == text else f'{asked} is followed'}", err=True)
        if endpoint.vouching == asked and f"{PREFIX}{asked}" not in data:
            click.echo(
                f"{context.name}: import the first bundle: `isthmus trust import FILE --trust-domain {asked}`", err=True
            )


@click.command("bundles")
@contexts_option
@kubeconfig_option
@system_namespace_option
@json_output
def bundles_command(contexts: Sequence[str], kubeconfig: str, namespace: str, output: str) -> None:
    """Show each trust domain's bundle: where it is from, how old it is, and whether it is still renewed; and what is published of our own.

    ASKS FOR OURS is when a control plane that says it is of that trust domain asked for our bundle last: never, where only one
    side trusts the other, or it is not Isthmus. The exit code is 79 if a bundle is not renewed.

    \b
    Example:
      isthmus trust bundles
    """
    clusters = every(kubeconfig, contexts)
    found = over_the_network(lambda: on_each(clusters, held(namespace)))
    rows = [row for context, each in zip(clusters, found, strict=True) for row in _rows(context.name, each)]
    now = datetime.now(UTC)
    if output == "json":
        print_json({"bundles": rows})
    else:
        print_table(_COLUMNS, [_row(row, now) for row in rows])
        for row in rows:
            for line in filter(None, (row.get("problem"), *row.get("warnings", ()))):
                click.echo(f"{row['cluster']}: {row['trustDomain']}: {line}", err=True)
    if any(row.get("problem") for row in rows):
        raise click.exceptions.Exit(FINDINGS)


def _rows(cluster: str, there: Held) -> Iterator[Object]:
    import msgspec

    from isthmus.controlplane.bundle_endpoint import ASKED, PUBLISHED, Published
    from isthmus.controlplane.bundle_following import RECORD
    from isthmus.ingest.peer_bundles import bundle_endpoints, peer_authorities
    from isthmus.model.identity import TrustDomain

    def row(domain: str, source: str, state: str, authorities: int) -> Object:
        return {
            "cluster": cluster,
            "trustDomain": domain,
            "source": source,
            "state": state,
            "authorities": authorities,
            "askedForOursAt": there.records.get(ASKED + domain),
        }

    published = there.records.get(PUBLISHED)
    sequence = msgspec.json.decode(published, type=Published).sequence if published else None
    count = there.roots.count("BEGIN CERTIFICATE")
    yield row(there.trust_domain, OWN, "published" if published else "own", count) | {"sequence": sequence}
    said = (there.mesh, there.data, TrustDomain.parse(there.trust_domain))
    imported = {str(domain): len(found) for domain, found in peer_authorities(*said)[0]}
    endpoints = {str(each.trust_domain): each for each in bundle_endpoints(*said)[0]}
    for domain in sorted(imported.keys() | endpoints.keys()):
        count = imported.get(domain, 0)
        if domain not in endpoints:
            yield row(domain, "imported", "imported", count)
            continue
        kept = there.records.get(RECORD + domain)
        record = msgspec.json.decode(kept) if kept else {}
        known = record.get("authorities")
        told = {key: value for key, value in record.items() if key in _TOLD}
        yield row(domain, endpoints[domain].url, "pending", count if known is None else len(known)) | told


def _row(row: Object, now: datetime) -> Sequence[object]:
    def age(key: str, sign: int, never: str = "-") -> str:
        moment = row.get(key)
        return (largest_unit(sign * (now - datetime.fromisoformat(moment))) or "now") if moment else never

    return (
        row["trustDomain"],
        row["source"],
        row["state"] + (f" ({row['refusal']})" if row.get("refusal") else ""),
        row["authorities"],
        row.get("sequence", "-"),
        age("fetchedAt", 1),
        age("nextAt", -1),
        "-" if row["source"] == OWN else age("askedForOursAt", 1, "never"),
        row["cluster"],
    )
