"""All objects of an installation, in the order in which they are applied; taken away, they go in the opposite one.

Two installations in one cluster (two revisions) have some objects in common: definitions, the namespace, the account of readers. Those are the
cluster's; everything else is one installation's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from isthmus.api.crds import crd
from isthmus.api.registry import KINDS
from isthmus.injection.webhook_configuration import Called, injector, validator
from isthmus.injection.workloads import NETWORK_LABEL
from isthmus.installation.control_plane import control_plane, elsewhere
from isthmus.installation.gateways import (
    cross_network,
    exposed_control_plane,
    exposed_ports,
    for_peers,
    ingress_gateway,
    network_gateway,
)
from isthmus.installation.rights import (
    LEASES,
    account,
    cluster_role,
    control_plane_rules,
    role,
    system_rules,
    writer_rules,
)
from isthmus.installation.settings import InstallSettings, Profile
from isthmus.kubernetes.reader_access import MANAGED_BY, Reader, reader_objects

Object = dict[str, Any]

MANAGER = "isthmus-install"
INSTALLATION = "isthmus.io/installation"
SHARED = "shared"
_WRITERS = "topology.istio.io/controlPlaneClusters"
_READER = "istio-reader-service-account"


@dataclass(frozen=True, slots=True)
class Installed:
    """One object. `shared` with other installations in the cluster; `definition` if other objects are of the kind that it defines."""

    body: Object
    shared: bool = False
    definition: bool = False


def installed(settings: InstallSettings) -> list[Installed]:
    """Definitions, the namespace, accounts and rights, what runs, and last what the API server is to ask about."""
    common = {MANAGED_BY: MANAGER, INSTALLATION: SHARED}
    own = {MANAGED_BY: MANAGER, INSTALLATION: settings.installation}
    return [
        *(Installed(_labelled(each, common), shared=True, definition=True) for each in _definitions(settings)),
        Installed(_namespace(settings, common), shared=True),
        *(Installed(_labelled(each, common), shared=True) for each in _readers(settings)),
        *(Installed(each) for each in _rights(settings, own)),
        *(Installed(each) for each in _running(settings, own)),
        # Before there is anybody whom the API server must ask about it.
        *(Installed(each) for each in _configuration(settings, own)),
        *(Installed(each) for each in _webhooks(settings, own)),
    ]


def as_yaml(found: list[Installed]) -> str:
    """Documents for `kubectl apply -f -`."""
    return "---\n".join(yaml.safe_dump(each.body, sort_keys=False, width=120) for each in found)


def _definitions(settings: InstallSettings) -> Iterator[Object]:
    """A remote cluster has objects of the cluster set only: all other configuration is read elsewhere."""
    if settings.profile is Profile.EXTERNAL:
        return
    wanted = settings["crds"] or (
        "all" if settings.profile is Profile.PRIMARY or settings.is_on("configCluster") else "remote"
    )
    for kind in KINDS.values():
        if kind.is_custom and (wanted == "all" or kind.from_every_cluster):
            yield crd(kind)


def _namespace(settings: InstallSettings, labels: Object) -> Object:
    metadata: Object = {"name": settings["namespace"], "labels": dict(labels)}
    if settings["network"]:
        metadata["labels"][NETWORK_LABEL] = settings["network"]
    if settings["controlPlane.cluster"]:
        metadata["annotations"] = {_WRITERS: settings["controlPlane.cluster"]}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _readers(settings: InstallSettings) -> Iterator[Object]:
    """By whom other control planes discover this cluster."""
    if settings.profile is not Profile.EXTERNAL:
        for _, body in reader_objects(Reader(namespace=settings["namespace"], account=_READER, manager=MANAGER)):
            yield body


def _rights(settings: InstallSettings, labels: Object) -> Iterator[Object]:
    namespace, name = settings["namespace"], settings.service
    if settings.profile is Profile.EXTERNAL:
        # Its own cluster is no part of the mesh: it reads its Secrets here, and the mesh with the kubeconfig among them.
        yield account(name, namespace, labels)
        yield from role(name, name, namespace, system_rules(), labels)
    elif settings.has_control_plane or settings.is_on("configCluster"):
        yield account(name, namespace, labels)
        yield from cluster_role(
            f"{name}-clusterrole-{namespace}", name, namespace, control_plane_rules(settings), labels
        )
        yield from role(name, name, namespace, system_rules(), labels)
    if settings.profile is Profile.REMOTE:
        writer = f"{name}-writer-{namespace}"
        yield from cluster_role(writer, _READER, namespace, writer_rules(settings), labels)
        if settings.is_on("machines.enabled"):
            yield from role(writer, _READER, namespace, [LEASES], labels)


def _running(settings: InstallSettings, labels: Object) -> Iterator[Object]:
    if settings.has_control_plane:
        yield from control_plane(settings, labels)
    else:
        yield from elsewhere(settings, labels)
    if settings.has_network_gateway:
        yield from network_gateway(settings, labels)
    if settings.is_on("ingressGateway.enabled"):
        yield from ingress_gateway(settings, labels)


def _webhooks(settings: InstallSettings, labels: Object) -> Iterator[Object]:
    if settings.profile is Profile.EXTERNAL:
        return
    called = Called(service=settings.service, namespace=settings["namespace"], url=settings["injection.url"])
    path = f"/inject/cluster/{settings['cluster']}"
    path += f"/net/{settings['network']}" if settings["network"] else ""
    if settings.is_on("injection.enabled"):
        by_default = settings.is_on("injection.byDefault")
        for tag in ("", *settings.tags):
            yield injector(settings["revision"], called, path, labels=labels, tag=tag, by_default=by_default)
    if settings.is_on("validation.enabled") and _reads_configuration(settings):
        policy = settings["validation.failurePolicy"]
        yield validator(settings["revision"], called, labels=labels, failure_policy=policy)


def _configuration(settings: InstallSettings, labels: Object) -> Iterator[Object]:
    """Read by the control plane from its config cluster, also for gateways of others."""
    if not _reads_configuration(settings):
        return
    if settings.has_network_gateway:
        yield cross_network(settings["namespace"], labels)
        if settings.is_on("federation.enabled"):
            yield for_peers(settings["namespace"], settings["mesh"], labels)
    if settings["controlPlane.exposed"] == "gateway":
        yield from exposed_control_plane(settings["namespace"], settings.service, exposed_ports(), labels)


def _reads_configuration(settings: InstallSettings) -> bool:
    return settings.profile is Profile.PRIMARY or settings.is_on("configCluster")


def _labelled(body: Object, labels: Object) -> Object:
    metadata = body["metadata"]
    return body | {"metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), **labels}}}
