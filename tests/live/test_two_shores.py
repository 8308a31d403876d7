"""Requests between two clusters on two networks with the same addresses."""

from __future__ import annotations

import json
import sys
from collections import Counter

import kubernetes
import pytest

from isthmus.localruntime.traffic import run_inside

pytestmark = pytest.mark.live

CLIENT_ID = "spiffe://cluster.local/ns/sample/sa/client"
SERVER_ID = "spiffe://cluster.local/ns/sample/sa/helloworld"

CONNECT = """
import socket, sys
connection = socket.socket()
connection.settimeout(5)
connection.setsockopt(socket.SOL_SOCKET, 36, 1337)  # as the sidecar itself: past the capture
try:
    connection.connect((sys.argv[1], int(sys.argv[2])))
    connection.sendall(b"GET / HTTP/1.1\\r\\nHost: helloworld.sample\\r\\n\\r\\n")
    print("received", len(connection.recv(1000)))
except OSError as error:
    print("failed", type(error).__name__)
"""


@pytest.mark.parametrize("cluster", ["east", "west"])
def test_both_versions_answer_each_client(mesh, cluster):
    answers = mesh.ask(cluster, 40)

    assert not [answer for answer in answers if "error" in answer]
    assert {(answer["version"], answer["cluster"]) for answer in answers} == {("v1", "east"), ("v2", "west")}
    assert {(answer["caller"], answer["self"]) for answer in answers} == {(CLIENT_ID, SERVER_ID)}


def test_pods_of_two_networks_with_the_same_address_are_each_given_their_own(mesh):
    """What an address means depends on its network: each proxy has the workload beside it, and its own identity."""
    own = {cluster: {pod["ip"]: pod for pod in mesh.cluster(cluster)["pods"]} for cluster in ("east", "west")}
    shared = [ip for ip in own["east"].keys() & own["west"].keys() if own["east"][ip]["namespace"] == "sample"]
    assert shared, "the two networks have the same range, and are filled from its beginning"

    for ip in shared:
        for cluster in ("east", "west"):
            pod = own[cluster][ip]
            page = json.loads(mesh.envoy(cluster, "sample", pod["name"], "config_dump"))
            [bootstrap] = [each for each in page["configs"] if "BootstrapConfigDump" in each["@type"]]
            assert bootstrap["bootstrap"]["node"]["metadata"]["CLUSTER_ID"] == cluster
            certificates = json.loads(mesh.envoy(cluster, "sample", pod["name"], "certs"))["certificates"]
            names = {
                name["uri"]
                for each in certificates
                for chain in each["cert_chain"]
                for name in chain["subject_alt_names"]
            }
            assert names == {f"spiffe://cluster.local/ns/sample/sa/{pod['labels']['app']}"}
    print(f"in both networks: {', '.join(sorted(shared))}")


def test_the_way_to_the_other_network_leads_through_its_gateway_and_only_there(mesh):
    received = "tcp.outbound_.5000_._.helloworld.sample.svc.cluster.local;.downstream_cx_rx_bytes_total"
    before = mesh.counter("west", "istio-system", "istio-eastwestgateway", received)

    answers = [answer for answer in mesh.ask("east", 20) if answer.get("cluster") == "west"]

    assert {answer["caller"] for answer in answers} == {CLIENT_ID}, "the client's own identity, not the gateway's"
    assert mesh.counter("west", "istio-system", "istio-eastwestgateway", received) > before
    endpoints = json.loads(mesh.envoy("east", "sample", "client", "clusters?format=json"))["cluster_statuses"]
    addresses = {
        host["address"]["socket_address"]["address"]
        for cluster in endpoints
        if cluster["name"] == "outbound|5000||helloworld.sample.svc.cluster.local"
        for host in cluster["host_statuses"]
    }
    [own] = [pod["ip"] for pod in mesh.pods("east", "helloworld")]
    assert addresses == {own, mesh.gateway("west")}


