"""Two meshes with the same names in both: what is exported is called under its owner's name, and nothing else crosses."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager

import kubernetes
import pytest
from forged_certificates import forged
from showing_certificates import SHOWING, authority_of

from isthmus.localruntime.mesh_client import MeshRefused, MeshUnavailable
from isthmus.trust import x509

pytestmark = pytest.mark.live

GLOBAL = "helloworld.sample.bank.mesh"
PEERS = ("federation.isthmus.io", "v1alpha1", "meshpeers")
RESOLVE = """
import socket, sys
try:
    print(socket.gethostbyname(sys.argv[1]))
except socket.gaierror:
    print("nothing")
"""
SHAKE = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["istio"])
try:
    with socket.create_connection((sys.argv[1], 15444), 5) as raw, context.wrap_socket(raw, server_hostname=sys.argv[2]) as tls:
        print(ssl.DER_cert_to_PEM_cert(tls.getpeercert(True)))
except OSError as error:
    print("refused")
"""


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("federated-meshes")


def peers(mesh, cluster):
    return kubernetes.client.CustomObjectsApi(mesh.apps(cluster).api_client), PEERS


@contextmanager
def exporting(mesh, *services):
    """What bank exports to shop meanwhile, and nothing else."""
    api, where = peers(mesh, "bank")

    def export(services):
        api.patch_cluster_custom_object(*where, "shop", {"spec": {"exports": {"services": services}}})

    before = api.get_cluster_custom_object(*where, "shop")["spec"]["exports"]["services"]
    export(list(services))
    try:
        yield
    finally:
        export(before)


def rows_of(mesh, cluster) -> list[dict]:
    """None while the control plane does not answer."""
    try:
        return mesh.client.control_plane(cluster, "debug/peerz")
    except (MeshRefused, MeshUnavailable):
        return []


def table(mesh, cluster) -> dict:
    [row] = mesh.client.control_plane(cluster, "debug/peerz")
    return row


def answered(mesh, cluster: str, host: str, count: int = 10) -> set[str]:
    """Who answered: the cluster, or the status of a refusal."""
    return {each.get("cluster") or each.get("error", "?") for each in mesh.ask(cluster, count, host=host)}


def test_the_same_name_means_each_meshs_own_and_the_mesh_name_the_exporters(mesh):
    assert answered(mesh, "shop", "helloworld.sample") == {"shop"}
    assert answered(mesh, "bank", "helloworld.sample") == {"bank"}
    assert answered(mesh, "shop", GLOBAL) == {"bank"}
    assert answered(mesh, "bank", GLOBAL) == {"bank"}, "the name means the same in its own mesh"


def test_the_gateway_ends_no_tls_it_is_the_workload_that_shows_its_certificate(mesh):
    shown = mesh.python("shop", SHAKE, mesh.gateway("bank"), f"outbound_.5000_._.{GLOBAL}")

    assert str(x509.identity_of(shown)) == "spiffe://bank.example/ns/sample/sa/helloworld"


@pytest.mark.parametrize(
    "sni",
    [
        "outbound_.9000_._.tcp-echo.sample.bank.mesh",
        "outbound_.9000_._.tcp-echo.sample.svc.cluster.local",
        "outbound_.5000_._.helloworld.sample.svc.cluster.local",
        "outbound_.15012_._.istiod.istio-system.svc.cluster.local",
    ],
)
def test_the_gateway_for_peers_knows_no_other_name(mesh, sni):
    assert mesh.python("shop", SHAKE, mesh.gateway("bank"), sni).strip() == "refused"


def test_what_is_not_exported_has_no_name(mesh):
    assert mesh.python("shop", RESOLVE, GLOBAL).startswith("240.242.")
    assert mesh.python("shop", RESOLVE, "tcp-echo.sample.bank.mesh").strip() == "nothing"
    assert mesh.python("bank", RESOLVE, "helloworld.sample.shop.mesh").strip() == "nothing"


def test_an_identity_that_the_export_does_not_name_is_refused_by_the_workload_itself(mesh, until):
    with exporting(mesh, {"namespace": "sample", "name": "helloworld", "callers": ["sample/somebody-else"]}):
        until("shop's client is refused", lambda: "403" in str(answered(mesh, "shop", GLOBAL)))
        assert answered(mesh, "bank", "helloworld.sample") == {"bank"}

    until("and let in again", lambda: answered(mesh, "shop", GLOBAL) == {"bank"})


def test_a_policy_of_the_exporter_holds_for_guests_too(mesh, until):
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "no-shop", "namespace": "sample"},
        "spec": {"action": "DENY", "rules": [{"from": [{"source": {"trustDomains": ["shop.example"]}}]}]},
    }
    api = kubernetes.client.CustomObjectsApi(mesh.apps("bank").api_client)
    where = ("security.istio.io", "v1", "sample", "authorizationpolicies")
    api.create_namespaced_custom_object(*where, policy)
    try:
        until("shop is refused", lambda: "403" in str(answered(mesh, "shop", GLOBAL)))
        assert answered(mesh, "bank", "helloworld.sample") == {"bank"}
    finally:
        api.delete_namespaced_custom_object(*where, "no-shop")

    until("and let in again", lambda: answered(mesh, "shop", GLOBAL) == {"bank"})


