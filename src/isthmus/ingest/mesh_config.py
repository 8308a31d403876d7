"""Istio's MeshConfig: what it says about the mesh as a whole. Keys that this version does not read are named, not guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from isthmus.api.core import ConfigMap
from isthmus.api.networking import ConnectionPool as ConnectionPoolObject
from isthmus.api.networking import LocalitySetting, TcpKeepalive, ZoneAwareSetting
from isthmus.api.networking import TrafficPolicy as TrafficPolicyObject
from isthmus.api.virtual_service import Retries as RetriesObject
from isthmus.ingest.discovery_selectors import BadSelector, selectors_of
from isthmus.ingest.mesh_networks import BadMeshNetworks, mesh_networks_of
from isthmus.ingest.mesh_values import read_as
from isthmus.ingest.peer_bundles import bundle_endpoints, peer_authorities
from isthmus.ingest.providers import providers_of
from isthmus.ingest.proxy_configs import default_config_of, default_issues
from isthmus.ingest.route_limits import refused_retries
from isthmus.ingest.sidecars import REGISTRY_ONLY
from isthmus.ingest.telemetry_providers import KEYS as TELEMETRY_KEYS
from isthmus.ingest.telemetry_providers import telemetry_defaults_of
from isthmus.ingest.traffic_policies import locality_of, mesh_policy_of, zone_aware_of
from isthmus.ingest.virtual_services import retries_of
from isthmus.model.identity import TrustDomain
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Hostname, covers
from isthmus.model.proxy_config import ProxyConfig
from isthmus.model.proxy_config_words import Word
from isthmus.model.routing import Retries
from isthmus.model.security import PathNormalization
from isthmus.model.selectors import LabelSelector
from isthmus.model.snapshot import MeshSettings
from isthmus.model.telemetry import TelemetryDefaults
from isthmus.model.traffic import LocalityPreference, TrafficPolicy

CONFIG_MAP = "istio"
_KEY = "mesh"
_NETWORKS_KEY = "meshNetworks"
_DEFAULT_PATHS = "DEFAULT"
_EXPORTS = ("defaultServiceExportTo", "defaultVirtualServiceExportTo", "defaultDestinationRuleExportTo")
_READ = frozenset(
    {
        "trustDomain",
        "trustDomainAliases",
        "caCertificates",
        "rootNamespace",
        "serviceSettings",
        "localityLbSetting",
        "zoneAwareLbSetting",
        "defaultTrafficPolicy",
        "connectTimeout",
        "tcpKeepalive",
        "h2UpgradePolicy",
        "outboundTrafficPolicy",
        "discoverySelectors",
        "extensionProviders",
        "pathNormalization",
        "defaultHttpRetryPolicy",
        "enablePrometheusMerge",
        *_EXPORTS,
        *TELEMETRY_KEYS,
    }
)


_SO_ANYWAY = (("enableAutoMtls", True),)


class BadMeshConfig(ValueError):
    """A value in MeshConfig that cannot be used: which field, and why."""


def not_read(config: Mapping[str, Any]) -> list[str]:
    """The keys that have no effect, sorted: but for those that say how it is anyway."""
    return sorted(name for name in config.keys() - _READ if (name, config[name]) not in _SO_ANYWAY)


def with_mesh_config(settings: MeshSettings, config: Mapping[str, Any]) -> MeshSettings:
    """The settings, as MeshConfig changes them. Raises BadMeshConfig."""
    aliases = config.get("trustDomainAliases") or ()
    services, virtual_services, destination_rules = (_names(key, config.get(key) or []) for key in _EXPORTS)
    return replace(
        settings,
        trust_domain_aliases=tuple(domain for domain in map(_trust_domain, aliases) if domain != settings.trust_domain),
        peer_trust_domains=_peer_domains(config.get("caCertificates") or (), settings.trust_domain),
        locality=_locality(config) or settings.locality,
        traffic_policy=_traffic_policy(config),
        retries=_retries(config.get("defaultHttpRetryPolicy")),
        providers=providers_of(config)[0],
        discovery=_discovery(config.get("discoverySelectors")),
        telemetry=_telemetry(config),
        proxy_config=_proxy_config(config)[0],
        merges_metrics=config.get("enablePrometheusMerge") is not False,
        paths=_paths(config.get("pathNormalization")),
        registry_only=_is_registry_only(config.get("outboundTrafficPolicy")),
        service_export_to=services,
        virtual_service_export_to=virtual_services,
        destination_rule_export_to=destination_rules,
        cluster_local=(*settings.cluster_local, *_cluster_local(config.get("serviceSettings") or ())),
    )


def _telemetry(config: Mapping[str, Any]) -> TelemetryDefaults:
    try:
        return telemetry_defaults_of(config)[0]
    except (AttributeError, TypeError, ValueError) as error:
        raise BadMeshConfig(f"telemetry: {error}") from None


def _proxy_config(config: Mapping[str, Any]) -> tuple[ProxyConfig, tuple[Word, ...]]:
    try:
        return default_config_of(config)
    except ValueError as error:
        raise BadMeshConfig(f"defaultConfig: {error}") from None


def from_config_map(
    settings: MeshSettings, config_map: ConfigMap | None, cluster: ClusterId
) -> tuple[MeshSettings, tuple[Issue, ...]]:
    """From the ConfigMap `istio`. A mistake is an issue, and leaves the settings as they were."""
    if config_map is None:
        return settings, ()
    metadata = config_map.metadata
    subject = Subject(cluster, "ConfigMap", metadata.namespace, metadata.name)

    def issue(severity: Severity, field: str, what: str, fix: str) -> Issue:
        return Issue(subject=subject, code="ISM0107", severity=severity, what=what, fix=fix, field=f"data.{field}")

    def unusable(key: str, error: Exception) -> Issue:
        return issue(Severity.ERROR, key, f"cannot be used: {error}", "mend it; until then it has no effect")

    issues: list[Issue] = []
    try:
        networks = mesh_networks_of(document_of(config_map, _NETWORKS_KEY))
        settings = replace(settings, networks=networks)
    except (BadMeshConfig, BadMeshNetworks) as error:
        issues.append(unusable(_NETWORKS_KEY, error))
    try:
        config = document_of(config_map, _KEY)
        changed = with_mesh_config(settings, config)
    except BadMeshConfig as error:
        config, changed = {}, settings
        issues.append(unusable(_KEY, error))
    issues += [
        issue(Severity.INFO, f"{_KEY}.{name}", f"{name} is not read by this version", "leave it, or take it out")
        for name in not_read(config)
    ]
    issues += [
        issue(Severity.ERROR, f"{_KEY}", wrong, "correct it; until then its policies deny")
        for wrong in providers_of(config)[1]
    ]
    issues += [
        issue(Severity.ERROR, f"{_KEY}", wrong, "correct it; until then nothing is reported there")
        for wrong in telemetry_defaults_of(config)[1]
    ]
    issues += default_issues(_proxy_config(config)[1], subject)
    authorities, wrongs = peer_authorities(config, config_map.data, settings.trust_domain)
    endpoints, unusable_endpoints = bundle_endpoints(config, config_map.data, settings.trust_domain)
    issues += [
        issue(Severity.ERROR, key, f"cannot be used: {why}", "mend it; until then it vouches for nobody")
        for key, why in (*wrongs, *unusable_endpoints)
    ]
    domains = {*changed.peer_trust_domains, *(domain for domain, _ in authorities)}
    changed = replace(
        changed,
        peer_trust_domains=tuple(sorted(domains)),
        peer_authorities=authorities,
        imported_authorities=authorities,
        bundle_endpoints=endpoints,
    )
    for name, own in (("trustDomain", str(settings.trust_domain)), ("rootNamespace", settings.root_namespace)):
        if config.get(name, own) != own:
            issues.append(
                issue(
                    Severity.ERROR, f"{_KEY}.{name}", f"{name} {config[name]!r} is not the control plane's own, {own!r}",
                    "give the control plane's environment the same value",
                )
            )  # fmt: skip
    return changed, tuple(issues)


def signers_of(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of `caCertificates` that are signers' roots. Raises BadMeshConfig."""
    said = config.get("caCertificates") or []
    if not isinstance(said, list) or not all(isinstance(entry, dict) for entry in said):
        raise BadMeshConfig("caCertificates: is not a list of objects")
    found = [entry for entry in said if entry.get("certSigners")]
    if not all(isinstance(entry["certSigners"], list) for entry in found):
        raise BadMeshConfig("caCertificates: certSigners is not a list")
    return found