def test_the_running_control_plane_says_why_and_why_not(mesh):
    told = mesh.isthmus("why", "client", "helloworld", "--in-cluster", "east", "-o", "json")
    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout)
    [upstream] = answer["way"]["upstreams"]

    assert (answer["verdict"], answer["client"]["identity"]) == ("allowed", CLIENT_ID)
    assert answer["dns"]["by"] == "the proxy"
    assert {each["address"] for each in upstream["destinations"]} == {
        f"{mesh.pods('east', 'helloworld')[0]['ip']}:5000",
        f"{mesh.gateway('west')}:15443",
    }
    not_there = mesh.isthmus("why-not", "192.0.2.7", "--from", "client", "--in-cluster", "east")
    assert (not_there.returncode, "no endpoint of any service" in not_there.stderr) == (1, True)


def test_the_gateway_has_its_own_certificate_and_no_other(mesh):
    secrets = mesh.isthmus(
        "proxy-config", "secrets", "istio-eastwestgateway.istio-system", "--cluster", "west", "-o", "json"
    )

    chains = [secret for secret in json.loads(secrets.stdout)["secrets"] if secret["type"] == "Cert Chain"]
    account = "istio-eastwestgateway-service-account"
    assert [chain["identity"] for chain in chains] == [f"spiffe://cluster.local/ns/istio-system/sa/{account}"]


def test_pods_of_another_network_cannot_be_reached_directly(mesh, until):
    with mesh.scaled("west", "helloworld-v2", 4):
        until("four replicas", lambda: sum(pod["ready"] == "2/2" for pod in mesh.pods("west", "helloworld")) == 4)
        east = {pod["ip"] for pod in mesh.cluster("east")["pods"]}
        only_west = [pod["ip"] for pod in mesh.pods("west", "helloworld") if pod["ip"] not in east]

        said = [mesh.python("east", CONNECT, ip, "5000").split()[0] for ip in only_west]

    assert said
    assert set(said) == {"failed"}
    assert mesh.python("west", CONNECT, mesh.pods("west", "helloworld")[0]["ip"], "15021").split()[0] == "received", (
        "the same attempt works inside the network"
    )
    until("one replica", lambda: len(mesh.pods("west", "helloworld")) == 1)


def test_the_gateway_refuses_plaintext(mesh):
    refused = mesh.python("east", CONNECT, mesh.gateway("west"), "15443").split()

    assert refused in (["received", "0"], ["failed", "ConnectionResetError"])


TO_THE_GATEWAY = """
import socket, ssl, sys
def connected():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["istio"])
    connection = socket.socket()
    connection.settimeout(5)
    connection.setsockopt(socket.SOL_SOCKET, 36, 1337)  # as the sidecar itself: past the capture
    connection.connect((sys.argv[1], 15443))
    return context, connection
"""

LET_IN = f"""{TO_THE_GATEWAY}
for name in sys.argv[2:]:
    context, connection = connected()
    try:
        context.wrap_socket(connection, server_hostname="outbound_." + name)
        print("accepted")
    except OSError as error:
        print("refused")
"""


def let_in(mesh, *names: str) -> list[str]:
    """Whether west's gateway leads east's client to somebody who speaks TLS, for each PORT_._.HOST."""
    return mesh.python("east", LET_IN, mesh.gateway("west"), *names).split()


HELLO, ECHO = "5000_._.helloworld.sample.svc.cluster.local", "9000_._.tcp-echo.sample.svc.cluster.local"


def test_the_gateway_refuses_names_that_it_does_not_know(mesh):
    assert let_in(mesh, HELLO, "5000_._.nobody.sample.svc.cluster.local") == ["accepted", "refused"]


def test_the_gateway_lets_in_the_hosts_that_it_exposes_and_no_other(mesh, until):
    api = kubernetes.client.CustomObjectsApi(mesh.core("west").api_client)
    where = ("networking.istio.io", "v1", "istio-system", "gateways", "cross-network-gateway")
    [server] = api.get_namespaced_custom_object(*where)["spec"]["servers"]

    def expose(*hosts: str) -> None:
        api.patch_namespaced_custom_object(*where, {"spec": {"servers": [server | {"hosts": hosts}]}})

    assert server["hosts"] == ["*.local"]
    assert let_in(mesh, HELLO, ECHO) == ["accepted", "accepted"]
    expose("helloworld.sample.svc.cluster.local")
    try:
        until("tcp-echo is let in no longer", lambda: let_in(mesh, ECHO) == ["refused"])
        assert let_in(mesh, HELLO) == ["accepted"]
    finally:
        expose("*.local")
    until("both are let in again", lambda: let_in(mesh, HELLO, ECHO) == ["accepted", "accepted"])


