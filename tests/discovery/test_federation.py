"""Two meshes with the same names in both: what each lets the other have, and nothing besides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from two_meshes import SHOP, Meshes, OneMesh, aged, export, meshes, peer

from isthmus.assurance.explaining.far_end import FarEnds
from isthmus.assurance.traffic.request import Request, Tls
from isthmus.assurance.traffic.walk import Outcome, Side, Walk, walk
from isthmus.discovery.federation import offers_for
from isthmus.model.federation import Identities, Offers
from isthmus.model.names import MeshId
from isthmus.model.topology import ImportState, NetworkGateway, Standing
from isthmus.model.views import Reason, Upstream

FOREIGN, LOCAL = "hello.sample.mesh-b.mesh", "hello.sample.svc.cluster.local"


def places(upstreams: Iterable[Upstream]) -> list[tuple[str, int]]:
    return [(to.address, to.port) for each in upstreams for group in each.groups for to in group.destinations]


def names(mesh: OneMesh, who: str) -> dict[str, tuple[str, ...]]:
    return {record.host: record.ips for record in mesh.view(who).outbound.names}


def passed_through(mesh: OneMesh) -> dict[str, int]:
    gateway = mesh.view("gw.istio-system", kind="router", LABELS={"istio": "eastwestgateway"})
    return {upstream.sni: port for port, upstream in gateway.outbound.exposed}


def test_an_imported_service_is_reached_at_the_peers_gateway_alone(federated: Meshes) -> None:
    [upstream] = federated["a"].called("client.sample", FOREIGN)

    assert places([upstream]) == [("203.0.113.1", 15444)]
    assert upstream.sni == "outbound_.80_._.hello.sample.mesh-b.mesh"
    assert [str(each) for each in upstream.expected_identities] == ["spiffe://b.example/ns/sample/sa/hello"]
    assert all(to.mutual_tls for group in upstream.groups for to in group.destinations)


def test_the_same_name_here_is_another_service(federated: Meshes) -> None:
    [local] = federated["a"].called("client.sample", LOCAL)

    assert places([local]) == [("10.0.0.1", 8080), ("10.0.0.2", 8080)]
    assert [str(each) for each in local.expected_identities] == ["spiffe://a.example/ns/sample/sa/hello"]
    found = names(federated["a"], "client.sample")
    assert found[LOCAL] == ("10.96.0.10",)
    assert found[FOREIGN][0].startswith("240.242.")


def test_the_gateway_for_peers_knows_exported_names_alone(federated: Meshes) -> None:
    found = passed_through(federated["b"])

    assert [name for name, port in found.items() if port == 15444] == ["outbound_.80_._.hello.sample.mesh-b.mesh"]
    assert found["outbound_.80_._.secret.sample.svc.cluster.local"] == 15443, "within the mesh all is as before"


def test_what_is_not_exported_has_no_name_and_is_not_told(federated: Meshes) -> None:
    assert not federated["a"].called("client.sample", "secret.sample.mesh-b.mesh")
    [service] = federated["b"].offers_to(MeshId("mesh-a")).services
    assert (service.namespace, service.name) == ("sample", "hello")


def test_only_the_namespaces_that_an_import_names_know_of_it(federated: Meshes) -> None:
    assert not federated["a"].called("client.other", FOREIGN)
    assert FOREIGN not in names(federated["a"], "client.other")


def test_what_is_offered_but_not_imported_stays_unknown(federated: Meshes) -> None:
    federated["b"].objects[-1] = peer("a", exports={"services": [export("sample/*", "*")]})
    federated.talk()

    assert not federated["a"].called("client.sample", "secret.sample.mesh-b.mesh")


def test_a_peer_is_told_of_gateways_identities_and_numbers_but_of_no_workload(federated: Meshes) -> None:
    offers = federated["b"].offers_to(MeshId("mesh-a"))

    [service] = offers.services
    [place] = service.places
    assert (place.weight, str(place.identity)) == (2, "spiffe://b.example/ns/sample/sa/hello")
    assert "10.0.0" not in str(offers)
    assert "10.96" not in str(offers)
    assert [str(gateway) for gateway in offers.gateways] == ["203.0.113.1:15444"]


def test_an_exported_service_has_its_mesh_name_at_home_too(federated: Meshes) -> None:
    [upstream] = federated["b"].called("client.sample", FOREIGN)

    assert places([upstream]) == [("10.0.0.1", 8080), ("10.0.0.2", 8080)]
    [port] = [
        port for port in federated["b"].view("hello-1.sample", "10.0.0.1").inbound.ports if port.target_port == 8080
    ]
    assert port.hostname == LOCAL, "its own name stays its name"


def test_an_export_to_one_peer_is_never_told_another() -> None:
    found = meshes("abc", objects=SHOP)
    found["b"].objects.append(peer("a", exports={"services": [export("sample/hello", "*")]}))
    found["b"].objects.append(peer("c", exports={"services": [export("sample/secret", "*")]}))
    found.talk()

    assert [each.name for each in found["b"].offers_to(MeshId("mesh-a")).services] == ["hello"]
    assert [each.name for each in found["b"].offers_to(MeshId("mesh-c")).services] == ["secret"]


def test_a_service_that_is_not_exported_changes_nothing_for_a_peer(federated: Meshes) -> None:
    before, view = federated["b"].offers_to(MeshId("mesh-a")), federated["a"].view("client.sample")
    federated["b"].add("""
        apiVersion: v1
        kind: Service
        metadata: {name: new, namespace: sample}
        spec: {clusterIP: 10.96.0.77, ports: [{name: http, port: 80}]}
    """)
    federated.talk()

    assert federated["b"].offers_to(MeshId("mesh-a")) == before
    assert federated["a"].view("client.sample") == view


def test_nothing_is_told_to_and_nothing_taken_of_a_mesh_that_nobody_vouches_for(federated: Meshes) -> None:
    snapshot = federated["b"].snapshot()
    [stranger] = snapshot.mesh_peers
    settings = replace(snapshot.settings, peer_trust_domains=())

    assert offers_for(stranger, replace(snapshot, settings=settings)) == Offers()


def test_withdrawn_means_gone_in_one_step(federated: Meshes) -> None:
    federated["b"].objects[-1] = peer("a")
    federated.talk()

    assert not federated["a"].called("client.sample", FOREIGN)
    assert "outbound_.80_._.hello.sample.mesh-b.mesh" not in passed_through(federated["b"])
    [issue] = [each for each in federated["a"].snapshot().issues if each.code == "ISM0905"]
    assert issue.what == "mesh-b does not offer sample/hello"


def test_a_lost_peers_services_stay_and_go_when_the_policy_says_so(federated: Meshes) -> None:
    heard = federated["a"].heard
    federated["a"].heard = aged(heard, state=ImportState.STALE, stale_since="2026-01-01T00:00:00+00:00")
    assert places(federated["a"].called("client.sample", FOREIGN)) == [("203.0.113.1", 15444)]

    federated["a"].heard = aged(federated["a"].heard, standing=Standing.WITHDRAWN)
    [upstream] = federated["a"].called("client.sample", FOREIGN)
    assert [left.why.reason for left in upstream.left_out] == [Reason.PEER_STALE]


def test_a_peer_without_a_gateway_is_named_as_the_reason(federated: Meshes) -> None:
    heard = federated["a"].heard[MeshId("mesh-b")]
    federated["a"].heard = aged(federated["a"].heard, offers=replace(heard.offers, gateways=()))

    [upstream] = federated["a"].called("client.sample", FOREIGN)
    assert [left.why.reason for left in upstream.left_out] == [Reason.NO_GATEWAY]


def test_each_network_of_the_peer_is_entered_at_its_own_gateways_in_proportion_to_what_is_behind(
    federated: Meshes,
) -> None:
    mesh = federated["b"]
    for obj in mesh.objects:
        if obj["metadata"]["name"] == "hello-2":
            obj["metadata"]["labels"]["topology.istio.io/network"] = "n2"
    mesh.add("""
