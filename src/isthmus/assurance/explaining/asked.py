"""A proxy as questions are asked about it: its view of a snapshot, and the configuration that was made from that view."""

from __future__ import annotations

from typing import Any

from isthmus.assurance.compiling import computed
from isthmus.assurance.traffic.walk import Configuration
from isthmus.model.identity import SpiffeId
from isthmus.model.snapshot import Snapshot
from isthmus.model.values import dataclass
from isthmus.model.views import Proxy, ProxyKind, View
from isthmus.model.workloads import Workload


class BadQuestion(ValueError):
    """A question that cannot be answered as it is put: which part, and what there is instead."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A proxy as it is asked about: its view, and the configuration that was made from it."""

    snapshot: Snapshot
    view: View
    configuration: Configuration

    @staticmethod
    def about(proxy: Proxy, snapshot: Snapshot) -> Asked:
        """Computed now, as for the proxy itself. Raises BadQuestion for what is no Envoy."""
        if proxy.scope.kind is ProxyKind.PROXYLESS:
            raise BadQuestion(
                "a gRPC application that speaks xDS routes its requests itself: `isthmus render` shows what it is given"
            )
        found = computed(proxy, snapshot)
        return Asked(snapshot, found.view, Configuration(found.document({})))

    @property
    def proxy(self) -> Proxy:
        return self.view.proxy

    @property
    def identity(self) -> SpiffeId | None:
        """What it proves to others: as it proved it to the control plane, else that of the workload at its address."""
        if self.proxy.identity is not None:
            return self.proxy.identity
        workload = workload_at(self.proxy, self.snapshot)
        if workload is not None and workload.identity is not None:
            return workload.identity
        account, domain = self.proxy.service_account, self.snapshot.settings.trust_domain
        return SpiffeId.of_service_account(domain, self.proxy.scope.namespace, account) if account else None


def workload_at(proxy: Proxy, snapshot: Snapshot) -> Workload | None:
    """The workload that the proxy is beside, where it answers for some service."""
    here = (proxy.cluster, proxy.scope.network)
    every = (endpoint for found in snapshot.endpoints.values() for endpoint in found)
    return next((e.workload for e in every if e.ip in proxy.ips and (e.cluster, e.network) == here), None)


def client_of(asked: Asked) -> dict[str, Any]:
    """Who asks, as every answer has it."""
    scope = asked.view.outbound.scope
    name = asked.proxy.id.split("~")[2].removesuffix(f".{scope.namespace}")
    client = {
        "pod": f"{scope.namespace}/{name}",
        "cluster": scope.cluster,
        "network": scope.network,
        "locality": str(scope.locality),
        "identity": str(asked.identity or ""),
    }
    return {"client": client}
