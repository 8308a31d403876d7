"""Scenarios: a whole mesh as one document, so that it can be asked about without any server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from isthmus.api.meta import ObjectMeta
from isthmus.api.registry import UndecodableObject, decode, kind_of
from isthmus.ingest.global_names import global_names_wanted
from isthmus.ingest.inputs import ClusterInput
from isthmus.ingest.mesh_config import BadMeshConfig, with_mesh_config
from isthmus.ingest.mesh_networks import BadMeshNetworks, mesh_networks_of
from isthmus.ingest.providers import providers_of
from isthmus.ingest.snapshot import snapshot_of
from isthmus.ingest.telemetry_providers import telemetry_defaults_of
from isthmus.model.durations import seconds_of
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.snapshot import ClusterSet, MeshSettings, Snapshot
from isthmus.model.topology import ImportState
from isthmus.model.traffic import Wishes
from isthmus.model.values import dataclass

Object = dict[str, Any]


class BadScenario(ValueError):
    """A scenario that cannot be used: which part, and why."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The clusters' objects, decoded. `warnings` name what was left out, and why."""

    settings: MeshSettings
    config_cluster: ClusterId
    clusters: tuple[ClusterInput, ...]
    warnings: tuple[str, ...]

    def snapshot(self) -> Snapshot:
        """What the control plane of the config cluster knows. Computed once, however often it is asked."""
        return self._snapshot

    @cached_property
    def _snapshot(self) -> Snapshot:
        return snapshot_of(self.settings, self.clusters, self.config_cluster)

    def cluster(self, cluster: ClusterId) -> ClusterInput | None:
        return next((found for found in self.clusters if found.id == cluster), None)


def scenario_of(document: Mapping[str, Any]) -> Scenario:
    """From `{kind: Scenario, configCluster, meshConfig?, env?, clusters: [{id, objects}]}`. Raises BadScenario."""
    clusters = document.get("clusters")
    if not isinstance(clusters, list) or not clusters:
        raise BadScenario("clusters: a scenario has at least one cluster")
    warnings: list[str] = []
    inputs = []
    for index, cluster in enumerate(clusters):
        if not isinstance(cluster, Mapping) or not isinstance(cluster.get("id"), str):
            raise BadScenario(f"clusters[{index}].id: every cluster has an id, as a string")
        objects = cluster.get("objects") or []
        if not isinstance(objects, list):
            raise BadScenario(f"clusters[{index}].objects: is not a list")
        inputs.append(cluster_input(ClusterId(cluster["id"]), objects, warnings))
    config = ClusterId(document.get("configCluster") or clusters[0]["id"])
    if config not in {cluster.id for cluster in inputs}:
        raise BadScenario(f"configCluster: {config!r} is not among the clusters")
    mesh_config = document.get("meshConfig") or {}
    warnings += [f"meshConfig.{wrong}" for wrong in providers_of(mesh_config)[1]]
    settings = _settings(document)
    warnings += [f"meshConfig.{wrong}" for wrong in telemetry_defaults_of(mesh_config)[1]]
    return Scenario(
        settings=settings,
        config_cluster=config,
        clusters=tuple(inputs),
        warnings=tuple(warnings),
    )


def cluster_input(cluster: ClusterId, objects: Iterable[Any], warnings: list[str]) -> ClusterInput:
    """One cluster's objects as its API server would have them; earlier is older. What cannot be read is added to `warnings`.

    An object is what JSON or YAML gave, or the text of it in JSON (`msgspec.Raw`).
    """
    found: dict[str, dict[tuple[str, str], object]] = {}
    for index, (head, body) in enumerate(_flat(objects)):
        if not bytes(head.metadata).startswith(b"{"):
            warnings.append(f"{cluster}: object {index} has no metadata: left out")
            continue
        kind = kind_of(str(head.api_version), str(head.kind))
        if kind is None:
            what = f"this version does not read {head.api_version} {head.kind}"
            warnings.append(f"{cluster}: {_called(body)}: {what}: left out")
            continue
        try:
            decoded = decode(kind, body)
        except UndecodableObject as error:
            warnings.append(f"{cluster}: {_called(body)}: {error}: left out")
            continue
        metadata = _at_rest(decoded.metadata, index)
        key = (metadata.namespace if kind.namespaced else "", metadata.name)
        found.setdefault(kind.key, {})[key] = decoded
    return ClusterInput(id=cluster, state=ImportState.LIVE, objects=found)


class _Head(msgspec.Struct, gc=False):
    """What says how an object is to be read."""

    api_version: Any = msgspec.field(default="", name="apiVersion")
    kind: Any = None
    metadata: msgspec.Raw = msgspec.Raw()


