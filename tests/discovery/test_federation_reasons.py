"""Two meshes: what neither tells the other, or knows of it, and the reason that people can see."""

from __future__ import annotations

from two_meshes import Meshes, OneMesh, export, peer

from isthmus.assurance.explaining.absence import why_not
from isthmus.assurance.explaining.asked import Asked
from isthmus.assurance.explaining.questions import why
from isthmus.assurance.explaining.stories import told_why_not
from isthmus.assurance.traffic.request import Request
from isthmus.model.names import MeshId

FOREIGN, LOCAL = "hello.sample.mesh-b.mesh", "hello.sample.svc.cluster.local"


def sent(mesh: OneMesh, what: str) -> list[str]:
    """`isthmus why-not WHAT --from client.sample`."""
    view = mesh.view("client.sample", SERVICE_ACCOUNT="client")
    return list(told_why_not(why_not(Asked.about(view.proxy, mesh.snapshot()), what)))[1:]


def test_why_not_knows_why_a_mesh_name_means_nothing(federated: Meshes) -> None:
    mesh = federated["a"]
    assert sent(mesh, "secret.sample.mesh-b.mesh") == [
        "secret.sample.mesh-b.mesh: not shared.",
        "  Because of MeshPeer mesh-b:",
        "  Mesh mesh-b does not offer sample/secret.",
        "  To change it, let mesh mesh-b export it: spec.exports.services of its MeshPeer for mesh-a.",
    ]
    assert "No MeshPeer is for mesh mesh-x" in sent(mesh, "hello.sample.mesh-x.mesh")[1]
    assert "No MeshPeer exports sample/hello" in sent(mesh, "hello.sample.mesh-a.mesh")[1]

    mesh.objects[-1]["spec"]["imports"] = {}
    assert "nothing imports it" in sent(mesh, FOREIGN)[2]
    mesh.heard = {}
    assert "nothing has been heard" in sent(mesh, FOREIGN)[2].lower()
    mesh.trusts = ()
    assert "nobody vouches for b.example" in sent(mesh, FOREIGN)[2].lower()


def test_why_not_knows_why_a_service_of_our_own_has_no_mesh_name(federated: Meshes) -> None:
    mesh = federated["b"]
    mesh.objects[-1] = peer("a", exports={"services": [export("sample/*", "*")]})
    mesh.add("""
apiVersion: v1
kind: Service
metadata: {name: db, namespace: sample}
spec: {clusterIP: None, ports: [{name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: hidden, namespace: sample, annotations: {networking.istio.io/exportTo: "~"}}
spec: {clusterIP: 10.96.0.30, ports: [{name: http, port: 80}]}
""")

    assert sent(mesh, "db.sample.mesh-b.mesh")[1:3] == [
        "  Because of Service sample/db:",
        "  Service sample/db cannot be exported: it is headless: its callers choose Pods by addresses, which mean nothing elsewhere.",
    ]
    assert "its exportTo hides it from everybody" in sent(mesh, "hidden.sample.mesh-b.mesh")[2]
    assert "There is no Service sample/nobody" in sent(mesh, "nobody.sample.mesh-b.mesh")[1]
    mesh.trusts = ()
    assert "MeshPeer mesh-a exports sample/hello, but nobody vouches for a.example" in sent(mesh, FOREIGN)[2]


def test_an_export_of_a_whole_namespace_that_exports_nothing_is_told(federated: Meshes) -> None:
    federated["b"].objects[-1] = peer("a", exports={"services": [export("data/*", "*"), export("later/*", "*")]})
    federated["b"].add("""
apiVersion: v1
kind: Service
metadata: {name: db, namespace: data}
spec: {clusterIP: None, ports: [{name: tcp, port: 5432}]}
""")

    [(field, what)] = told_of_peers(federated["b"], "ISM0904")

    assert field == "spec.exports.services[0]"
    assert "data/* is not exported: it is headless" in what


def told_of_peers(mesh: OneMesh, code: str) -> list[tuple[str, str]]:
    return [(issue.field, issue.what) for issue in mesh.snapshot().issues if issue.code == code]


def test_gateways_for_a_network_that_the_peer_has_nothing_on_are_told(federated: Meshes) -> None:
    spec = federated["a"].objects[-1]["spec"]
    assert not told_of_peers(federated["a"], "ISM0907")

    spec["gateways"] = [{"address": "198.51.100.1", "port": 15444, "network": "n9"}]

    assert told_of_peers(federated["a"], "ISM0907") == [
        ("spec.gateways", "the gateways for network n9 are not used: mesh-b offers services on n1")
    ]
    federated["a"].heard = {}
    assert not told_of_peers(federated["a"], "ISM0907"), "nobody knows yet"


def test_endpoints_that_no_peer_can_come_to_are_told_of_each_export(federated: Meshes) -> None:
    mesh = federated["b"]
    assert not told_of_peers(mesh, "ISM0908")
    [pod] = [each for each in mesh.objects if each["metadata"]["name"] == "hello-2"]
    [gateway] = [each for each in mesh.objects if (each["kind"], each["metadata"]["name"]) == ("Service", "peers")]

    pod["metadata"]["labels"] = {}
    assert told_of_peers(mesh, "ISM0908") == [
        (
            "spec.exports",
            "1 of 2 endpoints of sample/hello are not offered: they have no proxy with an identity of this mesh",
        )
    ]
    [service] = mesh.offers_to(MeshId("mesh-a")).services
    assert [place.weight for place in service.places] == [1]

    pod["metadata"]["labels"] = {"security.istio.io/tlsMode": "istio"}
    gateway["metadata"]["labels"] = {}
    assert told_of_peers(mesh, "ISM0908") == [
        (
            "spec.exports",
            "endpoints of sample/hello on network n1 are not offered: no gateway of it lets other meshes in",
        )
    ]
    [service] = mesh.offers_to(MeshId("mesh-a")).services
    assert not service.places


def test_why_not_says_that_a_caller_is_not_exported(federated: Meshes) -> None:
    federated["a"].objects[-1]["spec"]["exports"] = {"identities": ["sample/other"]}

    told = "\n".join(sent(federated["a"], FOREIGN))

    assert told.startswith(f"{FOREIGN}: denied.")
    assert "Because of MeshPeer mesh-b" in told
    assert "pec.exports.identities does not have spiffe://a.example/ns/sample/sa/client" in told


def test_why_leads_to_the_peers_gateway(federated: Meshes) -> None:
    view = federated["a"].view("client.sample", SERVICE_ACCOUNT="client")
    asked = Asked.about(view.proxy, federated["a"].snapshot())

    answer = why(asked, FOREIGN, 0, Request(port=0))

    assert answer["verdict"] == "allowed"
    assert answer["service"]["kind"] == "MeshPeer"
    assert "mesh mesh-b decides" in answer["policies"][0]["says"]
    assert why(asked, "secret.sample.mesh-b.mesh", 0, Request(port=0))["verdict"] == "not shared"