def document_of(config_map: ConfigMap, key: str) -> dict[str, Any]:
    """What the key holds, as YAML. Raises BadMeshConfig."""
    text = config_map.data.get(key, "")
    if not text:
        return {}
    import yaml  # Not before there is something to read: offline commands would wait for it.

    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise BadMeshConfig(str(error)) from None
    if not isinstance(document, dict):
        raise BadMeshConfig("is not an object")
    return document


def is_cluster_local(hostname: Hostname, rules: Sequence[tuple[str, bool]]) -> bool:
    """The most specific pattern decides (the host itself, then `*.namespace.svc…`, then `*`); of two alike, the later one."""
    decided, rank = False, (False, -1)
    for pattern, local in rules:
        here = (pattern == hostname, len(pattern))
        if covers(pattern, hostname) and here >= rank:
            decided, rank = local, here
    return decided


def _cluster_local(service_settings: Sequence[Any]) -> Iterator[tuple[str, bool]]:
    for index, entry in enumerate(service_settings):
        if not isinstance(entry, Mapping):
            raise BadMeshConfig(f"serviceSettings[{index}] is not an object")
        local = bool((entry.get("settings") or {}).get("clusterLocal", False))
        yield from ((str(host), local) for host in entry.get("hosts") or ())


def _discovery(said: object) -> tuple[LabelSelector, ...]:
    try:
        return selectors_of(said)
    except BadSelector as error:
        raise BadMeshConfig(str(error)) from None