def test_what_is_withdrawn_is_gone_soon(mesh, until, figure):
    with exporting(mesh):
        began = time.monotonic()
        until("the name is gone", lambda: mesh.python("shop", RESOLVE, GLOBAL).strip() == "nothing")
        figure(f"a withdrawn export has no name after {time.monotonic() - began:.2f} s")
        sni = f"outbound_.5000_._.{GLOBAL}"
        until("the gateway refuses", lambda: mesh.python("shop", SHAKE, mesh.gateway("bank"), sni).strip() == "refused")

    until("it is back", lambda: answered(mesh, "shop", GLOBAL) == {"bank"})


def test_a_peer_whose_control_plane_is_lost_goes_on_to_be_called_and_is_called_stale(mesh, until, figure):
    mesh.scale("bank", "istiod", 0, namespace="istio-system")
    began = time.monotonic()
    until("shop says stale", lambda: table(mesh, "shop")["state"] == "stale")
    figure(f"a lost peer is stale after {time.monotonic() - began:.2f} s")
    row = table(mesh, "shop")
    assert row["staleSince"]
    assert row["reason"]
    assert answered(mesh, "shop", GLOBAL) == {"bank"}
    assert "stale" in mesh.isthmus("peers", "--in-cluster", "shop").stdout

    [pod] = mesh.pods("shop", "istiod")
    mesh.kill(mesh.container_pid("shop", "istio-system", pod["name"], "discovery"))
    until("shop's own control plane is back", lambda: rows_of(mesh, "shop"))
    assert table(mesh, "shop")["state"] == "stale", "a control plane that starts now knows what it was told"
    assert answered(mesh, "shop", GLOBAL) == {"bank"}

    mesh.scale("bank", "istiod", 1, namespace="istio-system")
    began = time.monotonic()
    until("shop says live", lambda: table(mesh, "shop")["state"] == "live")
    figure(f"a peer that is back is live after {time.monotonic() - began:.2f} s")
    assert answered(mesh, "shop", GLOBAL) == {"bank"}


def test_the_table_says_what_crosses(mesh):
    found = json.loads(mesh.isthmus("peers", "-o", "json").stdout)["peers"]

    by_istiod = {row["istiod"]: row for row in found}
    assert by_istiod["bank"]["exports"] == by_istiod["shop"]["imports"] == [GLOBAL]
    assert by_istiod["shop"]["exports"] == by_istiod["bank"]["imports"] == []
    assert by_istiod["shop"]["gateways"] == [f"{mesh.gateway('bank')}:15444"]
    assert (by_istiod["bank"]["listeners"], by_istiod["shop"]["listeners"]) == (1, 1)
    assert all(row["problems"] == [] for row in found)


def test_neither_mesh_s_authority_makes_an_identity_of_the_other(mesh):
    """Shown to a workload of shop by somebody in shop's network who has bank's signing key."""
    theirs, above = authority_of(mesh, "bank")
    ours, foreign = "spiffe://shop.example/ns/sample/sa/client", "spiffe://bank.example/ns/sample/sa/client"
    shown = {
        "its own": forged(theirs, foreign),
        "ours": forged(theirs, ours),
        "its own and then ours": forged(theirs, foreign, ours),
        "ours and then its own": forged(theirs, ours, foreign),
    }
    shown = {name: (f"{leaf}\n{above}\n", key) for name, (leaf, key) in shown.items()}

    got = json.loads(mesh.python("shop", SHOWING, mesh.pods("shop", "helloworld")[0]["ip"], json.dumps(shown)))

    assert got.pop("its own") == "HTTP/1.1 403 Forbidden", "it is known, and allowed nothing"
    assert {name: answer for name, answer in got.items() if answer and not answer.startswith("refused")} == {}


def test_each_mesh_follows_the_others_bundle(mesh, until):
    for here, there in (("shop", "bank"), ("bank", "shop")):
        service = mesh.core(there).read_namespaced_service("istiod-peers", "istio-system")
        done = mesh.isthmus(
            "trust", "follow", "--context", here, "--trust-domain", f"{there}.example",
            "--url", f"https://{service.spec.load_balancer_ip}:15019/",
            "--identity", f"spiffe://{there}.example/ns/istio-system/sa/istiod",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def rows() -> dict[tuple[str, str], dict]:
        shown = json.loads(mesh.isthmus("trust", "bundles", "-o", "json").stdout)["bundles"]
        return {(row["cluster"], row["trustDomain"]): row for row in shown}

    def both() -> bool:
        found = rows()
        pairs = found["shop", "bank.example"], found["bank", "shop.example"]
        return all(each["state"] == "current" and each["askedForOursAt"] for each in pairs)

    until("both are current, and each sees that the other asks", both)
    found = rows()
    assert found["shop", "bank.example"]["sequence"] == found["bank", "bank.example"]["sequence"]
    assert {found[key]["source"] for key in (("shop", "shop.example"), ("bank", "bank.example"))} == {"own"}
    assert answered(mesh, "shop", GLOBAL) == {"bank"}
