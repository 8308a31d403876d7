"""Istio's annotations: on which kinds they stand, in which phase they are, and what values they take (istio.io/docs/reference/config/annotations)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from isthmus.injection.settings import PROXY_CONFIG, BadRequest, own_proxy_config
from isthmus.model.values import dataclass

ANY_KIND = "*"
_PODS = ("Pod",)


@dataclass(frozen=True, slots=True)
class Annotation:
    """`bad` says what is wrong with a value; empty when nothing is."""

    kinds: tuple[str, ...]
    is_alpha: bool = True
    is_deprecated: bool = False
    bad: Callable[[str], str] = lambda value: ""


def _whole(value: str) -> str:
    return "" if value.isascii() and value.isdecimal() and len(value) < 10 else f"{value!r} is not a whole number"


def _flag(value: str) -> str:
    return "" if value.lower() in ("true", "false", "1", "0", "t", "f") else f"{value!r} is neither true nor false"


def _ports(value: str) -> str:
    for part in filter(None, (part.strip() for part in value.split(","))):
        if part != "*" and (_whole(part) or not 0 < int(part) <= 65535):
            return f"{part!r} is not a port"
    return ""


def _ranges(value: str) -> str:
    for part in filter(None, (part.strip() for part in value.split(","))):
        try:
            if part != "*":
                ipaddress.ip_network(part, strict=False)
        except ValueError:
            return f"{part!r} is not a range of addresses"
    return ""


def _interception(value: str) -> str:
    return "" if value in ("REDIRECT", "TPROXY", "NONE") else f"{value!r} is none of REDIRECT, TPROXY, NONE"


def _proxy_config(value: str) -> str:
    try:
        own_proxy_config({PROXY_CONFIG: value})
    except BadRequest as error:
        return str(error).removeprefix(f"annotation {PROXY_CONFIG}: ")
    return ""


ANNOTATIONS: dict[str, Annotation] = {
    "alpha.istio.io/canonical-serviceaccounts": Annotation(("Service",)),
    "alpha.istio.io/identity": Annotation(("ServiceAccount",), is_deprecated=True),
    "alpha.istio.io/kubernetes-serviceaccounts": Annotation(("Service",)),
    "ambient.istio.io/bypass-inbound-capture": Annotation(_PODS),
    "ambient.istio.io/dns-capture": Annotation(_PODS, is_alpha=False),
    "ambient.istio.io/redirection": Annotation((ANY_KIND,), is_alpha=False),
    "ambient.istio.io/waypoint-inbound-binding": Annotation(("GatewayClass", "Gateway")),
    "galley.istio.io/analyze-hints": Annotation((ANY_KIND,)),
    "galley.istio.io/analyze-suppress": Annotation((ANY_KIND,)),
    "gateway.istio.io/controller-version": Annotation((ANY_KIND,), is_alpha=False),
    "gateway.istio.io/name-override": Annotation(("Gateway",)),
    "gateway.istio.io/service-account": Annotation(("Gateway",)),
    "inject.istio.io/templates": Annotation(_PODS),
    "install.operator.istio.io/chart-owner": Annotation((ANY_KIND,)),
    "install.operator.istio.io/owner-generation": Annotation((ANY_KIND,)),
    "install.operator.istio.io/version": Annotation((ANY_KIND,)),
    "istio.io/autoRegistrationGroup": Annotation(("WorkloadEntry",)),
    "istio.io/connectedAt": Annotation(("WorkloadEntry",)),
    "istio.io/disconnectedAt": Annotation(("WorkloadEntry",)),
    "istio.io/dry-run": Annotation(("AuthorizationPolicy",), bad=_flag),
    "istio.io/reroute-virtual-interfaces": Annotation(_PODS),
    "istio.io/rev": Annotation((ANY_KIND,), is_alpha=False),
    "istio.io/workloadController": Annotation(("WorkloadEntry",)),
    "kubernetes.io/ingress.class": Annotation(("Ingress",), is_alpha=False),
    "networking.istio.io/address-type": Annotation(("Gateway",)),
    "networking.istio.io/exportTo": Annotation(("Service",)),
    "networking.istio.io/service-type": Annotation(("Gateway",)),
    "networking.istio.io/traffic-distribution": Annotation(("Service", "ServiceEntry", "Namespace"), is_alpha=False),
    "prometheus.istio.io/merge-metrics": Annotation(_PODS, bad=_flag),
    PROXY_CONFIG: Annotation(_PODS, is_alpha=False, bad=_proxy_config),
    "proxy.istio.io/overrides": Annotation(_PODS),
    "readiness.status.sidecar.istio.io/applicationPorts": Annotation(_PODS, bad=_ports),
    "readiness.status.sidecar.istio.io/failureThreshold": Annotation(_PODS, bad=_whole),
    "readiness.status.sidecar.istio.io/initialDelaySeconds": Annotation(_PODS, bad=_whole),
    "readiness.status.sidecar.istio.io/periodSeconds": Annotation(_PODS, bad=_whole),
    "sidecar.istio.io/agentLogLevel": Annotation(_PODS),
    "sidecar.istio.io/bootstrapOverride": Annotation(_PODS),
    "sidecar.istio.io/componentLogLevel": Annotation(_PODS),
    "sidecar.istio.io/controlPlaneAuthPolicy": Annotation(_PODS, is_deprecated=True),
    "sidecar.istio.io/discoveryAddress": Annotation(_PODS, is_deprecated=True),
    "sidecar.istio.io/enableCoreDump": Annotation(_PODS, bad=_flag),
    "sidecar.istio.io/extraStatTags": Annotation(_PODS),
    "sidecar.istio.io/inject": Annotation(_PODS, is_alpha=False, bad=_flag),
    "sidecar.istio.io/interceptionMode": Annotation(_PODS, bad=_interception),
    "sidecar.istio.io/logLevel": Annotation(_PODS),
    "sidecar.istio.io/nativeSidecar": Annotation(_PODS, bad=_flag),
    "sidecar.istio.io/proxyCPU": Annotation(_PODS),
    "sidecar.istio.io/proxyCPULimit": Annotation(_PODS),
    "sidecar.istio.io/proxyImage": Annotation(_PODS),
    "sidecar.istio.io/proxyImageType": Annotation(_PODS),
    "sidecar.istio.io/proxyMemory": Annotation(_PODS),
    "sidecar.istio.io/proxyMemoryLimit": Annotation(_PODS),
    "sidecar.istio.io/rewriteAppHTTPProbers": Annotation(_PODS, bad=_flag),
    "sidecar.istio.io/statsCompression": Annotation(_PODS, bad=_flag),
    "sidecar.istio.io/statsHistogramBuckets": Annotation(_PODS),
    "sidecar.istio.io/statsInclusionPrefixes": Annotation(_PODS, is_deprecated=True),
    "sidecar.istio.io/statsInclusionRegexps": Annotation(_PODS, is_deprecated=True),
    "sidecar.istio.io/statsInclusionSuffixes": Annotation(_PODS, is_deprecated=True),
    "sidecar.istio.io/status": Annotation(_PODS, is_alpha=False),
    "sidecar.istio.io/userVolume": Annotation(_PODS),
    "sidecar.istio.io/userVolumeMount": Annotation(_PODS),
    "status.sidecar.istio.io/port": Annotation(_PODS, bad=_ports),
    "topology.istio.io/controlPlaneClusters": Annotation(("Namespace",)),
    "traffic.istio.io/nodeSelector": Annotation(("Service",), is_alpha=False),
    "traffic.sidecar.istio.io/excludeInboundPorts": Annotation(_PODS, bad=_ports),
    "traffic.sidecar.istio.io/excludeInterfaces": Annotation(_PODS),
    "traffic.sidecar.istio.io/excludeOutboundIPRanges": Annotation(_PODS, bad=_ranges),
    "traffic.sidecar.istio.io/excludeOutboundPorts": Annotation(_PODS, bad=_ports),
    "traffic.sidecar.istio.io/includeInboundPorts": Annotation(_PODS, bad=_ports),
    "traffic.sidecar.istio.io/includeOutboundIPRanges": Annotation(_PODS, bad=_ranges),
    "traffic.sidecar.istio.io/includeOutboundPorts": Annotation(_PODS, bad=_ports),
    "traffic.sidecar.istio.io/kubevirtInterfaces": Annotation(_PODS, is_deprecated=True),
}
# What an injector writes itself where Istio's CNI plugin is used; nobody chose it.
SET_BY_INJECTION = {
    "sidecar.istio.io/interceptionMode",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
}