apiVersion: v1
kind: Service
metadata:
  name: peers-n2
  namespace: istio-system
  labels: {federation.isthmus.io/gateway-port: "15444", topology.istio.io/network: n2}
spec: {type: LoadBalancer, ports: [{name: tls, port: 15443}, {name: tls-peers, port: 15444}]}
status: {loadBalancer: {ingress: [{ip: 203.0.113.2}, {ip: 203.0.113.3}]}}
""")
    federated.talk()

    [upstream] = federated["a"].called("client.sample", FOREIGN)
    weights = {to.address: to.weight for group in upstream.groups for to in group.destinations}
    assert weights == {"203.0.113.1": 2, "203.0.113.2": 1, "203.0.113.3": 1}


def test_what_no_gateway_for_peers_leads_to_is_not_told(federated: Meshes) -> None:
    for obj in federated["b"].objects:
        if obj["metadata"]["name"] == "hello-2":
            obj["metadata"]["labels"]["topology.istio.io/network"] = "n2"
    federated.talk()

    [service] = federated["b"].offers_to(MeshId("mesh-a")).services
    assert [(place.network, place.weight) for place in service.places] == [("n1", 1)]


def test_gateways_of_the_mesh_peer_take_the_place_of_those_that_are_told(federated: Meshes) -> None:
    federated["a"].objects[-1]["spec"]["gateways"] = [{"address": "198.51.100.7", "port": 443}]

    assert places(federated["a"].called("client.sample", FOREIGN)) == [("198.51.100.7", 443)]


def test_what_a_peer_tells_moves_no_weight_of_the_meshs_own(federated: Meshes) -> None:
    before = federated["a"].called("client.sample", LOCAL)
    offers = federated["a"].heard[MeshId("mesh-b")].offers
    more = [
        NetworkGateway(address=f"203.0.113.{n}", port=15444, network=offers.gateways[0].network, cluster="")
        for n in range(2, 9)
    ]
    federated["a"].heard = aged(federated["a"].heard, offers=replace(offers, gateways=(*offers.gateways, *more)))

    assert federated["a"].called("client.sample", LOCAL) == before
    assert len(places(federated["a"].called("client.sample", FOREIGN))) == 8


def test_rules_of_a_local_namespace_of_the_same_name_say_nothing_about_the_foreign_one(federated: Meshes) -> None:
    federated["a"].add(
        """
        apiVersion: security.istio.io/v1
        kind: PeerAuthentication
        metadata: {name: plain, namespace: sample}
        spec: {mtls: {mode: DISABLE}}
        ---
        apiVersion: security.istio.io/v1
        kind: PeerAuthentication
        metadata: {name: plain, namespace: istio-system}
        spec: {mtls: {mode: DISABLE}}
    """.replace("        ", "")
    )

    assert places(federated["a"].called("client.sample", FOREIGN)) == [("203.0.113.1", 15444)]


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("*", "sample/client", "sample/client"),
        ("sample/*", "sample/client", "sample/client"),
        ("sample/*", "*", "sample/*"),
        ("sample/client", "sample/other", None),
        ("sample/*", "other/*", None),
    ],
)
def test_callers_are_those_that_both_meshes_name(one: str, other: str, both: str | None) -> None:
    shared = Identities.parse(one).shared(Identities.parse(other))

    assert (str(shared) if shared else None) == both
    assert shared == Identities.parse(other).shared(Identities.parse(one))


CLIENT, OTHER = "spiffe://a.example/ns/sample/sa/client", "spiffe://a.example/ns/sample/sa/other"


def asked_at_hello(mesh: OneMesh, caller: str, port: int = 8080, *, is_http: bool = True) -> Walk:
    """What the proxy beside hello, which is beside secret, too, makes of a call by mutual TLS."""
    found = FarEnds(mesh.snapshot())
    request = Request(
        port=port, address="10.0.0.1", tls=Tls.MUTUAL, alpn=("istio-http/1.1", "istio"), caller=caller, is_http=is_http
    )
    view = mesh.view("hello-1.sample", "10.0.0.1").inbound
    return walk(found.configuration(view), request, Side.INBOUND)


def test_guests_are_let_in_as_far_as_the_export_names_them_and_their_mesh_says_that_they_call(
    federated: Meshes,
) -> None:
    assert asked_at_hello(federated["b"], CLIENT).outcome is Outcome.FORWARDED
    refused = asked_at_hello(federated["b"], OTHER)
    assert (refused.outcome, refused.status, refused.judged[-1].policy) == (Outcome.DENIED, 403, "MeshPeer mesh-a")

    federated["a"].objects[-1]["spec"]["exports"] = {"identities": ["sample/other"]}
    federated.talk()
    assert asked_at_hello(federated["b"], CLIENT).outcome is Outcome.DENIED, "its own mesh does not export it"
    assert asked_at_hello(federated["b"], OTHER).outcome is Outcome.DENIED, "nobody exports anything to it"


def test_a_guest_of_one_service_is_refused_at_another_port_of_the_same_workload(federated: Meshes) -> None:
    assert asked_at_hello(federated["b"], CLIENT, 9090).outcome is Outcome.DENIED
    assert asked_at_hello(federated["b"], CLIENT, 7777).outcome is Outcome.DENIED, "a port that nobody declares"


def test_before_a_peer_says_who_calls_nobody_of_it_is_let_in(federated: Meshes) -> None:
    federated["b"].heard = {}

    assert asked_at_hello(federated["b"], CLIENT).outcome is Outcome.DENIED


def test_callers_of_the_mesh_itself_are_asked_nothing_new(federated: Meshes) -> None:
    for port in (8080, 9090):
        assert (
            asked_at_hello(federated["b"], "spiffe://b.example/ns/sample/sa/client", port).outcome is Outcome.FORWARDED
        )


@pytest.mark.parametrize("mistake", [{"identity": "nobody"}, {"mesh": "Not A Label"}, {"mesh": "mesh-b"}])
def test_a_mistake_in_a_peer_lets_nobody_of_it_in(federated: Meshes, mistake: dict[str, str]) -> None:
    federated["b"].objects[-1]["spec"] |= mistake

    snapshot = federated["b"].snapshot()

    assert [each.code for each in snapshot.issues if each.subject.kind == "MeshPeer"] == ["ISM0901"]
    assert not snapshot.guests
    for port in (8080, 9090, 7777):
        refused = asked_at_hello(federated["b"], CLIENT, port)
        assert (refused.outcome, refused.judged[-1].policy) == (Outcome.DENIED, "MeshPeer mesh-a")
    assert asked_at_hello(federated["b"], "spiffe://b.example/ns/sample/sa/client").outcome is Outcome.FORWARDED


def test_a_second_peer_for_one_mesh_lets_nobody_of_its_trust_domain_in_and_closes_nothing_of_the_first(
    federated: Meshes,
) -> None:
    second = peer("c")
    second["spec"]["mesh"] = "mesh-a"
    second["metadata"]["creationTimestamp"] = "2030-01-01T00:00:00Z"
    federated["b"].objects.append(second)

    assert asked_at_hello(federated["b"], CLIENT).outcome is Outcome.FORWARDED
    assert asked_at_hello(federated["b"], "spiffe://c.example/ns/sample/sa/client").outcome is Outcome.DENIED


@pytest.mark.parametrize("port", ["9" * 5000, "\u0661\u0665", "0", "65536", "-1"])
def test_a_control_planes_port_that_is_none_is_told_and_costs_no_other(federated: Meshes, port: str) -> None:
    federated["a"].objects[-1]["spec"]["controlPlanes"] = [f"far.example:{port}", "near.example:15018"]

    snapshot = federated["a"].snapshot()

    assert [peer.control_planes for peer in snapshot.mesh_peers] == [("near.example:15018",)]
    assert [each.field for each in snapshot.issues if each.code == "ISM0903"] == ["spec.controlPlanes[0]"]


def test_a_guest_is_asked_the_meshs_own_policies_too(federated: Meshes) -> None:
    federated["b"].add("""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-guests, namespace: sample}
