"""Remote secrets, the ids of clusters, and whose configuration is read."""

from __future__ import annotations

import base64
import binascii
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import yaml

from isthmus.assurance.analysis.across.whole_mesh import WholeMesh
from isthmus.assurance.analysis.control_plane import clusters_in, remote_secrets
from isthmus.assurance.analysis.items import Index, Item, listed
from isthmus.assurance.catalogue import mesh as codes
from isthmus.kubernetes.token_claims import expiry_of
from isthmus.model.issues import Issue

_ID_VARIABLES = ("ISTIO_META_CLUSTER_ID", "CLUSTER_ID")
_SOON_DAYS = 7
_CONFIGURATION = (
    "VirtualService", "DestinationRule", "ServiceEntry", "Sidecar", "Gateway", "PeerAuthentication", "RequestAuthentication",
    "AuthorizationPolicy", "Telemetry", "EnvoyFilter", "WasmPlugin", "ProxyConfig",
)  # fmt: skip


def cluster_ids(mesh: WholeMesh) -> Iterator[Issue]:
    """What a cluster is called here against what its own proxies call it."""
    for index in mesh.indexes:
        claims = Counter(said for said in map(claimed_id, [*index.each("Pod"), *index.each("Deployment")]) if said)
        if claims and index.cluster not in claims:
            [(own, _)] = claims.most_common(1)
            yield mesh.finding(
                codes.WRONG_CLUSTER_ID, "Cluster", index.cluster, f"its proxies say that they are of cluster {own}",
                f"Create the remote secret for it with {own} as key: isthmus link CONTEXT={own}.",
            )  # fmt: skip


def claimed_id(workload: Item) -> str:
    """The cluster id that a Pod's or a Deployment's containers are given; "" where none is."""
    spec = workload.spec.get("template", {}).get("spec") if workload.kind == "Deployment" else workload.spec
    for container in [*((spec or {}).get("containers") or []), *((spec or {}).get("initContainers") or [])]:
        for variable in container.get("env") or []:
            if variable.get("name") in _ID_VARIABLES and variable.get("value"):
                return str(variable["value"])
    return ""


def secrets(mesh: WholeMesh) -> Iterator[Issue]:
    known = {index.cluster for index in mesh.indexes}
    for index in mesh.primaries:
        by_cluster: dict[str, list[Item]] = defaultdict(list)
        by_server: dict[str, list[tuple[Item, str]]] = defaultdict(list)
        for secret in remote_secrets(index):
            for cluster in clusters_in(secret):
                by_cluster[cluster].append(secret)
                kubeconfig = _kubeconfig(secret, cluster)
                by_server[_server(kubeconfig)].append((secret, cluster))
                yield from _expiring(mesh, secret, cluster, kubeconfig)
                if cluster not in known and len(mesh.indexes) > 1:
                    yield secret.finding(codes.SECRET_FOR_NOBODY, f"is for cluster {cluster}, which is not looked at")
        for cluster, several in by_cluster.items():
            for secret in several[1:]:
                yield secret.finding(codes.CLUSTER_KNOWN_TWICE, f"cluster {cluster} is also in {several[0].full_name}")
        for server, entries in by_server.items():
            names = sorted({cluster for _, cluster in entries})
            if server and len(names) > 1:
                yield entries[-1][0].finding(codes.CLUSTER_KNOWN_TWICE, f"{' and '.join(names)} both lead to {server}")


def _kubeconfig(secret: Item, cluster: str) -> Any:
    plain = (secret.value.get("stringData") or {}).get(cluster)
    try:
        text = plain if plain is not None else base64.b64decode((secret.value.get("data") or {})[cluster]).decode()
        return yaml.safe_load(text)
    except (binascii.Error, UnicodeDecodeError, yaml.YAMLError, KeyError):
        return None


def _server(kubeconfig: Any) -> str:
    try:
        return str(kubeconfig["clusters"][0]["cluster"]["server"])
    except (KeyError, IndexError, TypeError):
        return ""


def _expiring(mesh: WholeMesh, secret: Item, cluster: str, kubeconfig: Any) -> Iterator[Issue]:
    try:
        token = kubeconfig["users"][0]["user"]["token"]
    except (KeyError, IndexError, TypeError):
        return
    end, now = expiry_of(str(token)), mesh.settings.now
    if end is None or now is None:
        return
    days = (end - now).total_seconds() / 86400
    if days < _SOON_DAYS:
        when = f"expired {-days:.0f} days ago" if days < 0 else f"expires in {days:.1f} days"
        yield secret.finding(codes.EXPIRING_CREDENTIAL, f"the token for cluster {cluster} {when}", path="data")


def both_ways(mesh: WholeMesh) -> Iterator[Issue]:
    """Control planes that are both looked at, of which one alone discovers the other."""
    seen = {
        index.cluster: {cluster for secret in remote_secrets(index) for cluster in clusters_in(secret)}
        for index in mesh.primaries
    }
    for cluster, discovered in seen.items():
        for other in sorted(seen.keys() & discovered):
            if cluster not in seen[other] and other != cluster:
                yield mesh.finding(
                    codes.ONE_WAY_DISCOVERY, "Cluster", other, f"does not discover {cluster}, which discovers it",
                    f"isthmus link {cluster} {other}",
                )  # fmt: skip


def ignored_configuration(mesh: WholeMesh) -> Iterator[Issue]:
    for index in mesh.indexes:
        if not index.is_remote:
            continue
        for kind in _CONFIGURATION:
            items = _not_in(index.each(kind), mesh.config)
            if items:
                names = listed([item.full_name for item in items])
                yield mesh.finding(
                    codes.IGNORED_CONFIGURATION,
                    "Cluster",
                    index.cluster,
                    f"{kind} {names}: not read, and not in {mesh.config.cluster}",
                )


def _not_in(items: Any, config: Index) -> list[Item]:
    return [item for item in items if config.get(item.kind, item.namespace, item.name, item.group) is None]


def exports(mesh: WholeMesh) -> Iterator[Issue]:
    for index in mesh.indexes:
        for export in index.each("ServiceExport"):
            if index.get("Service", export.namespace, export.name) is None:
                yield export.finding(
                    codes.EXPORT_OF_NOTHING, f"there is no Service {export.full_name} in {index.cluster}"
                )


def names_that_do_not_resolve(mesh: WholeMesh) -> Iterator[Issue]:
    """A cluster's own DNS knows its own Services only. One finding for each cluster, not for each name."""
    metadata = (mesh.settings.mesh_config.get("defaultConfig") or {}).get("proxyMetadata") or {}
    if str(metadata.get("ISTIO_META_DNS_CAPTURE", "")).lower() == "true" or len(mesh.indexes) < 2:
        return
    declared = {index.cluster: _service_names(index) for index in mesh.indexes}
    everywhere = set().union(*declared.values())
    for index in mesh.indexes:
        missing = sorted(everywhere - declared[index.cluster])
        if missing and index.each("Pod"):
            yield mesh.finding(
                codes.LOCAL_ONLY_NAME,
                "Cluster",
                index.cluster,
                f"has no Service {listed(missing)}, which other clusters have",
            )


def _service_names(index: Index) -> set[str]:
    system = {"kube-system", "kube-public", index.settings.root_namespace}
    return {
        service.full_name
        for service in index.each("Service")
        if service.namespace not in system and service.full_name != "default/kubernetes"
    }
