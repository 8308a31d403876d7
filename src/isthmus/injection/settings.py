"""What injection has to know about the mesh and the cluster, and what one Pod's annotations change of it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from typing import Any

import yaml

from isthmus.injection.selection import DEFAULT_REVISION
from isthmus.model.proxy_config import NOTHING_SAID, ProxyConfig, ProxyConfigs
from isthmus.model.proxy_config_words import Word, read
from isthmus.model.values import dataclass

Object = dict[str, Any]

PROXY_CONFIG = "proxy.istio.io/config"
_TRAFFIC = "traffic.sidecar.istio.io/"
_SIDECAR = "sidecar.istio.io/"
_SEGMENTS = ("cluster", "net")
_IMAGE = re.compile(r"[\w.:/@-]+")
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi)?")


class BadRequest(ValueError):
    """What the webhook was asked, or a Pod's annotation, cannot be done; the text says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionSettings:
    """Of one control plane, for one cluster. `discovery_address` is host:port of its token port.

    `native`: the proxy is an init container that goes on running, so that it starts before everything else of the Pod and ends after it.
    `rewrite_probes`: the kubelet, which has no identity, asks the agent instead of the workload.
    """

    cluster: str
    network: str
    mesh: str
    trust_domain: str
    system_namespace: str
    discovery_address: str
    image: str
    revision: str = DEFAULT_REVISION
    native: bool = True
    rewrite_probes: bool = True
    dns_capture: bool = True
    proxies: ProxyConfigs = field(default_factory=ProxyConfigs)
    """How proxies are run, where their Pods do not say it."""

    @property
    def own_proxies(self) -> ProxyConfigs:
        """MeshConfig is all revisions' together, and names the default one's address: another revision keeps its own."""
        if self.revision == DEFAULT_REVISION:
            return self.proxies
        return replace(self.proxies, default=replace(self.proxies.default, discovery_address=""))

    def at(self, path: str) -> InjectionSettings:
        """For what the path of the request says: `/inject/cluster/east/net/n1`, or Istio's `:ENV:cluster=east:ENV:net=n1`.

        Raises BadRequest.
        """
        said = dict(_in_path(path))
        return replace(self, cluster=said.get("cluster", self.cluster), network=said.get("net", self.network))


def _in_path(path: str) -> Iterator[tuple[str, str]]:
    rest = path.strip("/").removeprefix("inject").strip("/")
    if not rest:
        return
    if rest.startswith(":ENV:"):
        pairs = [part.partition("=")[::2] for part in rest.removeprefix(":ENV:").split(":ENV:")]
    else:
        parts = rest.split("/")
        if len(parts) % 2:
            raise BadRequest(f"path {path!r}: write it as /inject/cluster/ID/net/NETWORK")
        pairs = list(zip(parts[::2], parts[1::2], strict=True))
    for key, value in pairs:
        if key not in _SEGMENTS or not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", value):
            raise BadRequest(f"path {path!r}: {key}={value} is neither a cluster nor a net")
        yield key, value


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Which of a Pod's connections are led into its proxy. Ports are `*` or lists; ranges are CIDRs or `*`."""

    inbound_ports: str = "*"
    excluded_inbound_ports: str = ""
    outbound_ranges: str = "*"
    excluded_outbound_ranges: str = ""
    outbound_ports: str = ""
    excluded_outbound_ports: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodWishes:
    """What a Pod's annotations ask for. `resources` are requests and limits; `unheard` is what has no effect."""

    capture: Capture
    proxy_config: ProxyConfig
    image: str
    native: bool
    rewrite_probes: bool
    resources: Object
    log_level: str
    unheard: tuple[Word, ...] = ()


_CAPTURE = {
    "includeInboundPorts": "inbound_ports",
    "excludeInboundPorts": "excluded_inbound_ports",
    "includeOutboundIPRanges": "outbound_ranges",
    "excludeOutboundIPRanges": "excluded_outbound_ranges",
    "includeOutboundPorts": "outbound_ports",
    "excludeOutboundPorts": "excluded_outbound_ports",
}
_RESOURCES = {
    "proxyCPU": ("requests", "cpu"),
    "proxyMemory": ("requests", "memory"),
    "proxyCPULimit": ("limits", "cpu"),
    "proxyMemoryLimit": ("limits", "memory"),
}
_LEVELS = frozenset(("trace", "debug", "info", "warning", "error", "critical", "off"))
_DEFAULT_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2000m", "memory": "1024Mi"}}


