"""What the proxies at the other end make of a request: how they take its TLS, and what their policies say to its caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from isthmus.assurance.explaining.upstreams import workload_of
from isthmus.assurance.traffic.request import Request, Tls
from isthmus.assurance.traffic.walk import Configuration, Outcome, Side, Walk, walk
from isthmus.discovery.families import family_of
from isthmus.discovery.inbound import inbound_view
from isthmus.envoy.compile import of_proxy
from isthmus.envoy.expand import as_json, with_extensions
from isthmus.envoy.resources import CLUSTER, EXTENSION, LISTENER
from isthmus.model.names import MeshId
from isthmus.model.origins import Origin
from isthmus.model.security import MutualTlsMode
from isthmus.model.snapshot import Snapshot
from isthmus.model.values import dataclass
from isthmus.model.views import InboundView, Proxy, ProxyKind, Scope
from isthmus.model.workloads import Endpoint, Workload

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it arrives at an endpoint's own proxy."""

    endpoint: Endpoint
    port: int
    mutual_tls: bool


class FarEnds:
    """Asks for many endpoints; proxies with equal rules are compiled once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._compiled: dict[InboundView, Configuration] = {}

    def verdicts(self, arrivals: Sequence[Arrival], request: Request) -> list[Object]:
        """One for each group of endpoints that say the same, in the order in which they were met."""
        grouped: dict[str, Object] = {}
        for arrival in arrivals:
            said = self._said(arrival, request)
            group = grouped.setdefault(repr(said), said | {"workloads": []})
            group["workloads"].append(workload_of(arrival.endpoint))
        return list(grouped.values())

    def _said(self, arrival: Arrival, request: Request) -> Object:
        workload = arrival.endpoint.workload
        if workload.mesh:
            return self._said_elsewhere(workload.mesh, request)
        if not workload.meshed:
            return {"verdict": "allowed", "says": "no proxy is beside it: nobody asks"}
        view = inbound_view(proxy_beside(workload), self._snapshot)
        arrived = replace(request, address=arrival.endpoint.ip, port=arrival.port)
        if not arrival.mutual_tls:
            arrived = replace(arrived, tls=Tls.NONE, sni="", alpn=(), caller="")
        found = walk(self.configuration(view), arrived, Side.INBOUND)
        mode, rule = _mode(view, arrival.port)
        return _verdict(found) | {"mutualTLS": mode.value} | ({"mutualTLSRule": str(rule)} if rule else {})

    def _said_elsewhere(self, mesh: MeshId, request: Request) -> Object:
        """What the other mesh decides is its own matter; but it lets in nobody of whom this one does not say that they call."""
        peer = next((each for each in self._snapshot.mesh_peers if each.mesh == mesh), None)
        called_by = [] if peer is None else [each.of(self._snapshot.settings.trust_domain) for each in peer.identities]
        if peer is not None and not any(fnmatchcase(request.caller, pattern) for pattern in called_by):
            says = f"spec.exports.identities does not have {request.caller or 'a caller without an identity'}"
            return {"verdict": "denied", "says": says, "policy": f"MeshPeer {peer.name}"}
        return {
            "verdict": "allowed",
            "says": f"as far as this mesh can say: mesh {mesh} decides by its export and its policies",
        }

    def configuration(self, view: InboundView) -> Configuration:
        """Of a sidecar that lets this in."""
        if view not in self._compiled:
            found = list(of_proxy(ProxyKind.SIDECAR, view, frozenset()))
            listeners = [as_json(kind, each) for kind, each in found if kind == LISTENER]
            fetched = [as_json(kind, each) for kind, each in found if kind == EXTENSION]
            self._compiled[view] = Configuration(
                {
                    "listeners": with_extensions(listeners, fetched),
                    "clusters": [as_json(kind, each) for kind, each in found if kind == CLUSTER],
                }
            )
        return self._compiled[view]


def proxy_beside(workload: Workload) -> Proxy:
    """The sidecar of a workload, as its control plane would know it."""
    ips = workload.ips
    return Proxy(
        id=f"sidecar~{next(iter(ips), '')}~{workload.name}.{workload.namespace}~{workload.namespace}.svc.cluster.local",
        scope=Scope(
            kind=ProxyKind.SIDECAR,
            cluster=workload.cluster,
            network=workload.network,
            namespace=workload.namespace,
            locality=workload.locality,
            ip_families=tuple(sorted({family_of(ip) for ip in ips})),
        ),
        ips=ips,
        labels=workload.labels,
        service_account="",
        identity=workload.identity,
        dns_capture=False,
    )


def _mode(view: InboundView, port: int) -> tuple[MutualTlsMode, Origin | None]:
    for each in view.ports:
        if each.target_port == port:
            return each.tls, each.tls_origin
    return dict(view.other_ports).get(port, view.tls), view.tls_origin


def _verdict(found: Walk) -> Object:
    if found.outcome is Outcome.FORWARDED:
        asked = [each.says for each in found.judged]
        return {"verdict": "allowed", "says": "; ".join(asked) or "no policy holds for it"}
    policies = [each.policy for each in found.judged if each.policy]
    return {"verdict": "denied", "says": found.says} | ({"policy": policies[-1]} if policies else {})