_HEAD = msgspec.json.Decoder(_Head)


def _flat(objects: Iterable[Any]) -> Iterator[tuple[_Head, bytes | msgspec.Raw]]:
    """Every object as an API server would hand it out, those in Lists too."""
    for obj in objects:
        body = obj if isinstance(obj, msgspec.Raw) else _as_json(obj)
        try:
            head = _HEAD.decode(body)
        except msgspec.DecodeError:
            head = _Head()
        items = msgspec.json.decode(body).get("items") if str(head.kind).endswith("List") else None
        if isinstance(items, list):
            yield from _flat(items)
        else:
            yield head, body


def _called(body: bytes | msgspec.Raw) -> str:
    obj = msgspec.json.decode(body)
    return f"{obj.get('kind')} {obj['metadata'].get('namespace', '')}/{obj['metadata'].get('name', '')}"


def _at_rest(metadata: ObjectMeta, index: int) -> ObjectMeta:
    """With what an API server fills in, where it is missing: nobody else has the object yet."""
    if not metadata.uid:
        force_setattr(metadata, "uid", f"00000000-0000-0000-0000-{index:012}")
    if not metadata.resource_version:
        force_setattr(metadata, "resource_version", str(index + 1))
    if not metadata.creation_timestamp:
        stamp = f"2020-01-01T{index // 3600 % 24:02}:{index // 60 % 60:02}:{index % 60:02}Z"
        force_setattr(metadata, "creation_timestamp", stamp)
    return metadata


def _as_json(obj: Any) -> bytes:
    """YAML may have keys and values that JSON does not know: they become text."""
    try:
        return msgspec.json.encode(obj)
    except TypeError:
        return json.dumps(_with_text_keys(obj), default=str).encode()


def _with_text_keys(value: Any) -> Any:
    """YAML may have numbers for keys (`portLevelMtls: {8080: …}`); JSON, and so an API server, has text."""
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else json.dumps(key, default=str): _with_text_keys(each)
            for key, each in value.items()
        }
    return [_with_text_keys(each) for each in value] if isinstance(value, list) else value


def _settings(document: Mapping[str, Any]) -> MeshSettings:
    mesh_config, environment = document.get("meshConfig") or {}, document.get("env") or {}
    try:
        trust_domain = TrustDomain.parse(str(mesh_config.get("trustDomain", "cluster.local")))
    except ValueError as error:
        raise BadScenario(f"meshConfig.trustDomain: {error}") from None
    try:
        networks = mesh_networks_of(document.get("meshNetworks") or {})
    except BadMeshNetworks as error:
        raise BadScenario(f"meshNetworks.{error}") from None
    base = MeshSettings(
        mesh=MeshId(str(environment.get("MESH_ID", "mesh1"))),
        trust_domain=trust_domain,
        root_namespace=Namespace(str(mesh_config.get("rootNamespace", "istio-system"))),
        networks=networks,
        cluster_set=ClusterSet(
            exports=_is_on(environment, "ENABLE_MCS_SERVICE_DISCOVERY"),
            hosts=_is_on(environment, "ENABLE_MCS_HOST"),
            own_cluster_names=_is_on(environment, "ENABLE_MCS_CLUSTER_LOCAL"),
        ),
        global_names=global_names_wanted({name: str(value) for name, value in environment.items()}),
        unreachable_networks_direct=_is_on(environment, "ISTHMUS_UNREACHABLE_NETWORKS_DIRECT"),
        wishes=Wishes(
            own_cluster_first=_is_on(environment, "ISTHMUS_PREFER_LOCAL_CLUSTER"),
            fails_over=_is_on(environment, "ISTHMUS_LOCALITY_FAILOVER"),
            hedge_after_seconds=_seconds(environment, "ISTHMUS_HEDGE_AFTER"),
        ),
        policies_mean_any_trust_domain=_is_on(environment, "ISTHMUS_POLICIES_MEAN_ANY_TRUST_DOMAIN"),
    )
    try:
        return with_mesh_config(base, mesh_config)
    except BadMeshConfig as error:
        raise BadScenario(f"meshConfig.{error}") from None


def _seconds(environment: Mapping[str, Any], name: str) -> float:
    """0 where nothing is said."""
    text = str(environment.get(name) or "")
    try:
        return seconds_of(text) if text else 0.0
    except ValueError as error:
        raise BadScenario(f"env.{name}: {error}") from None


def _is_on(environment: Mapping[str, Any], switch: str) -> bool:
    return str(environment.get(switch, "false")).lower() in ("true", "1")
