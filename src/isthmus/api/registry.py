"""The kinds that the mesh reads: their type, and where an API server has them. The one list that a new kind is added to."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from isthmus.api import (
    core,
    envoy_filter,
    federation,
    gateway,
    gateway_api,
    global_names,
    multicluster,
    networking,
    proxy_config,
    security,
    telemetry,
    virtual_service,
)
from isthmus.api.meta import KubernetesObject
from isthmus.model.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`from_every_cluster`: read from each cluster that is discovered, not from the config cluster alone."""

    name: str
    group: str
    version: str
    plural: str
    namespaced: bool
    type: type[KubernetesObject]
    from_every_cluster: bool
    is_custom: bool = False
    newest_first: tuple[str, ...] = ()
    """Versions that say the same of what is read, for a kind that servers have in one of several; otherwise `version` is the only one."""
    only_named: str = ""
    """Of this kind, only objects of this name are read."""
    field_selector: str = ""
    """Of this kind, only objects that it chooses are read."""
    for_global_names: bool = False
    """Read only where the mesh makes global names."""
    only_adds: bool = False
    """What other kinds say holds without this one, too: where it may not be read, there is none of it."""

    @property
    def key(self) -> str:
        """What objects of the kind are filed under: its name, but for Gateway API's Gateway, whose name is Istio's, too."""
        return self.type.__name__


_CERTIFICATES = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token"
"""Of Secrets those that may be a gateway's certificate: not the many that a cluster has for itself."""

_AUTHORITIES = "metadata.name!=kube-root-ca.crt,metadata.name!=istio-ca-root-cert"
"""Of ConfigMaps those that may name authorities of servers beyond the mesh: not the two that every namespace has."""

