"""A machine's kit: the files with which a host outside every cluster joins the mesh as one of a WorkloadGroup. No I/O.

Their names and what is in them are Istio's, so that either agent can be given either kit.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from isthmus.injection.workloads import NETWORK_LABEL

Object = dict[str, Any]

ENVIRONMENT, MESH, TOKEN, ROOTS = "cluster.env", "mesh.yaml", "istio-token", "root-cert.pem"
SECRET_FILES = (TOKEN,)


class NoKit(ValueError):
    """Something without which a machine cannot join; the text says what, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KitOrder:
    """What a kit is made of beside its group. `control_planes` are host:port in order of preference, as the machine reaches them."""

    cluster: str
    mesh: str
    trust_domain: str
    network: str
    control_planes: Sequence[str]
    token: str
    roots_pem: str
    registers_itself: bool = True


def kit_files(group: Object, order: KitOrder) -> dict[str, str]:
    """Contents by file name. Raises NoKit."""
    if not order.control_planes:
        raise NoKit("no control plane that the machine can reach: expose it at a gateway, or name it")
    if not order.roots_pem:
        raise NoKit("the mesh's roots are not published in the group's namespace: is there a control plane?")
    return {
        ENVIRONMENT: _environment(group, order),
        MESH: yaml.safe_dump({"defaultConfig": _default_config(group, order)}, sort_keys=False),
        TOKEN: order.token,
        ROOTS: order.roots_pem,
    }


def account_of(group: Object) -> str:
    """Whose token the machines of a group have."""
    return str((group.get("spec") or {}).get("template", {}).get("serviceAccount") or "default")


def settings_of(deployment: Object) -> dict[str, str]:
    """What a control plane's Deployment says of its mesh, by the names of its environment."""
    spec = deployment.get("spec", {}).get("template", {}).get("spec", {})
    return {
        str(variable["name"]): str(variable["value"])
        for container in spec.get("containers") or ()
        for variable in container.get("env") or ()
        if variable.get("value")
    }


def ways_to_control_plane(services: Sequence[Object], port: int) -> list[str]:
    """Of the system namespace's Services those whose load balancers lead to it, gateways first: host:port."""
    found: list[tuple[bool, str]] = []
    for service in services:
        spec, labels = service.get("spec") or {}, service["metadata"].get("labels") or {}
        if spec.get("type") != "LoadBalancer" or all(each.get("port") != port for each in spec.get("ports") or ()):
            continue
        entries = service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
        hosts = [str(entry.get("ip") or entry.get("hostname") or "") for entry in entries]
        found += [(labels.get("app") == "istiod", f"{host}:{port}") for host in hosts if host]
    return [address for _, address in sorted(found)]


def network_of(group: Object) -> str:
    """Which the group says that its machines are on; empty if it leaves that to them."""
    spec = group.get("spec") or {}
    template = spec.get("template") or {}
    return str(template.get("network") or _labels_of(spec).get(NETWORK_LABEL) or "")


def _labels_of(spec: Object) -> Mapping[str, str]:
    template, metadata = spec.get("template") or {}, spec.get("metadata") or {}
    return {**(template.get("labels") or {}), **(metadata.get("labels") or {})}


def _environment(group: Object, order: KitOrder) -> str:
    metadata, spec = group["metadata"], group.get("spec") or {}
    labels = _labels_of(spec)
    network = network_of(group) or order.network
    variables = {
        "ISTIO_INBOUND_PORTS": "*",
        "ISTIO_LOCAL_EXCLUDE_PORTS": "22,15090,15021,15020",
        "ISTIO_METAJSON_LABELS": json.dumps(labels, sort_keys=True),
        "ISTIO_META_AUTO_REGISTER_GROUP": metadata["name"] if order.registers_itself else "",
        "ISTIO_META_CLUSTER_ID": order.cluster,
        "ISTIO_META_DNS_CAPTURE": "true",
        "ISTIO_META_MESH_ID": order.mesh,
        "ISTIO_META_NETWORK": str(network),
        "ISTIO_META_WORKLOAD_NAME": metadata["name"],
        "ISTIO_NAMESPACE": metadata["namespace"],
        "ISTIO_SERVICE": f"{metadata['name']}.{metadata['namespace']}",
        "ISTIO_SERVICE_CIDR": "*",
        "POD_NAMESPACE": metadata["namespace"],
        "SERVICE_ACCOUNT": account_of(group),
        "TRUST_DOMAIN": order.trust_domain,
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items() if value)


def _default_config(group: Object, order: KitOrder) -> Object:
    probe = (group.get("spec") or {}).get("probe")
    return {
        "discoveryAddress": ",".join(order.control_planes),
        "meshId": order.mesh,
        **({"readinessProbe": probe} if probe else {}),
    }
