"""The question itself: an object in, a verdict out. Meaning is asked only of what has the right shape."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from isthmus.api.federation import GROUP as FEDERATION
from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation import (
    envoy_filter,
    gateway_api,
    global_names,
    networking,
    policies,
    security,
    service_entry,
)
from isthmus.assurance.validation.authorization import authorization_policy
from isthmus.assurance.validation.core_shapes import CORE, METADATA
from isthmus.assurance.validation.destination_rule import destination_rule
from isthmus.assurance.validation.gateway import gateway
from isthmus.assurance.validation.left_out import left_out
from isthmus.assurance.validation.mesh_peer import MESH_PEER, mesh_peer
from isthmus.assurance.validation.mesh_settings import problems_of_mesh_config, problems_of_mesh_networks
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.shapes import Shape, problems_of_shape
from isthmus.assurance.validation.sidecar import sidecar
from isthmus.assurance.validation.terms import Object
from isthmus.assurance.validation.unread import unread_fields
from isthmus.assurance.validation.virtual_service import virtual_service
from isthmus.model.values import dataclass

Rules = Callable[[Object], Iterator[Problem]]
Kind = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Known:
    """`shape` is the spec's; objects of some kinds are nothing without one."""

    shape: Shape
    rules: Rules
    needs_spec: bool = False


def _no_more(item: Object) -> Iterator[Problem]:
    """For kinds whose shape says all."""
    yield from ()


_NETWORKING, _SECURITY = "networking.istio.io", "security.istio.io"
_GATEWAYS, _CLUSTER_SET = "gateway.networking.k8s.io", "multicluster.x-k8s.io"
_KINDS: dict[Kind, _Known] = {
    (_NETWORKING, "VirtualService"): _Known(networking.VIRTUAL_SERVICE, virtual_service),
    (_NETWORKING, "DestinationRule"): _Known(networking.DESTINATION_RULE, destination_rule),
    (_NETWORKING, "Gateway"): _Known(networking.GATEWAY, gateway),
    (_NETWORKING, "ServiceEntry"): _Known(networking.SERVICE_ENTRY, service_entry.service_entry, True),
    (_NETWORKING, "WorkloadEntry"): _Known(networking.WORKLOAD_ENTRY, service_entry.workload_entry, True),
    (_NETWORKING, "WorkloadGroup"): _Known(networking.WORKLOAD_GROUP, service_entry.workload_group, True),
    (_NETWORKING, "Sidecar"): _Known(networking.SIDECAR, sidecar),
    (_NETWORKING, "ProxyConfig"): _Known(networking.PROXY_CONFIG, envoy_filter.proxy_config),
    (_NETWORKING, "EnvoyFilter"): _Known(networking.ENVOY_FILTER, envoy_filter.envoy_filter),
    ("extensions.istio.io", "WasmPlugin"): _Known(security.WASM_PLUGIN, envoy_filter.wasm_plugin, True),
    (_SECURITY, "PeerAuthentication"): _Known(security.PEER_AUTHENTICATION, policies.peer_authentication),
    (_SECURITY, "RequestAuthentication"): _Known(security.REQUEST_AUTHENTICATION, policies.request_authentication),
    (_SECURITY, "AuthorizationPolicy"): _Known(security.AUTHORIZATION_POLICY, authorization_policy),
    ("telemetry.istio.io", "Telemetry"): _Known(security.TELEMETRY, policies.telemetry),
    (_GATEWAYS, "Gateway"): _Known(gateway_api.GATEWAY, gateway_api.listeners, True),
    (_GATEWAYS, "ListenerSet"): _Known(gateway_api.LISTENER_SET, gateway_api.listeners, True),
    (_GATEWAYS, "GatewayClass"): _Known(gateway_api.GATEWAY_CLASS, _no_more, True),
    (_GATEWAYS, "HTTPRoute"): _Known(gateway_api.HTTP_ROUTE, gateway_api.route),
    (_GATEWAYS, "GRPCRoute"): _Known(gateway_api.GRPC_ROUTE, gateway_api.route),
    (_GATEWAYS, "TLSRoute"): _Known(gateway_api.L4_ROUTE, gateway_api.route, True),
    (_GATEWAYS, "TCPRoute"): _Known(gateway_api.L4_ROUTE, gateway_api.route, True),
    (_GATEWAYS, "UDPRoute"): _Known(gateway_api.L4_ROUTE, gateway_api.route, True),
    (_GATEWAYS, "BackendTLSPolicy"): _Known(gateway_api.BACKEND_TLS_POLICY, gateway_api.backend_tls_policy, True),
    (_GATEWAYS, "ReferenceGrant"): _Known(gateway_api.REFERENCE_GRANT, _no_more, True),
    ("admiral.io", "GlobalTrafficPolicy"): _Known(
        global_names.GLOBAL_TRAFFIC_POLICY, global_names.global_traffic_policy, True
    ),
    (_CLUSTER_SET, "ServiceExport"): _Known(gateway_api.SERVICE_EXPORT, _no_more),
    (_CLUSTER_SET, "ServiceImport"): _Known(gateway_api.SERVICE_IMPORT, _no_more, True),
    (FEDERATION, "MeshPeer"): _Known(MESH_PEER, mesh_peer, True),
}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
# Kinds that Istio reads and this version does not, with what says the same.
_SAID_OTHERWISE: dict[Kind, str] = {
    ("gateway.networking.x-k8s.io", "XListenerSet"): f"write it as a ListenerSet of {_GATEWAYS}/v1",
    ("networking.k8s.io", "Ingress"): "write a Gateway with HTTPRoutes, or Istio's Gateway with a VirtualService",
}
# Groups of which every kind should be known: a kind that is not is likely misspelt.
_OWN_GROUPS = {group for group, _ in _KINDS}


