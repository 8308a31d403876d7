"""EnvoyFilters become values. A patch that says what cannot be understood is an issue, and the other patches count."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from isthmus.api import envoy_filter as api
from isthmus.model.envoy_filters import (
    ApplyTo,
    ClusterChoice,
    ConfigPatch,
    Context,
    EnvoyFilter,
    FilterClass,
    ListenerChoice,
    Operation,
    RouteChoice,
)
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.model.origins import Origin

_FILTERS = frozenset(Operation)
_MERGES = frozenset((Operation.MERGE, Operation.MERGE_AND_REPLACE_LIST))
_WHOLE = _MERGES | {Operation.ADD, Operation.REMOVE}
_DONE = {
    ApplyTo.LISTENER: _WHOLE,
    ApplyTo.FILTER_CHAIN: _WHOLE,
    ApplyTo.LISTENER_FILTER: _FILTERS,
    ApplyTo.NETWORK_FILTER: _FILTERS,
    ApplyTo.HTTP_FILTER: _FILTERS,
    ApplyTo.ROUTE_CONFIGURATION: _MERGES,
    ApplyTo.VIRTUAL_HOST: _WHOLE | {Operation.REPLACE},
    ApplyTo.HTTP_ROUTE: _FILTERS,
    ApplyTo.CLUSTER: _WHOLE,
    ApplyTo.EXTENSION_CONFIG: frozenset((Operation.ADD,)),
}


class _Unusable(ValueError):
    """A patch that cannot be done as it is written: which field, what is wrong, what to do."""

    def __init__(self, field: str, what: str, fix: str) -> None:
        super().__init__(what)
        self.field, self.fix = field, fix


def envoy_filter_of(obj: api.EnvoyFilter, cluster: ClusterId) -> tuple[EnvoyFilter | None, tuple[Issue, ...]]:
    """None for one without a patch that can be used."""
    spec, metadata = obj.spec, obj.metadata
    subject = Subject(cluster, "EnvoyFilter", metadata.namespace, metadata.name)
    origin = Origin("EnvoyFilter", metadata.namespace, metadata.name)
    issues: list[Issue] = []

    def wrong(field: str, what: str, fix: str) -> None:
        issues.append(Issue(subject=subject, code="ISM0501", severity=Severity.ERROR, what=what, fix=fix, field=field))

    patches = []
    for index, said in enumerate(spec.config_patches):
        try:
            patches.append(_patch(said, origin, index))
        except _Unusable as error:
            wrong(f"spec.configPatches[{index}].{error.field}", f"{error}: the patch is left out", error.fix)
    for index, target in enumerate(spec.target_refs):
        if target.kind != "Gateway":
            wrong(
                f"spec.targetRefs[{index}]",
                f"an EnvoyFilter cannot be bound to a {target.kind}",
                "bind it to a Gateway, or select workloads by spec.workloadSelector",
            )
    gateways = tuple(target.name for target in spec.target_refs if target.kind == "Gateway")
    if not patches or (spec.target_refs and not gateways):
        return None, tuple(issues)
    value = EnvoyFilter(
        priority=spec.priority,
        created=metadata.creation_timestamp,
        namespace=Namespace(metadata.namespace),
        name=metadata.name,
        selector=tuple(sorted(spec.workload_selector.labels.items())) if spec.workload_selector else (),
        gateways=gateways,
        patches=tuple(patches),
    )
    return value, tuple(issues)


def _patch(said: api.ConfigPatch, origin: Origin, index: int) -> ConfigPatch:
    match, patch = said.match, said.patch
    if said.apply_to == "BOOTSTRAP":
        what = "the agent writes the bootstrap, which is not patched"
        raise _Unusable("applyTo", what, "say it in ProxyConfig, where that has a field for it, or use another applyTo")
    if said.apply_to not in ApplyTo.__members__:
        known = ", ".join(ApplyTo)
        raise _Unusable("applyTo", f"there is no applyTo {said.apply_to or '(none)'}", f"use one of {known}")
    apply_to = ApplyTo(said.apply_to)
    done = _DONE[apply_to]
    if patch.operation not in done:
        known = ", ".join(sorted(done))
        what = f"a {apply_to} cannot be patched by {patch.operation or 'no operation'}"
        raise _Unusable("patch.operation", what, f"use one of {known}")
    operation = Operation(patch.operation)
    if match.context not in Context.__members__:
        raise _Unusable("match.context", f"there is no context {match.context}", f"use one of {', '.join(Context)}")
    if operation is not Operation.REMOVE and not patch.value:
        raise _Unusable("patch.value", f"{operation} needs a value", "write what is to be added or merged")
    proxy = match.proxy or api.ProxyMatch()
    try:
        re.compile(proxy.proxy_version)
    except re.error as error:
        what = f"{proxy.proxy_version!r} is no expression ({error})"
        raise _Unusable("match.proxy.proxyVersion", what, "write a regular expression") from None
    return ConfigPatch(
        origin=origin,
        index=index,
        apply_to=apply_to,
        operation=operation,
        context=Context(match.context),
        value=json.dumps(patch.value, sort_keys=True) if patch.value and operation is not Operation.REMOVE else "",
        filter_class=FilterClass(patch.filter_class)
        if patch.filter_class in FilterClass.__members__
        else FilterClass.UNSPECIFIED,
        listener=_listener(match.listener) if match.listener else ListenerChoice(),
        routes=_routes(match.route_configuration) if match.route_configuration else RouteChoice(),
        cluster=_cluster(match.cluster) if match.cluster else ClusterChoice(),
        proxy_version=proxy.proxy_version,
        claims=tuple(sorted(proxy.metadata.items())),
    )


def _listener(said: api.ListenerMatch) -> ListenerChoice:
    chain = said.filter_chain or api.FilterChainMatch()
    filter_ = chain.filter or api.FilterMatch()
    return ListenerChoice(
        port=said.port_number,
        name=said.name,
        listener_filter=said.listener_filter,
        chain=chain.name,
        sni=chain.sni,
        transport_protocol=chain.transport_protocol,
        application_protocols=tuple(_listed(chain.application_protocols)),
        destination_port=chain.destination_port,
        filter=filter_.name,
        sub_filter=filter_.sub_filter.name if filter_.sub_filter else "",
    )


def _listed(text: str) -> Iterator[str]:
    return (part.strip() for part in text.split(",") if part.strip())


def _routes(said: api.RouteConfigurationMatch) -> RouteChoice:
    host = said.vhost or api.VirtualHostMatch()
    route = host.route or api.RouteMatch()
    return RouteChoice(
        port=said.port_number,
        port_name=said.port_name,
        gateway=said.gateway,
        table=said.name,
        host=host.name,
        domain=host.domain_name,
        route=route.name,
        action="" if route.action == "ANY" else route.action,
    )


def _cluster(said: api.ClusterMatch) -> ClusterChoice:
    return ClusterChoice(port=said.port_number, service=said.service, subset=said.subset, name=said.name)