KINDS: dict[str, Kind] = {
    kind.key: kind
    for kind in (
        Kind(
            name="Namespace", group="", version="v1", plural="namespaces", namespaced=False,
            type=core.Namespace, from_every_cluster=True,
        ),
        Kind(name="Node", group="", version="v1", plural="nodes", namespaced=False, type=core.Node, from_every_cluster=True),
        Kind(
            name="Pod", group="", version="v1", plural="pods", namespaced=True,
            type=core.Pod, from_every_cluster=True, field_selector="status.phase!=Failed",
        ),
        Kind(
            name="Service", group="", version="v1", plural="services", namespaced=True,
            type=core.Service, from_every_cluster=True,
        ),
        Kind(
            name="EndpointSlice", group="discovery.k8s.io", version="v1", plural="endpointslices", namespaced=True,
            type=core.EndpointSlice, from_every_cluster=True,
        ),
        Kind(
            name="Deployment", group="apps", version="v1", plural="deployments", namespaced=True,
            type=core.Deployment, from_every_cluster=True, only_adds=True, for_global_names=True,
        ),
        Kind(
            name="GlobalTrafficPolicy", group="admiral.io", version="v1alpha1", plural="globaltrafficpolicies", namespaced=True,
            type=global_names.GlobalTrafficPolicy, from_every_cluster=False, is_custom=True, only_adds=True, for_global_names=True,
        ),
        # Before the kind of the same name, so that this is found by that.
        Kind(
            name="ConfigMap", group="", version="v1", plural="configmaps", namespaced=True,
            type=core.AuthorityBundle, from_every_cluster=False, only_adds=True, field_selector=_AUTHORITIES,
        ),
        Kind(
            name="ConfigMap", group="", version="v1", plural="configmaps", namespaced=True,
            type=core.ConfigMap, from_every_cluster=False, only_named="istio",
        ),
        Kind(
            name="Secret", group="", version="v1", plural="secrets", namespaced=True,
            type=core.Secret, from_every_cluster=False, only_adds=True, field_selector=_CERTIFICATES,
        ),
        Kind(
            name="Gateway", group="networking.istio.io", version="v1", plural="gateways", namespaced=True,
            type=gateway.Gateway, from_every_cluster=False, is_custom=True,
        ),
        Kind(
            name="DestinationRule", group="networking.istio.io", version="v1", plural="destinationrules", namespaced=True,
            type=networking.DestinationRule, from_every_cluster=False, is_custom=True,
        ),
        Kind(
            name="VirtualService", group="networking.istio.io", version="v1", plural="virtualservices", namespaced=True,
            type=virtual_service.VirtualService, from_every_cluster=False, is_custom=True,
        ),
        Kind(
            name="ServiceEntry", group="networking.istio.io", version="v1", plural="serviceentries", namespaced=True,
            type=networking.ServiceEntry, from_every_cluster=False, is_custom=True,
        ),
        Kind(
            name="Sidecar", group="networking.istio.io", version="v1", plural="sidecars", namespaced=True,
            type=networking.Sidecar, from_every_cluster=False, is_custom=True,
        ),
        Kind(
            name="Telemetry", group="telemetry.istio.io", version="v1", plural="telemetries", namespaced=True,
            type=telemetry.Telemetry, from_every_cluster=False, is_custom=True,
        ),
        Kind(
            name="ProxyConfig", group="networking.istio.io", version="v1beta1", plural="proxyconfigs", namespaced=True,
            type=proxy_config.ProxyConfig, from_every_cluster=False, is_custom=True, only_adds=True,
        ),
        Kind(
            name="EnvoyFilter", group="networking.istio.io", version="v1alpha3", plural="envoyfilters", namespaced=True,
            type=envoy_filter.EnvoyFilter, from_every_cluster=False, is_custom=True,
        ),
        Kind(
            name="WorkloadEntry", group="networking.istio.io", version="v1", plural="workloadentries", namespaced=True,
            type=networking.WorkloadEntry, from_every_cluster=True, is_custom=True,
        ),
        Kind(
            name="WorkloadGroup", group="networking.istio.io", version="v1", plural="workloadgroups", namespaced=True,
            type=networking.WorkloadGroup, from_every_cluster=True, is_custom=True, only_adds=True,
        ),
        Kind(
            name="ServiceExport", group="multicluster.x-k8s.io", version="v1alpha1", plural="serviceexports", namespaced=True,
            type=multicluster.ServiceExport, from_every_cluster=True, is_custom=True,
        ),
        Kind(
            name="ServiceImport", group="multicluster.x-k8s.io", version="v1alpha1", plural="serviceimports", namespaced=True,
            type=multicluster.ServiceImport, from_every_cluster=True, is_custom=True,
        ),
        Kind(
            name="PeerAuthentication", group="security.istio.io", version="v1", plural="peerauthentications", namespaced=True,
            type=security.PeerAuthentication, from_every_cluster=False, is_custom=True,
        ),
        Kind(
            name="RequestAuthentication", group="security.istio.io", version="v1", plural="requestauthentications", namespaced=True,
            type=security.RequestAuthentication, from_every_cluster=False, is_custom=True,
        ),
        Kind(
            name="AuthorizationPolicy", group="security.istio.io", version="v1", plural="authorizationpolicies", namespaced=True,
            type=security.AuthorizationPolicy, from_every_cluster=False, is_custom=True,
        ),
        Kind(
            name="GatewayClass", group=gateway_api.GROUP, version="v1", plural="gatewayclasses", namespaced=False,
            type=gateway_api.GatewayClass, from_every_cluster=False, is_custom=True, only_adds=True,
        ),
        Kind(
            name="Gateway", group=gateway_api.GROUP, version="v1", plural="gateways", namespaced=True,
            type=gateway_api.KubernetesGateway, from_every_cluster=False, is_custom=True, only_adds=True,
        ),
        Kind(
            name="ListenerSet", group=gateway_api.GROUP, version="v1", plural="listenersets", namespaced=True,
            type=gateway_api.ListenerSet, from_every_cluster=False, is_custom=True, only_adds=True,
        ),
        Kind(
            name="HTTPRoute", group=gateway_api.GROUP, version="v1", plural="httproutes", namespaced=True,
            type=gateway_api.HTTPRoute, from_every_cluster=False, is_custom=True, only_adds=True,
        ),
        Kind(
            name="GRPCRoute", group=gateway_api.GROUP, version="v1", plural="grpcroutes", namespaced=True,
            type=gateway_api.GRPCRoute, from_every_cluster=False, is_custom=True, only_adds=True,
        ),
        Kind(
            name="TLSRoute", group=gateway_api.GROUP, version="v1alpha2", plural="tlsroutes", namespaced=True,
            newest_first=("v1", "v1alpha3", "v1alpha2"),
            type=gateway_api.TLSRoute, from_every_cluster=False, is_custom=True, only_adds=True,
        ),
        Kind(
            name="TCPRoute", group=gateway_api.GROUP, version="v1alpha2", plural="tcproutes", namespaced=True,
            newest_first=("v1", "v1alpha2"),
            type=gateway_api.TCPRoute, from_every_cluster=False, is_custom=True, only_adds=True,
        ),
        Kind(
            name="UDPRoute", group=gateway_api.GROUP, version="v1alpha2", plural="udproutes", namespaced=True,
            newest_first=("v1", "v1alpha2"),
            type=gateway_api.UDPRoute, from_every_cluster=False, is_custom=True, only_adds=True,
        ),
        Kind(
            name="BackendTLSPolicy", group=gateway_api.GROUP, version="v1", plural="backendtlspolicies", namespaced=True,
            newest_first=("v1", "v1alpha3"),
            type=gateway_api.BackendTLSPolicy, from_every_cluster=False, is_custom=True, only_adds=True,
        ),
        Kind(
            name="ReferenceGrant", group=gateway_api.GROUP, version="v1beta1", plural="referencegrants", namespaced=True,
            newest_first=("v1", "v1beta1"),
            type=gateway_api.ReferenceGrant, from_every_cluster=False, is_custom=True, only_adds=True,
        ),
        Kind(
            name="MeshPeer", group=federation.GROUP, version="v1alpha1", plural="meshpeers", namespaced=False,
            type=federation.MeshPeer, from_every_cluster=False, is_custom=True, only_adds=True,
        ),
    )
}  # fmt: skip