spec: {action: DENY, rules: [{from: [{source: {trustDomains: [a.example]}}]}]}
""")

    assert asked_at_hello(federated["b"], CLIENT).outcome is Outcome.DENIED


def test_namespaces_of_policies_are_the_meshs_own_for_guests_too(federated: Meshes) -> None:
    federated["b"].add("""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: own-namespace, namespace: sample}
spec: {action: ALLOW, rules: [{from: [{source: {namespaces: [sample]}}]}]}
""")

    assert asked_at_hello(federated["b"], CLIENT).outcome is Outcome.DENIED
    assert asked_at_hello(federated["b"], "spiffe://b.example/ns/sample/sa/client").outcome is Outcome.FORWARDED


def test_bytes_are_guarded_like_requests(federated: Meshes) -> None:
    for mesh in "ab":
        for obj in federated[mesh].objects:
            if obj["kind"] == "Service" and obj["metadata"]["name"] in ("hello", "secret"):
                obj["spec"]["ports"][0]["appProtocol"] = "tcp"
    federated.talk()

    assert asked_at_hello(federated["b"], CLIENT, is_http=False).outcome is Outcome.FORWARDED
    assert asked_at_hello(federated["b"], CLIENT, 9090, is_http=False).outcome is Outcome.DENIED
    assert asked_at_hello(federated["b"], OTHER, is_http=False).outcome is Outcome.DENIED


def test_a_peer_whose_trust_domain_is_called_cluster_local_is_no_friend_of_policies_that_say_so(
    federated: Meshes,
) -> None:
    """Istio's policies say `cluster.local` for a mesh's own trust domain, whatever that is called."""
    federated["b"].objects[-1]["spec"]["trustDomain"] = "cluster.local"
    federated["b"].trusts = ("cluster.local",)
    federated.talk()

    assert asked_at_hello(federated["b"], "spiffe://cluster.local/ns/sample/sa/client").outcome is Outcome.FORWARDED
    assert asked_at_hello(federated["b"], "spiffe://cluster.local/ns/sample/sa/other").outcome is Outcome.DENIED
