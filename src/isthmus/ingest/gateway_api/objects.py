"""The objects of one cluster that gateways and routes are read from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar, cast

from isthmus.api import core, networking
from isthmus.api import gateway_api as api
from isthmus.api.meta import KubernetesObject
from isthmus.ingest.inputs import ClusterInput
from isthmus.model.names import ClusterId
from isthmus.model.snapshot import MeshSettings
from isthmus.model.values import dataclass

T = TypeVar("T", bound=KubernetesObject)
Name = tuple[str, str]

_KINDS: tuple[type[KubernetesObject], ...] = (
    api.GatewayClass, api.KubernetesGateway, api.ListenerSet, api.HTTPRoute, api.GRPCRoute, api.TLSRoute, api.TCPRoute, api.UDPRoute,
    api.ReferenceGrant, api.BackendTLSPolicy,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """`secrets` or `config_maps` None: nobody has said which there are, so what refers to one is believed."""

    cluster: ClusterId
    settings: MeshSettings
    classes: Sequence[api.GatewayClass]
    gateways: Sequence[api.KubernetesGateway]
    listener_sets: Sequence[api.ListenerSet]
    routes: Sequence[api.Route]
    grants: Sequence[api.ReferenceGrant]
    backend_tls_policies: Sequence[api.BackendTLSPolicy]
    config_maps: Mapping[Name, core.ConfigMap | core.AuthorityBundle] | None
    namespaces: Mapping[Name, core.Namespace]
    services: Mapping[Name, core.Service]
    service_entries: Mapping[Name, networking.ServiceEntry]
    secrets: Mapping[Name, core.Secret] | None


def objects_of(cluster: ClusterInput, settings: MeshSettings) -> Objects | None:
    """None where there is neither a gateway nor a route. The oldest come first."""
    if not any(cluster.objects.get(kind.__name__) for kind in _KINDS):
        return None

    def each(kind: type[T]) -> list[T]:
        found = cast("Mapping[Name, T]", cluster.objects.get(kind.__name__, {}))
        return sorted(found.values(), key=_age)

    routes = [
        route
        for kind in (api.HTTPRoute, api.GRPCRoute, api.TLSRoute, api.TCPRoute, api.UDPRoute)
        for route in each(kind)
    ]
    return Objects(
        cluster=cluster.id,
        settings=settings,
        classes=each(api.GatewayClass),
        gateways=each(api.KubernetesGateway),
        listener_sets=each(api.ListenerSet),
        routes=cast("list[api.Route]", routes),
        grants=each(api.ReferenceGrant),
        backend_tls_policies=each(api.BackendTLSPolicy),
        config_maps=cast(
            "Mapping[Name, core.ConfigMap | core.AuthorityBundle] | None",
            cluster.objects.get("AuthorityBundle") or cluster.objects.get("ConfigMap"),
        ),
        namespaces=cast("Mapping[Name, core.Namespace]", cluster.objects.get("Namespace", {})),
        services=cast("Mapping[Name, core.Service]", cluster.objects.get("Service", {})),
        service_entries=cast("Mapping[Name, networking.ServiceEntry]", cluster.objects.get("ServiceEntry", {})),
        secrets=cast("Mapping[Name, core.Secret] | None", cluster.objects.get("Secret")),
    )


def inputs_of(objects: Objects) -> tuple[object, ...]:
    """Every object that the reading may depend on, for a memo of it: of Services, Secrets and the like those alone that are named."""
    names = {gateway.metadata.namespace for gateway in objects.gateways}
    named = {name for gateway in objects.gateways for name in _named_by(gateway)}
    named |= {name for each in objects.listener_sets for name in _certificates_of(each, each.spec.listeners)}
    secrets = objects.secrets
    targets = [(p.metadata.namespace, each.name) for p in objects.backend_tls_policies for each in p.spec.target_refs]
    bundles = {
        (p.metadata.namespace, ref.name)
        for p in objects.backend_tls_policies
        for ref in p.spec.validation.ca_certificate_refs
    }
    return (
        *objects.backend_tls_policies,
        *(objects.services.get(name) for name in targets),
        *(objects.service_entries.get(name) for name in targets),
        *((objects.config_maps or {}).get(name) for name in sorted(bundles | named)),
        *objects.classes, *objects.gateways, *objects.listener_sets, *objects.routes, *objects.grants, *objects.namespaces.values(),
        *(service for (namespace, _), service in sorted(objects.services.items()) if namespace in names),
        *(objects.services.get((p.namespace or r.metadata.namespace, p.name)) for r in objects.routes for p in r.spec.parent_refs),
        *(objects.service_entries.get((p.namespace or r.metadata.namespace, p.name)) for r in objects.routes for p in r.spec.parent_refs),
        *((secrets is None,) if secrets is None else (secrets.get(name) for name in sorted(named))),
    )  # fmt: skip


def _named_by(gateway: api.KubernetesGateway) -> Iterator[Name]:
    """The certificates of its own listeners, and the authorities by which callers are judged, those of ListenerSets' listeners, too."""
    yield from _certificates_of(gateway, gateway.spec.listeners)
    frontend = gateway.spec.tls.frontend
    validations = [frontend.default.validation, *(each.tls.validation for each in frontend.per_port)]
    validations += [each.tls.frontend_validation for each in gateway.spec.listeners if each.tls]
    for validation in validations:
        for ref in validation.ca_certificate_refs if validation else ():
            yield ref.namespace or gateway.metadata.namespace, ref.name


def _certificates_of(owner: KubernetesObject, listeners: Iterable[api.ListenerEntry]) -> Iterator[Name]:
    for listener in listeners:
        for ref in listener.tls.certificate_refs if listener.tls else ():
            yield ref.namespace or owner.metadata.namespace, ref.name


def validation_of(gateway: api.KubernetesGateway, listener: api.ListenerEntry) -> api.FrontendValidation | None:
    """A listener's own, its port's, or the gateway's. What it refers to is in the gateway's namespace where it does not say otherwise."""
    if isinstance(listener, api.Listener) and listener.tls and listener.tls.frontend_validation:
        return listener.tls.frontend_validation
    frontend = gateway.spec.tls.frontend
    own = next((each.tls.validation for each in frontend.per_port if each.port == listener.port), None)
    return own or frontend.default.validation


def _age(obj: KubernetesObject) -> tuple[str, str, str]:
    return (obj.metadata.creation_timestamp, obj.metadata.namespace, obj.metadata.name)
