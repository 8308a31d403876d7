"""The agent of one Pod: what its environment and its files say becomes the agent's settings and its one proxy. No I/O.

Names are Istio's: what an injector puts into a Pod for Istio's agent says the same here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from isthmus.agent.specification import AgentSettings, ProxySpec
from isthmus.dns.client import resolver_of

Object = dict[str, Any]

ROLES = ("sidecar", "router")
_META, _META_JSON = "ISTIO_META_", "ISTIO_METAJSON_"
_NETWORK_LABEL = "topology.istio.io/network"
_TOLD_OTHERWISE = frozenset(("CLUSTER_ID", "MESH_ID", "NETWORK", "NODE_NAME", "WORKLOAD_NAME", "DNS_CAPTURE"))
_DRAIN_SECONDS = 5.0
_CONCURRENCY = 2
_CERTIFICATE_SECONDS = 86400.0
_LABEL = re.compile(r'([^=\s]+)=("(?:[^"\\]|\\.)*")')
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class BadPod(ValueError):
    """An environment or a file from which no proxy can be made; the text says which, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPaths:
    """What is mounted into the Pod, and the folder that is the proxy's own."""

    token: Path
    roots: Path
    labels: Path
    directory: Path
    resolv_conf: Path


@dataclass(frozen=True, slots=True)
class PodTexts:
    """What is in the files: labels as the downward API writes them, and the resolver's configuration."""

    labels: str
    resolv_conf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodAgent:
    """`probers` is what the kubelet wants to know of the workload, by path."""

    settings: AgentSettings
    proxy: ProxySpec
    probers: Mapping[str, Object]
    drain_seconds: float


def pod_agent(role: str, environment: Mapping[str, str], paths: PodPaths, texts: PodTexts) -> PodAgent:
    """Raises BadPod."""
    config = _proxy_config(environment)
    namespace, name = _required(environment, "POD_NAMESPACE"), _required(environment, "POD_NAME")
    labels = labels_of(texts.labels)
    servers, domains = resolver_of(texts.resolv_conf)
    metadata = dict(_metadata(environment))
    return PodAgent(
        settings=_settings(environment, config),
        proxy=ProxySpec(
            kind=role,
            namespace=namespace,
            name=name,
            service_account=environment.get("SERVICE_ACCOUNT", "default"),
            ip=_required(environment, "INSTANCE_IP"),
            node=environment.get("ISTIO_META_NODE_NAME", ""),
            labels=labels,
            workload_name=environment.get("ISTIO_META_WORKLOAD_NAME", name),
            # The Pod's label is what the mesh goes by; the variable is what the injector thought of the whole cluster.
            network=labels.get(_NETWORK_LABEL, environment.get("ISTIO_META_NETWORK", "")),
            network_view=str(metadata.pop("REQUESTED_NETWORK_VIEW", "")),
            dns_capture=role == "sidecar"
            and not environment.get("GRPC_XDS_BOOTSTRAP")
            and _flag(environment, "ISTIO_META_DNS_CAPTURE", default=True),
            grpc_bootstrap=environment.get("GRPC_XDS_BOOTSTRAP", ""),
            token_file=str(paths.token),
            root_cert_file=str(paths.roots),
            net_namespace="",
            directory=str(paths.directory),
            name_servers=servers,
            search_domains=domains,
            marks_sockets=False,
            metadata=metadata,
            concurrency=_concurrency(config),
            log_level=environment.get("ISTHMUS_ENVOY_LOG_LEVEL", "warning"),
        ),
        probers=_json_object(environment, "ISTIO_KUBE_APP_PROBERS"),
        drain_seconds=_seconds(
            str(config.get("terminationDrainDuration") or ""), _DRAIN_SECONDS, "PROXY_CONFIG.terminationDrainDuration"
        ),
    )


def _settings(environment: Mapping[str, str], config: Object) -> AgentSettings:
    addresses = [part.strip() for part in str(config.get("discoveryAddress", "")).split(",") if part.strip()]
    if not addresses:
        addresses = ["istiod.istio-system.svc:15012"]
    for address in addresses:
        host, colon, port = address.rpartition(":")
        if not host or not colon or not port.isdigit():
            raise BadPod(f"PROXY_CONFIG.discoveryAddress: {address!r} is not host:port")
    host = addresses[0].rpartition(":")[0]
    named = not re.fullmatch(r"[\d.]+|\[.*\]", host)
    return AgentSettings(
        socket="",
        cluster_id=environment.get("ISTIO_META_CLUSTER_ID", "Kubernetes"),
        mesh_id=environment.get("ISTIO_META_MESH_ID", "mesh1"),
        trust_domain=environment.get("TRUST_DOMAIN", "cluster.local"),
        control_planes=addresses,
        control_plane_name=environment.get("PILOT_SAN") or (host if named else "istiod.istio-system.svc"),
        dns_domain=environment.get("DNS_DOMAIN", "cluster.local"),
        certificate_seconds=int(_seconds(environment.get("SECRET_TTL", ""), _CERTIFICATE_SECONDS, "SECRET_TTL")),
    )


def labels_of(text: str) -> dict[str, str]:
    """From the downward API's file: a line `key="value"` each, quoted as in Go. Raises BadPod."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _LABEL.fullmatch(line)
        if match is None:
            raise BadPod(f"the file of labels has a line that is no label: {line[:80]!r}")
        found[match[1]] = str(json.loads(match[2]))
    return found


def _metadata(environment: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """What has no place of its own in a specification is passed on as it is."""
    for name in sorted(environment):
        if name.startswith(_META_JSON):
            yield from _json_object(environment, name).items()
        elif name.startswith(_META) and name.removeprefix(_META) not in _TOLD_OTHERWISE and environment[name]:
            yield name.removeprefix(_META), environment[name]


def _proxy_config(environment: Mapping[str, str]) -> Object:
    return _json_object(environment, "PROXY_CONFIG")


def _json_object(environment: Mapping[str, str], name: str) -> Object:
    text = environment.get(name, "")
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise BadPod(f"{name}: is not a JSON object: {error}") from None


def _concurrency(config: Object) -> int:
    wanted = config.get("concurrency", _CONCURRENCY)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not 0 <= wanted <= 256:
        raise BadPod(f"PROXY_CONFIG.concurrency: {wanted!r} is not a number of threads")
    return wanted


def _seconds(text: str, otherwise: float, name: str) -> float:
    if not text:
        return otherwise
    match = _DURATION.fullmatch(text)
    if match is None:
        raise BadPod(f"{name}: {text!r} is not a duration such as 5s, 2m or 24h")
    return float(match[1]) * _UNITS[match[2]]


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise BadPod(f"{name} is not set: the Pod's downward API gives it")
    return value


def _flag(environment: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environment.get(name, "").lower()
    if text not in ("", "true", "false", "1", "0"):
        raise BadPod(f"{name}: {text!r} is neither true nor false")
    return text in ("true", "1") if text else default
