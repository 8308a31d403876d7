"""Kubernetes' own kinds, as far as the mesh reads them."""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.api.meta import KubernetesObject, ObjectMeta, PortNumber, Wire


class Namespace(KubernetesObject, frozen=True):
    pass


class NodeAddress(Wire, frozen=True):
    type: str = ""
    address: str = ""


class NodeStatus(Wire, frozen=True):
    addresses: list[NodeAddress] = []


class Node(KubernetesObject, frozen=True):
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


class PodSpec(Wire, frozen=True):
    node_name: str = ""
    service_account_name: str = ""
    hostname: str = ""
    subdomain: str = ""


class PodIP(Wire, frozen=True):
    ip: str = ""


class PodCondition(Wire, frozen=True):
    type: str = ""
    status: str = ""


class PodStatus(Wire, frozen=True):
    phase: str = ""
    conditions: list[PodCondition] = []
    pod_i_p: str = msgspec.field(default="", name="podIP")
    pod_i_ps: list[PodIP] = msgspec.field(default_factory=list, name="podIPs")


class Pod(KubernetesObject, frozen=True):
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @property
    def ips(self) -> tuple[str, ...]:
        """Every address of the Pod, the first one first."""
        status = self.status
        return tuple([entry.ip for entry in status.pod_i_ps]) or ((status.pod_i_p,) if status.pod_i_p else ())

    @property
    def is_over(self) -> bool:
        """Whether it has run to its end. Its address, which its status still has, may be another's by now."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def is_ready(self) -> bool:
        """Also where nobody has said whether it is."""
        return all(condition.status == "True" for condition in self.status.conditions if condition.type == "Ready")


class PodTemplate(Wire, frozen=True):
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)


class DeploymentSpec(Wire, frozen=True):
    template: PodTemplate = msgspec.field(default_factory=PodTemplate)


class Deployment(KubernetesObject, frozen=True):
    """Of it only what its Pods are called matters: whether there are any is for endpoints to say."""

    spec: DeploymentSpec = msgspec.field(default_factory=DeploymentSpec)


class ServicePort(Wire, frozen=True):
    port: PortNumber
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target_port: int | str = 0
    node_port: int = 0


class ServiceSpec(Wire, frozen=True):
    type: str = "ClusterIP"
    cluster_i_p: str = msgspec.field(default="", name="clusterIP")
    cluster_i_ps: list[str] = msgspec.field(default_factory=list, name="clusterIPs")
    external_i_ps: list[str] = msgspec.field(default_factory=list, name="externalIPs")
    ports: list[ServicePort] = []
    selector: dict[str, str] = {}
    publish_not_ready_addresses: bool = False
    traffic_distribution: str = ""
    session_affinity: str = ""
    session_affinity_config: dict[str, Any] = {}
    internal_traffic_policy: str = ""
    external_name: str = ""


class LoadBalancerIngress(Wire, frozen=True):
    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(Wire, frozen=True):
    ingress: list[LoadBalancerIngress] = []


class ServiceStatus(Wire, frozen=True):
    load_balancer: LoadBalancerStatus = msgspec.field(default_factory=LoadBalancerStatus)


class Service(KubernetesObject, frozen=True):
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)


class EndpointConditions(Wire, frozen=True):
    """Absent means unknown: consumers take an unknown `ready` as true (EndpointSlice API reference)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ObjectReference(Wire, frozen=True):
    kind: str = ""
    name: str = ""
    namespace: str = ""


class SliceEndpoint(Wire, frozen=True):
    addresses: list[str]
    conditions: EndpointConditions = msgspec.field(default_factory=EndpointConditions)
    hostname: str = ""
    target_ref: ObjectReference | None = None
    node_name: str = ""
    zone: str = ""


class SlicePort(Wire, frozen=True):
    name: str = ""
    port: PortNumber | None = None
    protocol: str = "TCP"


class EndpointSlice(KubernetesObject, frozen=True):
    address_type: str = "IPv4"
    endpoints: list[SliceEndpoint] | None = None
    ports: list[SlicePort] | None = None


class Secret(KubernetesObject, frozen=True):
    """`data` is decoded from base64, and never printed."""

    type: str = ""
    data: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"Secret({self.metadata.namespace}/{self.metadata.name})"


class ConfigMap(KubernetesObject, frozen=True):
    data: dict[str, str] = {}


class AuthorityData(Wire, frozen=True):
    certificates: str = msgspec.field(default="", name="ca.crt")


class AuthorityBundle(KubernetesObject, frozen=True):
    """A ConfigMap, of which nothing is kept but authorities."""

    data: AuthorityData = msgspec.field(default_factory=AuthorityData)


class ServiceAccount(KubernetesObject, frozen=True):
    pass