_BY_NAME = {(kind.group, kind.name): kind for kind in KINDS.values()}


@lru_cache(maxsize=1024)
def kind_of(api_version: str, name: str) -> Kind | None:
    """The kind that an object says it is, whatever version of it; None for one that is not read."""
    return _BY_NAME.get((api_version.rpartition("/")[0], name))


class UndecodableObject(ValueError):
    """An object whose shape is wrong; the text names the path in it (`spec.ports[0].port`)."""


def decode(kind: Kind, body: bytes | msgspec.Raw | dict[str, object]) -> KubernetesObject:
    """From JSON bytes, or from what YAML gave. Raises UndecodableObject."""
    try:
        try:
            if isinstance(body, bytes | msgspec.Raw):
                return msgspec.json.decode(body, type=kind.type)
            return msgspec.convert(body, type=kind.type)
        except msgspec.ValidationError:
            plain = msgspec.json.decode(body) if isinstance(body, bytes | msgspec.Raw) else body
            return msgspec.convert(_without_nulls(kind, plain), type=kind.type)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise UndecodableObject(why_not(error)) from None


def why_not(error: msgspec.MsgspecError) -> str:
    """What is wrong, with its place as Kubernetes writes it (`spec.ports[0].port`)."""
    return str(error).replace("`$.", "`")


def _without_nulls(kind: Kind, body: object) -> object:
    """Null says as little as absence (Kubernetes API conventions). In a custom kind's own fields it may be a mistake that matters, such as
    a match for nothing: there only metadata is read so.
    """
    if not kind.is_custom or not isinstance(body, dict):
        return _pruned(body)
    return {name: _pruned(value) if name == "metadata" else value for name, value in body.items()}


def _pruned(value: object) -> object:
    if isinstance(value, dict):
        return {name: _pruned(each) for name, each in value.items() if each is not None}
    return [_pruned(each) for each in value] if isinstance(value, list) else value
