"""isthmus tag: names for revisions of the control plane, which namespaces choose by, so that one step moves all of them."""

from __future__ import annotations

from typing import Any

import click

from isthmus.cli.contexts import chosen, kubeconfig_option, over_the_network, system_namespace_option
from isthmus.cli.errors import Failed
from isthmus.cli.output import json_output, print_json, print_table

Object = dict[str, Any]

_REVISION, _TAG = "istio.io/rev", "istio.io/tag"


@click.group("tag")
def tag_command() -> None:
    """Name revisions of a control plane.

    A namespace with the label `istio.io/rev: TAG` uses the control plane that the tag leads to. New connections of its proxies follow the
    tag at once; restart the workloads to move those that are open.

    \b
    Examples:
      isthmus tag list --context c1
      isthmus tag set prod --revision canary --context c1
      isthmus tag remove prod --context c1
    """


@tag_command.command("set")
@click.argument("tag")
@click.option("--revision", required=True, help="The revision that it leads to from now on.")
@click.option("--context", "context_name", default="", help="Of which cluster.")
@kubeconfig_option
@system_namespace_option
def _set(tag: str, revision: str, context_name: str, kubeconfig: str, namespace: str) -> None:
    """Make a tag, or move it to another revision.

    \b
    Example:
      isthmus tag set prod --revision canary --context c1
    """
    from isthmus.kubernetes.client import ApiClient
    from isthmus.kubernetes.resources import SERVICES

    context = chosen(kubeconfig, context_name)

    async def moved() -> tuple[list[str], str]:
        async with ApiClient(context.address) as client:
            services = (await client.list_objects(SERVICES, namespace))["items"]
            revisions = _revisions(services)
            if revision not in revisions or tag in revisions:
                return sorted(revisions), ""
            name = f"istiod-{tag}"
            before = next((found for found in services if found["metadata"]["name"] == name), None)
            labels = {"app": "istiod", _REVISION: revision, _TAG: tag}
            selector = {"app": "istiod", _REVISION: revision}
            if before is None:
                ports = [{key: port[key] for key in ("name", "port", "targetPort")} for port in revisions[revision]]
                metadata = {"name": name, "namespace": namespace, "labels": labels}
                spec = {"selector": selector, "ports": ports}
                body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
                await client.create(SERVICES, body, namespace)
                return sorted(revisions), f"tag {tag} leads to {revision}"
            was = (before["metadata"].get("labels") or {}).get(_REVISION, "")
            patch = {"metadata": {"labels": labels}, "spec": {"selector": selector}}
            await client.patch(SERVICES, name, patch, namespace)
            return sorted(revisions), f"tag {tag} leads to {revision}, it led to {was}"

    known, done = over_the_network(moved)
    if tag in known:
        raise Failed(f"{tag} is a revision's name: give the tag another", exit_code=65)
    if not done:
        raise Failed(f"no revision {revision!r} in {namespace}; there is: {', '.join(known) or 'none'}", exit_code=65)
    click.echo(done)


@tag_command.command("list")
@click.option("--context", "context_name", default="", help="Of which cluster.")
@kubeconfig_option
@system_namespace_option
@json_output
def _list(context_name: str, kubeconfig: str, namespace: str, output: str) -> None:
    """Show tags, the revisions that they lead to, and the namespaces that use them.

    \b
    Example:
      isthmus tag list --context c1
    """
    from isthmus.kubernetes.client import ApiClient
    from isthmus.kubernetes.resources import NAMESPACES, SERVICES

    context = chosen(kubeconfig, context_name)

    async def found() -> tuple[list[Object], list[Object]]:
        async with ApiClient(context.address) as client:
            services = (await client.list_objects(SERVICES, namespace))["items"]
            return services, (await client.list_objects(NAMESPACES))["items"]

    services, namespaces = over_the_network(found)
    rows = [
        {"name": name, "kind": kind, "revision": revision, "namespaces": _users(name, namespaces)}
        for kind, names in (
            ("revision", {name: name for name in _revisions(services)}),
            ("tag", {_label(s, _TAG): _label(s, _REVISION) for s in services if _label(s, _TAG)}),
        )
        for name, revision in sorted(names.items())
    ]
    if output == "json":
        print_json({"tags": rows})
        return
    print_table(
        ("NAME", "KIND", "REVISION", "NAMESPACES"),
        [(row["name"], row["kind"], row["revision"], ", ".join(row["namespaces"])) for row in rows],
    )


@tag_command.command("remove")
@click.argument("tag")
@click.option("--context", "context_name", default="", help="Of which cluster.")
@click.option("--yes", is_flag=True, help="Also if namespaces use it.")
@kubeconfig_option
@system_namespace_option
def _remove(tag: str, context_name: str, yes: bool, kubeconfig: str, namespace: str) -> None:
    """Take a tag away. Refused while namespaces use it, unless with --yes: their new Pods would get no sidecar.

    \b
    Example:
      isthmus tag remove prod --context c1
    """
    from isthmus.kubernetes.client import ApiClient
    from isthmus.kubernetes.resources import NAMESPACES, SERVICES

    context = chosen(kubeconfig, context_name)

    async def removed() -> tuple[bool, list[str]]:
        async with ApiClient(context.address) as client:
            services = (await client.list_objects(SERVICES, namespace))["items"]
            if not any(_label(service, _TAG) == tag for service in services):
                return False, []
            users = _users(tag, (await client.list_objects(NAMESPACES))["items"])
            if not users or yes:
                await client.delete(SERVICES, f"istiod-{tag}", namespace)
            return True, users

    was_there, users = over_the_network(removed)
    if not was_there:
        raise Failed(f"no tag {tag!r} in {namespace}", exit_code=65)
    if users and not yes:
        raise Failed(f"tag {tag} is used by {', '.join(users)}: label them otherwise, or say --yes")
    click.echo(f"tag {tag} is gone")


def _label(obj: Object, name: str) -> str:
    return str((obj["metadata"].get("labels") or {}).get(name, ""))


def _revisions(services: list[Object]) -> dict[str, list[Object]]:
    """The ports of each revision's Service."""
    return {
        _label(service, _REVISION): service["spec"]["ports"]
        for service in services
        if _label(service, "app") == "istiod" and _label(service, _REVISION) and not _label(service, _TAG)
    }


def _users(name: str, namespaces: list[Object]) -> list[str]:
    by_default = {
        n["metadata"]["name"] for n in namespaces if name == "default" and _label(n, "istio-injection") == "enabled"
    }
    return sorted({n["metadata"]["name"] for n in namespaces if _label(n, _REVISION) == name} | by_default)