def known_shapes() -> dict[Kind, Shape]:
    """The shape of each kind's spec, by group and kind."""
    return {kind: known.shape for kind, known in _KINDS.items()}


def known_kinds() -> frozenset[Kind]:
    """Group and name of every kind whose types are checked."""
    return frozenset(_KINDS) | frozenset(CORE)


def problems_of(item: Any) -> list[Problem]:
    """All that is wrong with one object by itself, and what is doubtful about it."""
    if not isinstance(item, dict) or not isinstance(item.get("kind"), str):
        return [Problem(codes.NOT_AN_OBJECT, "$", "is not an object with a kind")]
    group = str(item.get("apiVersion") or "").rpartition("/")[0]
    kind = (group, item["kind"])
    if kind == ("", "List"):
        return [Problem(codes.WRONG_TYPE, "items", "a List must have a list of items")]
    problems = list(problems_of_shape(METADATA, item.get("metadata"), "metadata"))
    if not problems and (kind in CORE or kind in _KINDS):
        problems += _names(item.get("metadata") or {})
    if kind in CORE:
        for name, shape in CORE[kind].items():
            problems += problems_of_shape(shape, item.get(name), name)
        return problems
    known = _KINDS.get(kind)
    if known is None:
        return [*problems, _unknown(kind, item)]
    if known.needs_spec and item.get("spec") is None:
        return [*problems, Problem(codes.MISSING, "spec", "is required")]
    problems += problems_of_shape(known.shape, item.get("spec"), "spec")
    if not any(problem.is_error for problem in problems):
        plain = normalized(item)
        problems += known.rules(plain)
        if not any(problem.is_error for problem in problems):
            problems += left_out(plain)
        problems += unread_fields(group, item["kind"], item.get("spec"))
    return problems


def has_known_types(problems: Iterable[Problem]) -> bool:
    """Whether every field that is read has the type that its readers expect."""
    return not any(problem.code in (codes.WRONG_TYPE, codes.NULL, codes.NOT_AN_OBJECT) for problem in problems)


def validate(item: Any) -> Object:
    """{valid, errors, warnings, findings} of one object."""
    return verdict(problems_of(item))


def validate_mesh(mesh_config: Any = None, mesh_networks: Any = None) -> Object:
    """The same of a MeshConfig, a MeshNetworks, or both."""
    problems: list[Problem] = []
    if mesh_config is not None:
        problems += problems_of_mesh_config(mesh_config)
    if mesh_networks is not None:
        problems += problems_of_mesh_networks(mesh_networks)
    return verdict(problems)


def verdict(problems: Iterable[Problem]) -> Object:
    """Errors make an object invalid; what is doubtful is a warning; both with their places and codes under `findings`."""
    errors: list[str] = []
    warnings: list[str] = []
    findings: list[Object] = []
    for problem in problems:
        (errors if problem.is_error else warnings).append(str(problem))
        findings.append({
            "code": problem.code.id, "level": problem.code.severity.name.title(), "path": problem.path,
            "message": problem.what, "fix": problem.fix,
        })  # fmt: skip
    return {"valid": not errors, "errors": errors, "warnings": warnings, "findings": findings}


def _names(metadata: Object) -> Iterator[Problem]:
    """As every API server wants them (Kubernetes API conventions, object names)."""
    name = metadata.get("name")
    if not name and not metadata.get("generateName"):
        yield Problem(codes.MISSING, "metadata.name", "is required")
    elif name and (len(name) > 253 or not _NAME.fullmatch(name)):
        fix = f"write {name.lower()}" if _NAME.fullmatch(name.lower()) else ""
        yield Problem(codes.NOT_A_NAME, "metadata.name", f"{name!r} is not the name of an object", fix)
    namespace = metadata.get("namespace")
    if namespace and (len(namespace) > 63 or not _NAMESPACE.fullmatch(namespace)):
        yield Problem(codes.NOT_A_NAME, "metadata.namespace", f"{namespace!r} is not a namespace")


def _unknown(kind: Kind, item: Object) -> Problem:
    group, name = kind
    if kind in _SAID_OTHERWISE and (name != "Ingress" or _is_for_istio(item)):
        what = f"objects of the kind {name} are not read: they have no effect in this version"
        return Problem(codes.NOT_READ, "kind", what, _SAID_OTHERWISE[kind])
    alike = sorted(known for known in _KINDS if known[1] == name or known[0] == group)
    if group in _OWN_GROUPS:
        names = ", ".join(known for _, known in alike)
        return Problem(codes.NOT_AN_OBJECT, "kind", f"{group} has no kind {name}", f"there is: {names}")
    fix = f"apiVersion {alike[0][0]}/v1, if Isthmus is to read it" if alike else ""
    return Problem(codes.NOT_CHECKED, "kind", f"{item.get('apiVersion')} {name}: this kind is not checked", fix)


def _is_for_istio(ingress: Object) -> bool:
    """Of the class that Istio serves; those of other classes are their controllers'."""
    annotations = (ingress.get("metadata") or {}).get("annotations") or {}
    spec = ingress.get("spec")
    named = spec.get("ingressClassName") if isinstance(spec, dict) else None
    return "istio" in (named, annotations.get("kubernetes.io/ingress.class"))


def normalized(value: Any) -> Any:
    """As an API server would have it: keys are text (YAML has `8080:`), and what is null is not there."""
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else json.dumps(key, default=str): normalized(inner)
            for key, inner in value.items()
            if inner is not None
        }
    return [normalized(inner) for inner in value if inner is not None] if isinstance(value, list) else value


__all__ = ["has_known_types", "known_kinds", "normalized", "problems_of", "validate", "validate_mesh", "verdict"]
