"""What would bring back an endpoint that is left out: an edit for each reason."""

from __future__ import annotations

from typing import assert_never

from isthmus.discovery.security import mutual_tls_rule
from isthmus.model.snapshot import Snapshot
from isthmus.model.views import LeftOut, Reason, Scope, Upstream


def edit_for(left: LeftOut, upstream: Upstream, scope: Scope, snapshot: Snapshot) -> str:
    """A sentence in the imperative, naming objects and fields."""
    endpoint, service = left.endpoint, upstream.service
    network, cluster, workload = endpoint.network, endpoint.cluster, endpoint.workload
    match left.why.reason:
        case Reason.NO_GATEWAY:
            return (
                f"run a network gateway on network {network}: a LoadBalancer Service with the label"
                f" topology.istio.io/network: {network} and port 15443"
            )
        case Reason.NO_USABLE_GATEWAY:
            families = " or ".join(f"IPv{family}" for family in scope.ip_families)
            return f"give a gateway of network {network} an {families} address"
        case Reason.NOT_MESHED:
            return f"run {workload.namespace}/{workload.name} with a sidecar (label its namespace istio-injection: enabled)"
        case Reason.MUTUAL_TLS_DISABLED:
            return _edit_of_mutual_tls(left, upstream, snapshot)
        case Reason.NOT_IN_SUBSET:
            return f"give it the labels of subset {upstream.subset}, or change the subset in {upstream.rule}"
        case Reason.NO_SHARE:
            where = upstream.rule or "MeshConfig"
            return f"name its locality, {workload.locality}, under localityLbSetting.distribute of {where}"
        case Reason.NO_ADDRESS:
            return f"give it an address that the caller can use, or let network {network} be reached through a gateway"
        case Reason.CLUSTER_LOCAL:
            return f"set clusterLocal: false for {service.hostname} under serviceSettings of MeshConfig"
        case Reason.NODE_LOCAL:
            return f"set internalTrafficPolicy: Cluster in Service {service.namespace}/{service.origin.name} of cluster {scope.cluster}"
        case Reason.NOT_EXPORTED:
            return f"create a ServiceExport {service.namespace}/{service.origin.name} in cluster {cluster}"
        case Reason.NETWORK_NOT_REQUESTED:
            return f"add {network} to ISTIO_META_REQUESTED_NETWORK_VIEW of the calling proxy"
        case Reason.NO_SUCH_PORT:
            return f"name a port {upstream.port.name!r} in Service {service.namespace}/{service.origin.name} of cluster {cluster}"
        case Reason.MIXED_TLS:
            return f"run every workload of {service.namespace}/{service.origin.name} with a sidecar, or the caller"
        case Reason.NOT_READY:
            return "let its readiness probe pass, or set publishNotReadyAddresses: true in the Service"
        case Reason.TERMINATING:
            return "nothing: it is being deleted, and another one takes its place"
        case Reason.CLUSTER_STALE:
            return f"bring the API server of {cluster} back, or set ISTHMUS_STALE_CLUSTERS=hold"
        case Reason.PEER_STALE:
            return (
                f"let the control planes of mesh {workload.mesh} be reached again, or set ISTHMUS_STALE_CLUSTERS=hold"
            )
    assert_never(left.why.reason)


def _edit_of_mutual_tls(left: LeftOut, upstream: Upstream, snapshot: Snapshot) -> str:
    if upstream.policy.tls is not None and upstream.rule:
        return f"set trafficPolicy.tls.mode: ISTIO_MUTUAL in {upstream.rule}"
    workload = left.endpoint.workload
    port = left.endpoint.port_named(upstream.port.name) or 0
    _, rule = mutual_tls_rule(workload.namespace, workload.labels, port, snapshot)
    return f"set mtls.mode: PERMISSIVE or STRICT in {rule}"