def _is_registry_only(said: object) -> bool:
    if said is not None and not isinstance(said, Mapping):
        raise BadMeshConfig("outboundTrafficPolicy: is not an object")
    return said is not None and said.get("mode") == REGISTRY_ONLY


def _paths(said: object) -> PathNormalization:
    if said is not None and not isinstance(said, Mapping):
        raise BadMeshConfig("pathNormalization: is not an object")
    name = said.get("normalization", _DEFAULT_PATHS) if said else _DEFAULT_PATHS
    if name == _DEFAULT_PATHS:
        return PathNormalization.BASE
    try:
        return PathNormalization(name)
    except ValueError:
        allowed = ", ".join((_DEFAULT_PATHS, *PathNormalization))
        raise BadMeshConfig(f"pathNormalization: {name!r} is none of {allowed}") from None


def _names(key: str, said: object) -> tuple[str, ...]:
    if not isinstance(said, list):
        raise BadMeshConfig(f"{key}: is not a list")
    return tuple(map(str, said))


def _locality(config: Mapping[str, Any]) -> LocalityPreference | None:
    """Zone awareness comes before places, where the mesh says both (as in Istio)."""
    zones, places = config.get("zoneAwareLbSetting"), config.get("localityLbSetting")
    try:
        if zones is not None:
            return zone_aware_of(read_as(ZoneAwareSetting, zones))
        return None if places is None else locality_of(read_as(LocalitySetting, places))
    except ValueError as error:
        raise BadMeshConfig(f"{'localityLbSetting' if zones is None else 'zoneAwareLbSetting'}: {error}") from None


def _retries(said: Any) -> Retries | None:
    if said is None:
        return None
    try:
        found = retries_of(read_as(RetriesObject, said), "defaultHttpRetryPolicy")
    except ValueError as error:
        raise BadMeshConfig(f"defaultHttpRetryPolicy: {error}") from None
    for where, why in refused_retries(found):
        raise BadMeshConfig(f"{where.replace('retries', 'defaultHttpRetryPolicy', 1)}: {why}")
    return found


def _traffic_policy(config: Mapping[str, Any]) -> TrafficPolicy:
    """What holds for every destination: defaultTrafficPolicy, and what older MeshConfigs say one by one."""
    try:
        whole = read_as(TrafficPolicyObject, config.get("defaultTrafficPolicy") or {})
        pool = whole.connection_pool or ConnectionPoolObject()
        keepalive = config.get("tcpKeepalive")
        tcp = msgspec.structs.replace(
            pool.tcp,
            connect_timeout=pool.tcp.connect_timeout or str(config.get("connectTimeout") or ""),
            tcp_keepalive=pool.tcp.tcp_keepalive or (read_as(TcpKeepalive, keepalive) if keepalive else None),
        )
        upgrade = pool.http.h2_upgrade_policy or str(config.get("h2UpgradePolicy") or "")
        pool = ConnectionPoolObject(tcp=tcp, http=msgspec.structs.replace(pool.http, h2_upgrade_policy=upgrade))
        said = pool != ConnectionPoolObject()
        return mesh_policy_of(msgspec.structs.replace(whole, connection_pool=pool if said else None))
    except ValueError as error:
        raise BadMeshConfig(f"defaultTrafficPolicy, connectTimeout, tcpKeepalive or h2UpgradePolicy: {error}") from None


def _peer_domains(authorities: object, own: TrustDomain) -> tuple[TrustDomain, ...]:
    """The trust domains for which authorities are given; authorities without one vouch for no further domain."""
    if not isinstance(authorities, Sequence) or isinstance(authorities, str):
        raise BadMeshConfig("caCertificates: is not a list")
    found = []
    for index, entry in enumerate(authorities):
        if not isinstance(entry, Mapping):
            raise BadMeshConfig(f"caCertificates[{index}]: is not an object")
        found += [
            _trust_domain(name, f"caCertificates[{index}].trustDomains") for name in entry.get("trustDomains") or ()
        ]
    return tuple(sorted({domain for domain in found if domain != own}))


def _trust_domain(text: object, field: str = "trustDomainAliases") -> TrustDomain:
    try:
        return TrustDomain.parse(str(text))
    except ValueError as error:
        raise BadMeshConfig(f"{field}: {error}") from None
