"""Fields of other people's APIs that Isthmus does not read, by type: they are theirs, and kept where somebody writes them."""

from __future__ import annotations

UNREAD: dict[str, str] = {
    "envoy_filter.EnvoyFilterSpec": "targetRef",
    "envoy_filter.FilterMatch": "destinationPort",
    "envoy_filter.PatchMatch": "waypoint",
    "gateway.GatewayPort": "targetPort",
    "gateway.GatewayServer": "defaultEndpoint",
    "gateway.GatewayTls": "tlsCertificates",
    "gateway_api.BackendTlsSpec": "options",
    "gateway_api.GatewayClassSpec": "description parametersRef",
    "gateway_api.GatewayInfrastructure": "parametersRef",
    "gateway_api.GatewayTlsConfig": "backend",
    "gateway_api.KubernetesGatewaySpec": "backendTLS defaultScope",
    "gateway_api.ObjectReference": "port",
    "gateway_api.RouteFilter": "extensionRef externalAuth",
    "gateway_api.RouteSpec": "useDefaultGateways",
    "multicluster.ServiceImportSpec": "internalTrafficPolicy ipFamilies trafficDistribution",
    "networking.SidecarPort": "targetPort",
    "proxy_config.ProxyConfigSpec": "image",
    "security.JwtRule": "jwks_uri presence",
    "telemetry.TracingRule": "disableContextPropagation",
    "virtual_service.ConnectionMatch": "sourceSubnet",
}
"""Words by `module.Type`. A subclass has those of its bases."""