def test_a_workload_that_shows_no_certificate_is_refused(mesh):
    """Passing west's gateway by the right SNI is not enough: the server's sidecar asks for a certificate of the mesh."""
    script = f"""{TO_THE_GATEWAY}
from cryptography import x509
context, connection = connected()
try:
    secure = context.wrap_socket(connection, server_hostname="outbound_.5000_._.helloworld.sample.svc.cluster.local")
    shown = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True)).extensions
    print(*shown.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier))
    secure.sendall(b"GET /hello HTTP/1.1\\r\\nHost: helloworld.sample\\r\\n\\r\\n")
    print("received", secure.recv(1000))
except OSError as error:
    print("refused")
"""
    shown, answer = mesh.python("east", script, mesh.gateway("west")).splitlines()

    assert shown == SERVER_ID, "what is seen through the gateway is the workload's own certificate"
    assert answer == "refused"


@pytest.mark.parametrize("cluster", ["east", "west"])
def test_names_of_services_resolve_in_workloads(mesh, cluster):
    script = "import socket; print(*(socket.gethostbyname(name) for name in ('helloworld.sample', 'helloworld')))"

    addresses = mesh.python(cluster, script).split()

    service = mesh.core(cluster).read_namespaced_service("helloworld", "sample")
    other = mesh.core("east" if cluster == "west" else "west").read_namespaced_service("helloworld", "sample")
    assert addresses == [service.spec.cluster_ip] * 2
    assert service.spec.cluster_ip != other.spec.cluster_ip, "each cluster has given it an address of its own"
    told = mesh.envoy(cluster, "sample", "client", "config_dump")
    assert f'"{service.spec.cluster_ip}"' in told
    assert f'"{other.spec.cluster_ip}"' not in told
    explained = mesh.isthmus("dns", "explain", "helloworld", "--from", "client", "--in-cluster", cluster, "-o", "json")
    assert explained.returncode == 0, explained.stderr
    [step] = json.loads(explained.stdout)["steps"]
    assert (step["name"], step["asked"][0]["by"]) == ("helloworld.sample.svc.cluster.local", "the proxy")
    assert step["asked"][0]["addresses"] == [service.spec.cluster_ip]


def test_the_sidecar_answers_questions_over_udp_and_over_tcp(mesh):
    """Both are captured, whatever name server the Pod asks; what the mesh does not know is answered by the cluster's own."""
    script = """
import socket, struct, sys
def question(name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + labels + bytes(1) + struct.pack("!2H", 1, 1)
def shown(answer):
    flags, _, answers = struct.unpack("!3H", answer[2:8])
    return socket.inet_ntoa(answer[-4:]) if answers else f"code {flags & 15}"
for name in sys.argv[2:]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(5)
        udp.sendto(question(name), (sys.argv[1], 53))
        print(shown(udp.recv(4096)))
    with socket.create_connection((sys.argv[1], 53), timeout=5) as tcp:
        asked = question(name)
        tcp.sendall(struct.pack("!H", len(asked)) + asked)
        with tcp.makefile("rb") as answers:
            print(shown(answers.read(struct.unpack("!H", answers.read(2))[0])))
"""
    core = mesh.core("east")
    own = core.read_namespaced_service("helloworld", "sample").spec.cluster_ip
    api = core.read_namespaced_service("kubernetes", "default").spec.cluster_ip
    names = [f"{name}.svc.cluster.local" for name in ("helloworld.sample", "kubernetes.default", "nobody.sample")]

    said = mesh.python("east", script, "192.0.2.53", *names).split("\n")[:-1]

    assert said == [own, own, api, api, "code 3", "code 3"], "each over UDP and over TCP"


