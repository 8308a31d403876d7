"""BackendTLSPolicy: what gateways start with a backend, what its writer is told, and whether a real Envoy then trusts the right one alone."""

from __future__ import annotations

import datetime
import http.client
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from free_ports import free_port
from running_envoy import running_envoy

from isthmus.assurance.gateway_status import documents, gateway_statuses
from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import verdict
from isthmus.envoy.static import static_bootstrap

GATEWAY_API = "gateway.networking.k8s.io/v1"
HOST = "backend.example"


def made(name: str) -> tuple[str, str]:
    """A certificate for a host that vouches for itself, and its key."""
    key, subject = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]),
    )
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return (
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(serialization.Encoding.PEM, pkcs8, plain).decode(),
    )


OWN, KEY = made(HOST)
OTHER, _ = made(HOST)


def obj(kind: str, name: str, version: str = "v1", **fields: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "shop", **fields.pop("metadata", {})}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **fields}


def policy(name: str = "tls", *, created: str = "2024-01-01T00:00:00Z", **spec: Any) -> dict[str, Any]:
    refs = {"targetRefs": [{"group": "", "kind": "Service", "name": "backend"}]}
    return obj("BackendTLSPolicy", name, GATEWAY_API, spec=refs | spec, metadata={"creationTimestamp": created})


def validation(**said: Any) -> dict[str, Any]:
    return {"validation": {"hostname": HOST} | said}


BY_CONFIG_MAP = validation(caCertificateRefs=[{"group": "", "kind": "ConfigMap", "name": "roots"}])


def mesh(*more: dict[str, Any], authorities: str = OWN, port: int = 8443, listens: int = 80) -> Any:
    gateway_spec = {
        "gatewayClassName": "istio",
        "addresses": [{"type": "Hostname", "value": "in.shop.svc.cluster.local"}],
        "listeners": [{"name": "http", "port": listens, "protocol": "HTTP"}],
    }
    route_spec = {
        "parentRefs": [{"name": "front"}],
        "rules": [{"backendRefs": [{"name": "backend", "port": 443}]}],
    }
    ports = [{"name": "https", "port": 443}, {"name": "http", "port": 80}]
    own = {"clusterIP": "10.96.0.2", "selector": {"app": "in"}, "ports": [{"name": "http", "port": listens}]}
    slice_of = {"labels": {"kubernetes.io/service-name": "backend"}}
    return scenario_of(
        {
            "clusters": [
                {
                    "id": "east",
                    "objects": [
                        obj("Service", "backend", spec={"clusterIP": "10.96.0.1", "ports": ports}),
                        obj("EndpointSlice", "backend-1", "discovery.k8s.io/v1", metadata=slice_of, addressType="IPv4",
                            ports=[{"name": "https", "port": port}], endpoints=[{"addresses": ["127.0.0.1"]}]),
                        obj("Service", "in", spec=own),
                        obj("Pod", "in", metadata={"labels": {"app": "in"}}, status={"podIP": "10.0.0.1"}),
                        obj("Pod", "caller", status={"podIP": "10.0.0.2"}),
                        obj("ConfigMap", "roots", data={"ca.crt": authorities}),
                        obj("GatewayClass", "istio", GATEWAY_API, spec={"controllerName": "istio.io/gateway-controller"}),
                        obj("Gateway", "front", GATEWAY_API, spec=gateway_spec),
                        obj("HTTPRoute", "to-backend", GATEWAY_API, spec=route_spec),
                        *more,
                    ],
                }
            ]
        }
    )  # fmt: skip


def rendered(scenario: Any, who: str = "router/in.shop") -> dict[str, Any]:
    return render(scenario, node_of(scenario, who, "east"))


def tls_of(document: dict[str, Any], port: int = 443) -> dict[str, Any] | None:
    name = f"outbound|{port}||backend.shop.svc.cluster.local"
    [cluster] = [each for each in document["clusters"] if each["name"] == name]
    return cluster.get("transportSocket", {}).get("typedConfig")


def told(scenario: Any) -> dict[str, dict[str, str]]:
    """Of each policy, what is said of its first target: status and reason by condition."""
    objects = scenario.clusters[0].objects
    found = {}
    for each in documents(gateway_statuses(scenario.snapshot(), objects, "2024-01-01T00:00:00Z")):
        if each["kind"] == "BackendTLSPolicy":
            conditions = each["status"]["ancestors"][0]["conditions"]
            found[each["metadata"]["name"]] = {c["type"]: f"{c['status']} {c['reason']}" for c in conditions}
    return found


