"""CustomResourceDefinitions for the custom kinds in the registry, generated from their types.

What Isthmus reads is a projection of what Istio's API has. Fields that it does not read are kept, where they are Istio's (`unread.py`); other
ones are unknown, and an API server says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import inspect

from isthmus.api import federation, gateway_api
from isthmus.api.registry import KINDS, Kind
from isthmus.api.unread import UNREAD

Schema = dict[str, Any]

_ANYTHING: Schema = {"x-kubernetes-preserve-unknown-fields": True}
_CATEGORIES = {gateway_api.GROUP: "gateway-api", federation.GROUP: "isthmus", "admiral.io": "admiral-io"}
_SHORT_NAMES = {
    "AuthorizationPolicy": ["ap"],
    "BackendTLSPolicy": ["btlspolicy"],
    "DestinationRule": ["dr"],
    "Gateway": ["gw"],
    "GatewayClass": ["gc"],
    "KubernetesGateway": ["gtw"],
    "GlobalTrafficPolicy": ["gtp"],
    "ListenerSet": ["lset"],
    "MeshPeer": ["peer"],
    "PeerAuthentication": ["pa"],
    "ReferenceGrant": ["refgrant"],
    "RequestAuthentication": ["ra"],
    "ServiceEntry": ["se"],
    "ServiceExport": ["svcex"],
    "ServiceImport": ["svcim"],
    "Telemetry": ["telemetry"],
    "VirtualService": ["vs"],
    "WorkloadEntry": ["we"],
    "WorkloadGroup": ["wg"],
}
_OTHER_VERSIONS = {
    "networking.istio.io": ("v1beta1", "v1alpha3"),
    "security.istio.io": ("v1beta1",),
    "telemetry.istio.io": ("v1alpha1",),
    gateway_api.GROUP: ("v1beta1",),
}
"""Versions in which people still write; they differ in nothing but the name."""

_AGE = ("Age", "date", ".metadata.creationTimestamp")
_COLUMNS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "AuthorizationPolicy": (("Action", "string", ".spec.action"), _AGE),
    "DestinationRule": (("Host", "string", ".spec.host"), _AGE),
    "GatewayClass": (
        ("Controller", "string", ".spec.controllerName"),
        ("Accepted", "string", '.status.conditions[?(@.type=="Accepted")].status'),
        _AGE,
    ),
    "GRPCRoute": (("Hostnames", "string", ".spec.hostnames"), _AGE),
    "HTTPRoute": (("Hostnames", "string", ".spec.hostnames"), _AGE),
    "KubernetesGateway": (
        ("Class", "string", ".spec.gatewayClassName"),
        ("Address", "string", ".status.addresses[*].value"),
        ("Programmed", "string", '.status.conditions[?(@.type=="Programmed")].status'),
        _AGE,
    ),
    "ListenerSet": (
        ("Accepted", "string", '.status.conditions[?(@.type=="Accepted")].status'),
        ("Programmed", "string", '.status.conditions[?(@.type=="Programmed")].status'),
        _AGE,
    ),
    "MeshPeer": (
        ("Mesh", "string", ".spec.mesh"),
        ("Trust-Domain", "string", ".spec.trustDomain"),
        ("Exports", "string", ".spec.exports.services[*].name"),
        ("Imports", "string", ".spec.imports.services[*].name"),
        _AGE,
    ),
    "PeerAuthentication": (("Mode", "string", ".spec.mtls.mode"), _AGE),
    "ServiceEntry": (
        ("Hosts", "string", ".spec.hosts"),
        ("Location", "string", ".spec.location"),
        ("Resolution", "string", ".spec.resolution"),
        _AGE,
    ),
    "ServiceImport": (("Type", "string", ".spec.type"), ("IP", "string", ".spec.ips"), _AGE),
    "VirtualService": (("Gateways", "string", ".spec.gateways"), ("Hosts", "string", ".spec.hosts"), _AGE),
    "WorkloadEntry": (_AGE, ("Address", "string", ".spec.address")),
    "WorkloadGroup": (_AGE,),
}


def crd(kind: Kind) -> dict[str, Any]:
    """The definition, as an API server takes it."""
    columns = [{"name": name, "type": type_, "jsonPath": path} for name, type_, path in _COLUMNS.get(kind.key, (_AGE,))]
    version = {
        "served": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": _object_schema(kind)},
    }
    names = dict.fromkeys((kind.version, *kind.newest_first, *_OTHER_VERSIONS.get(kind.group, ())))
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}", **_annotations(kind)},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "categories": [_CATEGORIES.get(kind.group, "istio-io"), kind.group.replace(".", "-")],
                "shortNames": _SHORT_NAMES.get(kind.key, []),
            },
            "versions": [{"name": name, "storage": name == kind.version, **version} for name in names],
        },
    }


def all_crds() -> list[dict[str, Any]]:
    """Every custom kind's definition."""
    return [crd(kind) for kind in KINDS.values() if kind.is_custom]