@pytest.mark.parametrize("cluster", ["east", "west"])
def test_tcp_reaches_both_clusters(mesh, cluster):
    script = """
import socket
for _ in range(20):
    with socket.create_connection(("tcp-echo.sample", 9000), timeout=5) as connection:
        connection.sendall(b"hello\\n")
        print(connection.makefile().readline().split()[0])
"""
    assert set(mesh.python(cluster, script).split()) == {"v1", "v2"}


@pytest.mark.parametrize("cluster", ["east", "west"])
def test_a_server_that_speaks_first_reaches_its_client(mesh, cluster):
    script = """
import socket
with socket.create_connection(("tcp-echo.sample", 9001), timeout=5) as connection:
    print(connection.makefile().readline())
"""
    assert mesh.python(cluster, script).startswith("welcome to v")


@pytest.mark.parametrize("cluster", ["east", "west"])
def test_grpc_reaches_both_clusters_over_one_connection(mesh, cluster):
    script = """
import grpc
with grpc.insecure_channel("grpc-echo.sample:7070") as channel:
    echo = channel.unary_unary("/isthmus.Echo/Echo")
    for _ in range(20):
        print(echo(b"hello", timeout=5).split()[0].decode())
"""
    counted = Counter(mesh.python(cluster, script).split())

    assert set(counted) == {"v1", "v2"}
    assert sum(counted.values()) == 20


def test_every_proxy_has_acknowledged_everything(mesh, until):
    def states() -> set[str]:
        shown = json.loads(mesh.isthmus("proxy-status", "-o", "json").stdout)["proxies"]
        return {
            f"{proxy['proxy']} {kind} {resources}"
            for proxy in shown
            for kind, resources in proxy["resources"].items()
            if not resources["settled"] or resources["lastError"]
        }

    until("all settled", lambda: not states())
    assert len(json.loads(mesh.isthmus("proxy-status", "-o", "json").stdout)["proxies"]) == 10


RESOLVE = """
import socket, sys
for name in sys.argv[1:]:
    try:
        print(socket.gethostbyname(name))
    except socket.gaierror:
        print("nothing")
"""


def test_the_clusters_own_dns_answers_for_its_own_services_alone(mesh, until):
    """A name whose Service only west has: east's own DNS says that it does not exist, the proxies of both clusters know better."""
    west, east = mesh.core("west"), mesh.core("east")
    ports = [{"name": "http", "port": 5000}]
    far = {"metadata": {"name": "far"}, "spec": {"selector": {"app": "helloworld"}, "ports": ports}}
    pods = {
        "metadata": {"name": "pods"},
        "spec": {"clusterIP": "None", "selector": {"app": "helloworld"}, "ports": ports},
    }
    labels = {"app": "plain", "sidecar.istio.io/inject": "false"}
    container = {"name": "client", "image": "isthmus/client"}
    plain = {"metadata": {"name": "plain", "labels": labels}, "spec": {"containers": [container]}}
    west.create_namespaced_service("sample", far)
    east.create_namespaced_service("sample", pods)
    east.create_namespaced_pod("sample", plain)
    names = ("helloworld", "helloworld.sample.svc.cluster.local", "far.sample", "pods.sample", "www.example.org")

    def to_plain() -> list[str]:
        done = run_inside(mesh.client, ("east", "sample", "plain"), [sys.executable, "-c", RESOLVE, *names])
        return done.stdout.split()

    try:
        until("it runs", lambda: east.read_namespaced_pod("plain", "sample").status.phase == "Running")
        own = east.read_namespaced_service("helloworld", "sample").spec.cluster_ip
        [pod] = mesh.pods("east", "helloworld")
        until("east's DNS knows its own", lambda: to_plain() == [own, own, "nothing", pod["ip"], "nothing"])

        asked = mesh.python("east", RESOLVE, "far.sample", "www.example.org").split()
        assert asked[0].startswith("240.240."), "an address of the mesh"
        assert asked[1] == "nothing", "the cluster's DNS is asked, and says no"
        script = "import urllib.request as u; print(u.urlopen('http://far.sample:5000/hello').read().decode())"
        assert "version: v2" in mesh.python("east", script), "through the gateway, to west"
    finally:
        west.delete_namespaced_service("far", "sample")
        east.delete_namespaced_service("pods", "sample")
        east.delete_namespaced_pod("plain", "sample", grace_period_seconds=0)
