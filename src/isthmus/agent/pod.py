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

from isthmus.agent.specification import AgentSettings, ProxySpec, Scraped
from isthmus.dns.client import resolver_of
from isthmus.model.durations import seconds_of
from isthmus.model.proxy_config import ProxyConfig
from isthmus.model.proxy_config_words import read

Object = dict[str, Any]

ROLES = ("sidecar", "router")
META, _META_JSON = "ISTIO_META_", "ISTIO_METAJSON_"
_LABELS = "ISTIO_METAJSON_LABELS"
_NETWORK_LABEL = "topology.istio.io/network"
TOLD_OTHERWISE = frozenset(("CLUSTER_ID", "MESH_ID", "NETWORK", "NODE_NAME", "WORKLOAD_NAME", "DNS_CAPTURE"))
_DRAIN_SECONDS = 5.0
_CONCURRENCY = 2
_CONTROL_PLANE = "istiod.istio-system.svc:15012"
_CERTIFICATE_SECONDS = 86400.0
_LABEL = re.compile(r'([^=\s]+)=("(?:[^"\\]|\\.)*")')


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
    """`probers` is what the kubelet wants to know of the workload, by path; `metrics` where the workload has some of its own."""

    settings: AgentSettings
    proxy: ProxySpec
    probers: Mapping[str, Object]
    metrics: Scraped | None
    drain_seconds: float


def pod_agent(role: str, environment: Mapping[str, str], paths: PodPaths, texts: PodTexts) -> PodAgent:
    """Raises BadPod."""
    said = _proxy_config(environment)
    config, unheard = read(said)
    for word in unheard:
        if word.is_wrong:
            raise BadPod(f"PROXY_CONFIG.{word.field}: {word.why}")
    namespace, name = _required(environment, "POD_NAMESPACE"), _required(environment, "POD_NAME")
    ip = _required(environment, "INSTANCE_IP")
    # What is said of this proxy alone counts more than what its Pod was made with.
    labels = labels_of(texts.labels) | _told_labels(environment.get(_LABELS, ""))
    servers, domains = resolver_of(texts.resolv_conf)
    metadata = dict(_metadata(environment))
    return PodAgent(
        settings=_settings(environment, config),
        proxy=ProxySpec(
            kind=role,
            namespace=namespace,
            name=name,
            service_account=environment.get("SERVICE_ACCOUNT", "default"),
            ip=ip,
            other_ips=[each for each in environment.get("INSTANCE_IPS", "").split(",") if each not in ("", ip)],
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
            concurrency=_CONCURRENCY if config.concurrency is None else config.concurrency,
            log_level=environment.get("ISTHMUS_ENVOY_LOG_LEVEL", "warning"),
            proxy_config=said,
        ),
        probers=_json_object(environment, "ISTIO_KUBE_APP_PROBERS"),
        metrics=_scraped(_json_object(environment, "ISTIO_PROMETHEUS_ANNOTATIONS")),
        drain_seconds=_DRAIN_SECONDS if config.termination_drain_seconds is None else config.termination_drain_seconds,
    )


def _settings(environment: Mapping[str, str], config: ProxyConfig) -> AgentSettings:
    addresses = [part.strip() for part in (config.discovery_address or _CONTROL_PLANE).split(",")]
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


def _scraped(said: Object) -> Scraped | None:
    """As the Pod's annotations had it before injection put the agent there."""
    if str(said.get("scrape", "")).lower() != "true":
        return None
    port, path = str(said.get("port") or "80"), str(said.get("path") or "/metrics")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise BadPod(f"ISTIO_PROMETHEUS_ANNOTATIONS: port {port!r} is not a port")
    return Scraped(int(port), "/" + path.lstrip("/"))


def labels_of(text: str) -> dict[str, str]:
    """From the downward API's file: a line `key="value"` each, quoted as in Go. Raises BadPod."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _LABEL.fullmatch(line)
        if match is None:
            raise BadPod(f"the file of labels has a line that is no label: {line[:80]!r}")
        found[match[1]] = str(json.loads(match[2]))
    return found


def _told_labels(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise BadPod(f"{_LABELS}: is not an object of labels: {error}") from None


def _metadata(environment: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """What has no place of its own in a specification is passed on as it is."""
    for name in sorted(environment):
        if name == _LABELS:
            continue
        if name.startswith(_META_JSON):
            yield from _json_object(environment, name).items()
        elif name.startswith(META) and name.removeprefix(META) not in TOLD_OTHERWISE and environment[name]:
            yield name.removeprefix(META), environment[name]


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


def _seconds(text: str, otherwise: float, name: str) -> float:
    try:
        return seconds_of(text) if text else otherwise
    except ValueError as error:
        raise BadPod(f"{name}: {error}") from None


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
