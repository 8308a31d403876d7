"""The question itself: an object in, a verdict out. Meaning is asked only of what has the right shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from isthmus.assurance.validation import networking, networking_rules, security, security_rules
from isthmus.assurance.validation.destination_rule import destination_rule
from isthmus.assurance.validation.shapes import ANY, PORT, Shape, duration, findings, many, mapping, record, text
from isthmus.assurance.validation.terms import Object, bad_host, dns_label, is_cidr, is_ip
from isthmus.assurance.validation.virtual_service import virtual_service

Rules = Callable[[Object, list[str]], Iterator[str]]
_KINDS: dict[str, tuple[Shape, Rules]] = {
    "VirtualService": (networking.VIRTUAL_SERVICE, virtual_service),
    "DestinationRule": (networking.DESTINATION_RULE, destination_rule),
    "Gateway": (networking.GATEWAY, networking_rules.gateway),
    "ServiceEntry": (networking.SERVICE_ENTRY, networking_rules.service_entry),
    "WorkloadEntry": (networking.WORKLOAD_ENTRY, networking_rules.workload_entry),
    "WorkloadGroup": (networking.WORKLOAD_GROUP, networking_rules.workload_group),
    "Sidecar": (networking.SIDECAR, networking_rules.sidecar),
    "ProxyConfig": (networking.PROXY_CONFIG, networking_rules.proxy_config),
    "EnvoyFilter": (networking.ENVOY_FILTER, networking_rules.envoy_filter),
    "PeerAuthentication": (security.PEER_AUTHENTICATION, security_rules.peer_authentication),
    "RequestAuthentication": (security.REQUEST_AUTHENTICATION, security_rules.request_authentication),
    "AuthorizationPolicy": (security.AUTHORIZATION_POLICY, security_rules.authorization_policy),
    "Telemetry": (security.TELEMETRY, security_rules.telemetry),
}
_NEEDS_SPEC = {"ServiceEntry", "WorkloadEntry", "WorkloadGroup"}
_NETWORKS = record({
    "networks": mapping(record({
        "endpoints": many(record({"fromCidr": text(), "fromRegistry": text()}, one_of=(("fromCidr", "fromRegistry"),))),
        "gateways": many(record(
            {"address": text(), "registryServiceName": text(), "port": PORT, "locality": text()},
            ("port",), (("address", "registryServiceName"),),
        )),
    })),
})  # fmt: skip


def validate(item: Any) -> Object:
    """{valid, errors, warnings} of one object."""
    if not isinstance(item, dict) or not isinstance(item.get("kind"), str):
        return _verdict(["is not an object with a kind"], [])
    kind, group = item["kind"], str(item.get("apiVersion", "")).partition("/")[0]
    if kind not in _KINDS or not group.endswith(".istio.io"):
        return _verdict([], [f"{kind}: this kind is not checked"])
    shape, rules = _KINDS[kind]
    if kind in _NEEDS_SPEC and item.get("spec") is None:
        return _verdict(["spec: is required"], [])
    errors = list(findings(shape, item.get("spec"), "spec"))
    warnings: list[str] = []
    if not errors:
        errors += rules(_without_nulls(item), warnings)
    return _verdict(errors, warnings)


def validate_mesh(mesh_config: Any = None, mesh_networks: Any = None) -> Object:
    """The same of a MeshConfig, a MeshNetworks, or both."""
    errors: list[str] = []
    if mesh_config is not None:
        errors += _of_mesh_config(mesh_config)
    if mesh_networks is not None:
        found = list(findings(_NETWORKS, mesh_networks, "meshNetworks"))
        errors += found or _of_networks(mesh_networks.get("networks") or {})
    return _verdict(errors, [])


# What is read of a MeshConfig has a shape; the rest is passed over.
_CONFIG = {
    "trustDomain": text(), "trustDomainAliases": many(text()), "connectTimeout": duration(0.001),
    "protocolDetectionTimeout": duration(0), "defaultConfig": ANY, "proxyListenPort": PORT,
}  # fmt: skip


def _of_mesh_config(config: Any) -> Iterator[str]:
    if not isinstance(config, dict):
        yield "meshConfig: must be an object"
        return
    known = {name: value for name, value in config.items() if name in _CONFIG}
    problems = list(findings(record(_CONFIG), known, "meshConfig"))
    yield from problems
    if problems:
        return
    for domain in [known.get("trustDomain") or "cluster.local", *(known.get("trustDomainAliases") or [])]:
        if not domain or not all(dns_label(label) for label in domain.split(".")):
            yield f"meshConfig.trustDomain: {domain!r} is not a trust domain"


def _of_networks(networks: Object) -> Iterator[str]:
    for name, network in networks.items():
        for endpoint in (network or {}).get("endpoints") or []:
            if endpoint.get("fromCidr") and not is_cidr(endpoint["fromCidr"]):
                yield f"meshNetworks.networks[{name}]: {endpoint['fromCidr']!r} is not a CIDR"
        for gateway in (network or {}).get("gateways") or []:
            address, service = gateway.get("address") or "", gateway.get("registryServiceName") or ""
            if (address and not is_ip(address) and bad_host(address)) or (service and bad_host(service)):
                yield f"meshNetworks.networks[{name}].gateways: {address or service!r} is not an address or host"
            if not gateway["port"]:
                yield f"meshNetworks.networks[{name}].gateways.port: must not be 0"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _verdict(errors: list[str], warnings: list[str]) -> Object:
    return {"valid": not errors, "errors": errors, "warnings": warnings}
