"""Small builders: a mesh's services and endpoints as one proxy sees them, in as few words as a test needs; and the real Envoy's verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace  # noqa: F401 - one of the words
from types import SimpleNamespace

import pytest

from isthmus.cli.envoy_judgement import complaint, verdict  # noqa: F401 - one of the words
from isthmus.envoy.compile import compile_outbound, compile_view
from isthmus.envoy.expand import document_of
from isthmus.envoy.resources import ResourceSet
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, Hostname, Namespace, NetworkId
from isthmus.model.security import MutualTlsMode
from isthmus.model.services import Protocol, Service, ServicePort
from isthmus.model.topology import Locality, NetworkGateway
from isthmus.model.views import (
    Destination,
    InboundPort,
    InboundView,
    LocalityGroup,
    NameRecord,
    OutboundView,
    Proxy,
    ProxyKind,
    Scope,
    Upstream,
    View,
    Ways,
)
from isthmus.model.workloads import Endpoint, Health, Workload

EAST = ClusterId("east")
WEST = ClusterId("west")
N1 = NetworkId("n1")
N2 = NetworkId("n2")
MESH = TrustDomain.parse("cluster.local")


def service(
    name: str,
    *ports: ServicePort,
    namespace: str = "sample",
    vips: dict[ClusterId, str] | None = None,
    headless: bool = False,
) -> Service:
    """Declared in the clusters that give it an address; a headless one in east."""
    addresses = {} if headless else ({EAST: "10.96.0.1"} if vips is None else vips)
    return Service(
        namespace=Namespace(namespace),
        hostname=Hostname(f"{name}.{namespace}.svc.cluster.local"),
        name=name,
        ports=ports,
        virtual_ips=tuple((cluster, (ip,)) for cluster, ip in sorted(addresses.items())),
        headless=headless,
        cluster_local=False,
        declared_in=tuple(sorted(addresses)) or (EAST,),
    )


def port(number: int, protocol: Protocol = Protocol.HTTP, name: str = "") -> ServicePort:
    return ServicePort(number=number, name=name or f"{protocol.value}-{number}", protocol=protocol)


def endpoint(
    of: Service,
    ip: str,
    *,
    cluster: ClusterId = EAST,
    network: NetworkId = N1,
    zone: str = "a",
    meshed: bool = True,
    health: Health = Health.HEALTHY,
    labels: dict[str, str] | None = None,
) -> Endpoint:
    workload = Workload(
        cluster=cluster,
        namespace=of.namespace,
        name=f"{of.name}-{ip.rpartition('.')[2]}",
        network=network,
        ips=(ip,),
        labels=tuple(sorted({"app": of.name, "version": "v1", **(labels or {})}.items())),
        locality=Locality("eu", zone),
        node="node-1",
        identity=SpiffeId.of_service_account(MESH, of.namespace, of.name),
        meshed=meshed,
    )
    ports = tuple(sorted((each.name, each.number) for each in of.ports))
    return Endpoint(service=of.key, ip=ip, ports=ports, workload=workload, health=health)


def direct(to: Endpoint, at: int, weight: int = 1) -> Destination:
    return Destination(
        address=to.ip,
        port=at,
        weight=weight,
        mutual_tls=to.workload.meshed,
        health=to.health,
        cluster=to.cluster,
        network=to.network,
        through=None,
        stands_for=(to,),
    )


def through(gateway: str, *behind: Endpoint, weight: int | None = None) -> Destination:
    found = NetworkGateway(address=gateway, port=15443, network=N2, cluster=WEST)
    return Destination(
        address=gateway,
        port=15443,
        weight=len(behind) if weight is None else weight,
        mutual_tls=True,
        health=Health.HEALTHY,
        cluster=WEST,
        network=N2,
        through=found,
        stands_for=behind,
    )


def group(*destinations: Destination, zone: str = "a", priority: int = 0) -> LocalityGroup:
    weight = sum(destination.weight for destination in destinations)
    return LocalityGroup(locality=Locality("eu", zone), priority=priority, weight=weight, destinations=destinations)


def upstream(of: Service, at: ServicePort, *groups: LocalityGroup, scope_cluster: ClusterId = EAST) -> Upstream:
    addresses = of.ips_in(scope_cluster) or (of.virtual_ips[0][1] if of.virtual_ips else ())
    behind = {e for each in groups for d in each.destinations for e in d.stands_for}
    identities = {e.workload.identity for e in behind if e.workload.identity is not None}
    return Upstream(
        service=of,
        port=at,
        subset="",
        virtual_ips=addresses,
        groups=groups,
        left_out=(),
        ways=Ways.of(groups),
        expected_identities=tuple(sorted(identities)),
    )


def scope(kind: ProxyKind = ProxyKind.SIDECAR, *, cluster: ClusterId = EAST, namespace: str = "sample") -> Scope:
    return Scope(kind=kind, cluster=cluster, network=N1, namespace=Namespace(namespace), locality=Locality("eu", "a"))


def outbound_view(
    *upstreams: Upstream,
    seen_from: Scope | None = None,
    exposed: Sequence[tuple[int, Upstream]] = (),
    names: Sequence[NameRecord] = (),
) -> OutboundView:
    return OutboundView(
        scope=seen_from or scope(),
        trust_domain=MESH,
        dns_domain="cluster.local",
        upstreams=tuple(sorted(upstreams, key=lambda each: (each.service.key, each.port))),
        names=tuple(sorted(names)),
        exposed=tuple(exposed),
    )


def inbound_port(
    number: int,
    protocol: Protocol = Protocol.HTTP,
    service_port: int = 80,
    tls: MutualTlsMode = MutualTlsMode.PERMISSIVE,
) -> InboundPort:
    return InboundPort(
        target_port=number,
        service_port=service_port,
        port_name=f"{protocol.value}-{service_port}",
        protocol=protocol,
        hostname="helloworld.sample.svc.cluster.local",
        tls=tls,
    )


def view(
    outbound: OutboundView | None = None, *inbound: InboundPort, mode: MutualTlsMode = MutualTlsMode.PERMISSIVE
) -> View:
    shared = outbound or outbound_view()
    proxy = Proxy(
        id="sidecar~10.10.0.2~client-1.sample~sample.svc.cluster.local",
        scope=shared.scope,
        ips=("10.10.0.2",),
        labels=(),
        service_account="client",
        identity=SpiffeId.of_service_account(MESH, Namespace("sample"), "client"),
        dns_capture=True,
    )
    return View(proxy=proxy, outbound=shared, inbound=InboundView(ports=inbound, tls=mode))


def compiled(of: View) -> ResourceSet:
    return compile_view(of, compile_outbound(of.outbound))


def sample_mesh() -> OutboundView:
    """One of everything: HTTP, gRPC, TCP, TLS, undeclared, headless, without an address, on two networks."""
    hello = service("helloworld", port(5000), port(9000, Protocol.GRPC), vips={EAST: "10.96.0.1", WEST: "10.97.0.1"})
    here = endpoint(hello, "10.10.0.10")
    there = endpoint(hello, "10.10.0.10", cluster=WEST, network=N2, zone="b")
    store = service(
        "store", port(6379, Protocol.TCP), port(443, Protocol.TLS), port(7000, Protocol.AUTO), vips={EAST: "10.96.0.2"}
    )
    stored = endpoint(store, "10.10.0.11", meshed=False)
    peers = service("peers", port(7001, Protocol.TCP), port(5000), headless=True)
    peer = endpoint(peers, "10.10.0.12")
    bare = service("bare", port(5000, Protocol.TCP), port(8123, Protocol.AUTO), vips={})
    return outbound_view(
        *(
            upstream(hello, at, group(direct(here, at.number)), group(through("172.30.2.1", there), zone="b"))
            for at in hello.ports
        ),
        *(upstream(store, at, group(direct(stored, at.number))) for at in store.ports),
        *(upstream(peers, at, group(direct(peer, at.number))) for at in peers.ports),
        *(upstream(bare, at) for at in bare.ports),
        names=[
            NameRecord(
                host=hello.hostname,
                ips=("10.96.0.1",),
                registry="Kubernetes",
                short_name="helloworld",
                namespace="sample",
            )
        ],
    )


@pytest.fixture
def accepted_by_envoy():
    """Fails unless the real Envoy accepts all of these resources together."""

    def check(resources: ResourceSet) -> None:
        assert verdict(document_of({}, resources)) == ""

    return check


@pytest.fixture
def mesh() -> SimpleNamespace:
    """The words above."""
    return SimpleNamespace(**{name: value for name, value in globals().items() if not name.startswith("_")})