def _annotations(kind: Kind) -> dict[str, Any]:
    """Kubernetes takes definitions in its community's groups only with a word about their approval. Other implementations of Gateway API read a
    kind only where its definition says that it is new enough.
    """
    if not kind.group.endswith(".k8s.io"):
        return {}
    found = {"api-approved.kubernetes.io": "unapproved, generated from what Isthmus reads"}
    if kind.group == gateway_api.GROUP:
        found |= {f"{kind.group}/bundle-version": gateway_api.RELEASE, f"{kind.group}/channel": gateway_api.CHANNEL}
    return {"annotations": found}


def _object_schema(kind: Kind) -> Schema:
    """Of a whole object: everything but what every object has. A status is anybody's."""
    found = inspect.type_info(kind.type)
    assert isinstance(found, inspect.StructType), "wire shapes are structs"
    schema = _struct_schema(kind, found)
    properties = schema.get("properties", {})
    properties.pop("metadata", None)
    properties |= {"status": {"type": "object"} | _ANYTHING}
    if "spec" not in properties:
        properties["spec"] = {"type": "object"} | _ANYTHING
    return {"type": "object", "properties": properties}


def _struct_schema(kind: Kind, found: inspect.StructType) -> Schema:
    properties: Schema = {}
    for field in found.fields:
        schema = _schema(kind, field.type)
        # Gateway API writes its defaults down; Istio leaves them to whoever reads.
        if (
            kind.group == gateway_api.GROUP
            and isinstance(field.default, str | int)
            and field.default
            and "type" in schema
        ):
            schema["default"] = field.default
        properties[field.encode_name] = schema
    for name in _unread(found.cls):
        properties.setdefault(name, _ANYTHING)
    required = [field.encode_name for field in found.fields if field.required]
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def _unread(struct: type) -> Iterator[str]:
    for each in struct.__mro__:
        yield from UNREAD.get(f"{each.__module__.rpartition('.')[2]}.{each.__name__}", "").split()


def _schema(kind: Kind, found: inspect.Type) -> Schema:
    match found:
        case inspect.StructType():
            return _struct_schema(kind, found)
        case inspect.UnionType(types=types):
            others = [each for each in types if not isinstance(each, inspect.NoneType)]
            return _schema(kind, others[0]) if len(others) == 1 else _union(others)
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return {"type": "array", "items": _schema(kind, item)}
        case inspect.DictType(value_type=value):
            return (
                {"type": "object", "additionalProperties": _schema(kind, value)}
                if not _is_any(value)
                else {"type": "object"} | _ANYTHING
            )
        case inspect.StrType() | inspect.BytesType():
            return {"type": "string"}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType(ge=low, le=high, lt=below):
            return {"type": "integer"} | _bounds(low, high if high is not None or below is None else below - 1)
        case inspect.FloatType(ge=low, le=high):
            return {"type": "number"} | _bounds(low, high)
        case inspect.AnyType() | inspect.RawType():
            return dict(_ANYTHING)
        case _:
            raise TypeError(f"{found!r} has no form in a CustomResourceDefinition")


def _union(types: list[inspect.Type]) -> Schema:
    if all(isinstance(each, inspect.StrType | inspect.IntType) for each in types):
        return {"x-kubernetes-int-or-string": True}
    return dict(_ANYTHING)


def _is_any(found: inspect.Type) -> bool:
    return isinstance(found, inspect.AnyType | inspect.RawType)


def _bounds(low: float | None, high: float | None) -> Schema:
    found = {"minimum": low, "maximum": high}
    return {name: bound for name, bound in found.items() if bound is not None}