def wishes_of(annotations: Mapping[str, str], settings: InjectionSettings) -> PodWishes:
    """Raises BadRequest for an annotation that cannot be used: a Pod that is captured otherwise than it asked must not start."""
    image = annotations.get(_SIDECAR + "proxyImage", "") or settings.image
    if not _IMAGE.fullmatch(image):
        raise BadRequest(f"annotation {_SIDECAR}proxyImage: {image!r} is not an image")
    level = annotations.get(_SIDECAR + "logLevel", "warning")
    if level not in _LEVELS:
        raise BadRequest(f"annotation {_SIDECAR}logLevel: {level!r} is none of {', '.join(sorted(_LEVELS))}")
    config, unheard = own_proxy_config(annotations)
    return PodWishes(
        capture=_capture(annotations),
        proxy_config=config,
        image=image,
        native=_flag(annotations, _SIDECAR + "nativeSidecar", settings.native),
        rewrite_probes=_flag(annotations, _SIDECAR + "rewriteAppHTTPProbers", settings.rewrite_probes),
        resources=_resources(annotations),
        log_level=level,
        unheard=unheard,
    )


def _capture(annotations: Mapping[str, str]) -> Capture:
    said = {}
    for name, attribute in _CAPTURE.items():
        value = annotations.get(_TRAFFIC + name)
        if value is not None:
            said[attribute] = ",".join(part.strip() for part in value.split(",") if part.strip())
    found = Capture(**said)
    check_capture(found)
    return found


def check_capture(wanted: Capture) -> None:
    """Raises BadRequest for what is no port or no range; it names the annotation by which Pods say it."""
    for name, attribute in _CAPTURE.items():
        value = getattr(wanted, attribute)
        is_range = name.endswith("Ranges")
        for part in filter(None, value.split(",")):
            if value == "*" and name.startswith("include"):
                continue
            if not (_is_range(part) if is_range else _is_port(part)):
                what = "a CIDR" if is_range else "a port"
                raise BadRequest(f"annotation {_TRAFFIC}{name}: {part!r} is not {what}")


def own_proxy_config(annotations: Mapping[str, str]) -> tuple[ProxyConfig, tuple[Word, ...]]:
    """What a Pod says of its own proxy, and what of that has no effect. Raises BadRequest for what cannot be used."""
    text = annotations.get(PROXY_CONFIG, "")
    if not text.strip():
        return NOTHING_SAID, ()
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadRequest(f"annotation {PROXY_CONFIG}: is not YAML: {error}") from None
    if not isinstance(found, dict):
        raise BadRequest(f"annotation {PROXY_CONFIG}: is not an object")
    config, rest = read(found)
    for word in rest:
        if word.is_wrong:
            raise BadRequest(f"annotation {PROXY_CONFIG}: {word.field}: {word.why}")
    return config, rest


def _resources(annotations: Mapping[str, str]) -> Object:
    said: Object = {}
    for name, (part, resource) in _RESOURCES.items():
        value = annotations.get(_SIDECAR + name)
        if value is not None:
            if not _QUANTITY.fullmatch(value):
                raise BadRequest(f"annotation {_SIDECAR}{name}: {value!r} is not a quantity")
            said.setdefault(part, {})[resource] = value
    # Whoever says one of them has thought of both, as in Istio.
    return said or {part: dict(values) for part, values in _DEFAULT_RESOURCES.items()}


def _flag(annotations: Mapping[str, str], name: str, otherwise: bool) -> bool:
    value = annotations.get(name)
    if value is None:
        return otherwise
    if value.lower() not in ("true", "false"):
        raise BadRequest(f"annotation {name}: {value!r} is neither true nor false")
    return value.lower() == "true"


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


def _is_range(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text
