"""What an attacker inside the mesh's networks tries, past the capture of its own Pod; and what it gets: nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from forged_certificates import CODE, HOUR, SERVER, forged
from showing_certificates import PAST_CAPTURE, SHOWING, authority_of

from isthmus.model.identity import TrustDomain
from isthmus.trust import x509

pytestmark = pytest.mark.live

CLIENT_ID = "spiffe://cluster.local/ns/sample/sa/client"

PAGES = (
    PAST_CAPTURE
    + """
found = {}
for port, path in json.loads(sys.argv[2]):
    try:
        found[f"{port}{path}"] = said(
            connect(sys.argv[1], port), f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n"
        ).partition("\\r\\n")[0]
    except OSError as error:
        found[f"{port}{path}"] = ""
print(json.dumps(found))
"""
)

SMUGGLED = (
    PAST_CAPTURE
    + """
admin = "By=spiffe://cluster.local/ns/sample/sa/x;URI=spiffe://cluster.local/ns/sample/sa/admin"
text = "GET /headers HTTP/1.1\\r\\nHost: helloworld.sample\\r\\nConnection: close\\r\\n"
for name in ("X-Forwarded-Client-Cert", "x-forwarded-client-cert", "X-FORWARDED-CLIENT-CERT"):
    text += f"{name}: {admin}\\r\\n"
past = said(connect(sys.argv[1], 5000), text + "\\r\\n")
through = socket.create_connection(("helloworld.sample", 5000), timeout=5)
print(json.dumps({"past": past, "through": said(through, text + "\\r\\n")}))
"""
)

ASKING_BY_NAME = (
    PAST_CAPTURE
    + """
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["istio"])
try:
    context.wrap_socket(connect(sys.argv[1], 15443), server_hostname=sys.argv[2])
    print("accepted")
except OSError as error:
    print("refused")
"""
)


def test_the_ports_of_proxies_and_control_planes_give_nothing_away(mesh):
    """Administration has no port at all; the ports of capture lead nowhere; what is for everybody answers its one question."""
    pod, control_plane = mesh.pods("east", "helloworld")[0]["ip"], mesh.pods("east", "istiod")[0]["ip"]
    closed = [(15000, "/config_dump"), (15001, "/hello"), (15006, "/hello"), (15004, "/"), (15053, "/")]
    one_question = [
        (15021, "/config_dump"),
        (15021, "/healthz/ready/../../config_dump"),
        (15090, "/config_dump"),
        (15090, "/quitquitquit"),
        (15090, "/stats/prometheus/../../config_dump"),
    ]
    debug = [
        (15014, f"/debug/{page}")
        for page in ("syncz", "clusterz", "issues", "graph", "config_dump", "graph.mmd", "why", "dns")
    ]

    at_proxy = json.loads(mesh.python("east", PAGES, pod, json.dumps([*closed, *one_question])))
    at_control_plane = json.loads(
        mesh.python("east", PAGES, control_plane, json.dumps([*debug, (15012, "/"), (15013, "/"), (15010, "/")]))
    )

    assert {at_proxy[f"{port}{path}"] for port, path in closed} <= {"", "HTTP/1.1 503 Service Unavailable"}
    assert {at_proxy[f"{port}{path}"] for port, path in one_question} == {"HTTP/1.1 404 Not Found"}
    assert {at_control_plane[f"{port}{path}"] for port, path in debug} == {"HTTP/1.1 403 Forbidden"}
    assert {at_control_plane[f"{port}/"] for port in (15012, 15013, 15010)} == {""}


def test_nobody_can_say_who_its_caller_is(mesh):
    """Neither in plaintext past its own sidecar, nor through it: what a client writes into x-forwarded-client-cert is removed."""
    got = json.loads(mesh.python("east", SMUGGLED, mesh.pods("east", "helloworld")[0]["ip"]))

    assert got["past"].startswith("HTTP/1.1 200")
    assert got["through"].startswith("HTTP/1.1 200")
    assert "sa/admin" not in got["past"]
    assert "sa/admin" not in got["through"]
    assert CLIENT_ID in got["through"], "the proven identity is told"


def test_a_server_takes_no_certificate_but_a_current_one_of_its_own_trust_domain(mesh):
    ours, above = authority_of(mesh, "east")
    domain = TrustDomain.parse("cluster.local")
    theirs = x509.new_root(domain, datetime.now(UTC), timedelta(days=1))
    shown = {
        "good": forged(ours, CLIENT_ID),
        "signed by another authority": forged(theirs, CLIENT_ID),
        "expired": forged(ours, CLIENT_ID, begins=-2 * HOUR, ends=-HOUR),
        "not valid yet": forged(ours, CLIENT_ID, begins=HOUR, ends=2 * HOUR),
        "of another trust domain": forged(ours, "spiffe://elsewhere.example/ns/sample/sa/client"),
        "without a name": forged(ours),
        "for servers only": forged(ours, CLIENT_ID, usages=(SERVER,)),
        "for signing code": forged(ours, CLIENT_ID, usages=(CODE,)),
        "two names, one of another trust domain first": forged(ours, "spiffe://elsewhere.example/x", CLIENT_ID),
    }

    shown = {name: (f"{leaf}\n{above}\n", key) for name, (leaf, key) in shown.items()}
    got = json.loads(mesh.python("east", SHOWING, mesh.pods("east", "helloworld")[0]["ip"], json.dumps(shown)))

    assert got.pop("good") == "HTTP/1.1 200 OK"
    assert {name: answer for name, answer in got.items() if answer and not answer.startswith("refused")} == {}


def test_the_network_gateway_has_no_name_for_what_is_not_exported(mesh, until):
    core, gateway = mesh.core("west"), mesh.gateway("west")
    spec = {"selector": {"app": "helloworld"}, "ports": [{"name": "http", "port": 5000, "targetPort": 5000}]}
    core.create_namespaced_service("sample", {"metadata": {"name": "vault"}, "spec": spec})
    name = "outbound_.5000_._.vault.sample.svc.cluster.local"

    def answer() -> str:
        return mesh.python("east", ASKING_BY_NAME, gateway, name).strip()

    try:
        until("it is exported", lambda: answer() == "accepted")
        private = {"metadata": {"annotations": {"networking.istio.io/exportTo": "~"}}}
        core.patch_namespaced_service("vault", "sample", private)
        until("it is not", lambda: answer() == "refused")
    finally:
        core.delete_namespaced_service("vault", "sample", _preload_content=False)