def test_gateways_start_tls_under_the_name_and_with_the_authorities_of_the_policy():
    scenario = mesh(policy(**BY_CONFIG_MAP))

    document = rendered(scenario)

    tls = tls_of(document)
    assert tls is not None
    judged = tls["commonTlsContext"]["validationContext"]
    assert (tls["sni"], judged["trustedCa"]["inlineString"].strip()) == (HOST, OWN.strip())
    assert {each["matcher"]["exact"] for each in judged["matchTypedSubjectAltNames"]} == {HOST}
    assert told(scenario) == {"tls": {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"}}
    assert verdict(document) == ""


def test_callers_within_the_mesh_are_not_gateways():
    assert tls_of(rendered(mesh(policy(**BY_CONFIG_MAP)), "sidecar/caller.shop")) is None


def test_the_systems_authorities_and_other_names_where_the_policy_says_so():
    names = [{"type": "URI", "uri": "spiffe://elsewhere/backend"}, {"type": "Hostname", "hostname": "b.example"}]

    tls = tls_of(rendered(mesh(policy(**validation(wellKnownCACertificates="System", subjectAltNames=names)))))

    assert tls is not None
    judged = tls["commonTlsContext"]["validationContext"]
    assert "filename" in judged["trustedCa"]
    assert {each["matcher"]["exact"] for each in judged["matchTypedSubjectAltNames"]} == {
        "spiffe://elsewhere/backend",
        "b.example",
    }


def test_a_policy_for_a_port_leaves_the_others_alone():
    target = {"group": "", "kind": "Service", "name": "backend", "sectionName": "https"}

    document = rendered(mesh(policy(targetRefs=[target], **BY_CONFIG_MAP)))

    assert tls_of(document, 443) is not None
    assert tls_of(document, 80) is None


def test_what_a_destination_rule_says_beside_tls_holds_too():
    rule = {
        "host": "backend",
        "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 7}}, "tls": {"mode": "DISABLE"}},
    }

    document = rendered(mesh(policy(**BY_CONFIG_MAP), obj("DestinationRule", "r", "networking.istio.io/v1", spec=rule)))

    [cluster] = [each for each in document["clusters"] if each["name"].startswith("outbound|443||backend")]
    assert cluster["circuitBreakers"]["thresholds"][0]["maxConnections"] == 7
    assert tls_of(document) is not None


@pytest.mark.parametrize(
    ("spec", "accepted", "resolved"),
    [
        (validation(caCertificateRefs=[{"group": "", "kind": "ConfigMap", "name": "none"}]), "NoValidCACertificate", "InvalidCACertificateRef"),
        (validation(caCertificateRefs=[{"group": "", "kind": "Thing", "name": "roots"}]), "NoValidCACertificate", "InvalidKind"),
        (validation(wellKnownCACertificates="Mine"), "Invalid", "ResolvedRefs"),
    ],
)  # fmt: skip
def test_backends_of_a_policy_that_cannot_be_done_are_refused_not_called_in_plaintext(spec, accepted, resolved):
    scenario = mesh(policy(**spec))

    tls = tls_of(rendered(scenario))

    assert tls is not None
    names = tls["commonTlsContext"]["validationContext"]["matchTypedSubjectAltNames"]
    assert {each["matcher"]["exact"] for each in names} == {"unresolved.invalid"}
    said = told(scenario)["tls"]
    assert (said["Accepted"], said["ResolvedRefs"].split()[1]) == (f"False {accepted}", resolved)
    assert [each.code for each in scenario.snapshot().issues if each.subject.kind == "BackendTLSPolicy"] == ["ISM0607"]


def test_of_two_policies_for_one_target_the_older_one_counts():
    younger = policy("younger", created="2024-02-01T00:00:00Z", **validation(wellKnownCACertificates="System"))
    nowhere = policy("nowhere", targetRefs=[{"group": "", "kind": "Service", "name": "gone"}], **BY_CONFIG_MAP)
    scenario = mesh(younger, nowhere, policy("older", **BY_CONFIG_MAP))

    tls = tls_of(rendered(scenario))

    assert tls is not None
    assert "inlineString" in tls["commonTlsContext"]["validationContext"]["trustedCa"]
    assert {name: said["Accepted"] for name, said in told(scenario).items()} == {
        "older": "True Accepted",
        "younger": "False Conflicted",
        "nowhere": "False TargetNotFound",
    }


def test_a_policy_of_another_namespace_says_nothing_of_a_service_whatever_host_it_claims():
    ports = [{"number": 443, "name": "https", "protocol": "HTTPS"}]
    entry = {"hosts": ["backend.shop.svc.cluster.local"], "ports": ports, "resolution": "STATIC"}
    target = {"group": "networking.istio.io", "kind": "ServiceEntry", "name": "claim"}
    theirs = policy(
        "claim", targetRefs=[target], **validation(wellKnownCACertificates="System", hostname="elsewhere.example")
    )
    theirs["metadata"]["namespace"] = "elsewhere"
    claimed = obj("ServiceEntry", "claim", "networking.istio.io/v1", spec=entry, metadata={"namespace": "elsewhere"})

    alone, beside = mesh(claimed, theirs), mesh(claimed, theirs, policy(**BY_CONFIG_MAP))

    assert tls_of(rendered(alone)) is None
    tls = tls_of(rendered(beside))
    assert tls is not None
    assert tls["sni"] == HOST


class Backend(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *said: object) -> None:
        del said


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "chain.pem").write_text(OWN + KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def status_through(scenario: Any, listens: int, directory: Path) -> int:
    """Of a request through the gateway's own Envoy."""
    document = rendered(scenario)
    for cluster in document["clusters"]:
        # Nobody is there to give the mesh's certificates, and nobody here asks for one.
        cluster.pop("transportSocketMatches", None)
    with running_envoy(static_bootstrap(document), directory):
        connection = http.client.HTTPConnection("127.0.0.1", listens, timeout=60)
        connection.request("GET", "/", headers={"Host": "shop.example"})
        return connection.getresponse().status


@pytest.mark.parametrize(("authorities", "status"), [(OWN, 200), (OTHER, 503)])
def test_envoy_trusts_a_backend_that_the_policys_authorities_vouch_for_and_no_other(
    authorities, status, backend, tmp_path
):
    listens = free_port()
    scenario = mesh(policy(**BY_CONFIG_MAP), authorities=authorities, port=backend, listens=listens)

    assert status_through(scenario, listens, tmp_path) == status
