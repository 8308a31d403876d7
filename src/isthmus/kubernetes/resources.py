"""Which resource of an API server is meant, and under which path it is found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePath:
    """A resource type. `group` is empty for the core group."""

    group: str
    version: str
    plural: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def collection(self, namespace: str = "") -> str:
        """The path of all objects, or of one namespace's."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{inside}/{self.plural}"

    def item(self, namespace: str, name: str) -> str:
        return f"{self.collection(namespace)}/{name}"


def _core(plural: str, *, namespaced: bool = True) -> ResourcePath:
    return ResourcePath(group="", version="v1", plural=plural, namespaced=namespaced)


NAMESPACES = _core("namespaces", namespaced=False)
NODES = _core("nodes", namespaced=False)
PODS = _core("pods")
SERVICES = _core("services")
SECRETS = _core("secrets")
CONFIG_MAPS = _core("configmaps")
SERVICE_ACCOUNTS = _core("serviceaccounts")
ENDPOINT_SLICES = ResourcePath(group="discovery.k8s.io", version="v1", plural="endpointslices", namespaced=True)
DEPLOYMENTS = ResourcePath(group="apps", version="v1", plural="deployments", namespaced=True)
REPLICA_SETS = ResourcePath(group="apps", version="v1", plural="replicasets", namespaced=True)
PROXY_CONFIGS = ResourcePath(group="networking.istio.io", version="v1beta1", plural="proxyconfigs", namespaced=True)
WORKLOAD_GROUPS = ResourcePath(group="networking.istio.io", version="v1", plural="workloadgroups", namespaced=True)
WORKLOAD_ENTRIES = ResourcePath(group="networking.istio.io", version="v1", plural="workloadentries", namespaced=True)
LEASES = ResourcePath(group="coordination.k8s.io", version="v1", plural="leases", namespaced=True)
SIGNING_REQUESTS = ResourcePath(
    group="certificates.k8s.io", version="v1", plural="certificatesigningrequests", namespaced=False
)
TOKEN_REVIEWS = ResourcePath(group="authentication.k8s.io", version="v1", plural="tokenreviews", namespaced=False)
_ADMISSION = "admissionregistration.k8s.io"
MUTATING_WEBHOOKS = ResourcePath(
    group=_ADMISSION, version="v1", plural="mutatingwebhookconfigurations", namespaced=False
)
VALIDATING_WEBHOOKS = ResourcePath(
    group=_ADMISSION, version="v1", plural="validatingwebhookconfigurations", namespaced=False
)
