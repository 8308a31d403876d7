"""Certificates from a signer of the Kubernetes API: installed with the rights of `isthmus install`, a control plane that has no key of its own, and a
signer that signs what it is asked for, as signers do.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from cryptography import x509 as raw
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from isthmus.cli.errors import BAD_INPUT
from isthmus.controlplane import external_signer
from isthmus.controlplane.external_signer import ExternalSigner, SignerRules
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.registration import Refused

SIGNER = "signers.example/mesh"
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SYSTEM = "/api/v1/namespaces/istio-system"
DOMAIN = TrustDomain.parse("cluster.local")
WEB = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/web")
DAY = timedelta(days=1)
CERTS = """
import http.client, socket, sys
connection = http.client.HTTPConnection("envoy")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("GET", "/certs")
print(connection.getresponse().read().decode())
"""


ISSUES = 'import urllib.request; print(urllib.request.urlopen("http://127.0.0.1:15014/debug/issues").read().decode())'


def pem(*issuers: x509.Issuer) -> str:
    return "".join(x509.certificate_pem(issuer.certificate) for issuer in issuers)


class Signer(threading.Thread):
    """Signs what is approved for it, with all that the request asks for. `says` is what it does instead."""

    def __init__(self, cell: Any, name: str) -> None:
        super().__init__(daemon=True)
        self._cell, self._name = cell, name
        self._ended = threading.Event()
        self.root = x509.new_root(DOMAIN, datetime.now(UTC), 10 * DAY)
        self.says = ""
        self.signed: list[dict[str, Any]] = []

    def run(self) -> None:
        while not self._ended.wait(0.05):
            for item in self._cell.request("GET", f"{CSRS}?fieldSelector=spec.signerName={self._name}")[1]["items"]:
                status = item.get("status") or {}
                types = [each["type"] for each in status.get("conditions") or ()]
                if "Approved" in types and not status.get("certificate") and "Failed" not in types:
                    self._answer(item, status)

    def end(self) -> None:
        self._ended.set()
        self.join(30)

    def _answer(self, item: dict[str, Any], status: dict[str, Any]) -> None:
        match self.says:
            case "nothing":
                return
            case "no":
                failed = {"type": "Failed", "status": "True", "reason": "Policy", "message": "not on Sundays"}
                status = status | {"conditions": [*status["conditions"], failed]}
            case _:
                certificate = pem_of(self._certificate(item["spec"]))
                status = status | {"certificate": base64.b64encode(certificate.encode()).decode()}
        path = f"{CSRS}/{item['metadata']['name']}/status"
        code, answer = self._cell.request("PUT", path, item | {"status": status})
        if code == 200:
            self.signed.append(answer)

    def _certificate(self, spec: dict[str, Any]) -> raw.Certificate:
        request = raw.load_pem_x509_csr(base64.b64decode(spec["request"]))
        now = datetime.now(UTC)
        stranger = x509.new_key().public_key() if self.says == "another key" else request.public_key()
        usages = {"server auth": ExtendedKeyUsageOID.SERVER_AUTH, "client auth": ExtendedKeyUsageOID.CLIENT_AUTH}
        signs = self.says == "an authority"
        usage = dict.fromkeys(
            ("content_commitment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
        )
        builder = (
            raw.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(self.root.certificate.subject)
            .public_key(stranger)
            .serial_number(raw.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(seconds=spec["expirationSeconds"]))
            .add_extension(raw.BasicConstraints(ca=signs, path_length=None), critical=True)
            .add_extension(
                raw.KeyUsage(
                    digital_signature=True, key_encipherment=True, key_cert_sign=signs, crl_sign=signs, **usage
                ),
                critical=True,
            )
            .add_extension(
                raw.ExtendedKeyUsage([usages[each] for each in spec["usages"] if each in usages]), critical=False
            )
        )
        for extension in request.extensions:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        return builder.sign(self.root.key, hashes.SHA256())


def pem_of(certificate: raw.Certificate) -> str:
    return x509.certificate_pem(certificate)


def mesh_config(*roots: x509.Issuer) -> dict[str, Any]:
    config = {"caCertificates": [{"pem": pem(*roots), "certSigners": [SIGNER]}]}
    return {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": yaml.safe_dump(config)}}


@pytest.fixture(scope="module")
def signer(cell) -> Iterator[Signer]:
    found = Signer(cell, SIGNER)
    found.start()
    try:
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def control_plane(cell, signer) -> Any:
    done = cell.isthmus(
        "install", "--cluster", "east", "--network", "n1", "--set", f"externalSigner={SIGNER}", "--apply", "-o", "json"
    )
    assert done.returncode == 0, done.stderr
    cell.made("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    cell.made("/api/v1/namespaces/shop/serviceaccounts", {"metadata": {"name": "web"}})
    cell.made(f"{SYSTEM}/configmaps", mesh_config(signer.root))
    return cell.control_plane("istiod", EXTERNAL_CA="ISTIOD_RA_KUBERNETES_API", K8S_SIGNER=SIGNER)


def published(cell: Any) -> str:
    found = cell.request("GET", "/api/v1/namespaces/shop/configmaps/istio-ca-root-cert")[1]
    return str((found.get("data") or {}).get("root-cert.pem", ""))


@pytest.fixture(scope="module")
def sidecar(cell, control_plane) -> Any:
    roots = cell.until("the roots are published", lambda: published(cell))
    return cell.sidecar_of_web(cell.east, "n1", roots)


def test_a_workload_gets_its_certificate_from_the_signer(cell, signer, sidecar):
    shown = json.loads(cell.python(CERTS, str(cell.east.directory / "p" / "admin.sock")))
    uris = {
        name.get("uri")
        for each in shown["certificates"]
        for leaf in each["cert_chain"]
        for name in leaf["subject_alt_names"]
    }
    serials = {leaf["serial_number"] for each in shown["certificates"] for leaf in each["cert_chain"]}
    [asked] = [each for each in signer.signed if each["metadata"]["annotations"]["isthmus.io/identity"] == str(WEB)]
    certificate = base64.b64decode(asked["status"]["certificate"]).decode()

    assert str(WEB) in uris
    assert int(x509.facts_of(certificate).serial, 16) in {int(serial, 16) for serial in serials}
    [condition] = asked["status"]["conditions"]
    assert (condition["type"], condition["reason"]) == ("Approved", "IsthmusRegistrationAuthority")
    assert asked["spec"]["username"] == "system:serviceaccount:istio-system:istiod"


def test_requests_go_when_they_are_answered(cell, sidecar):
    cell.until("no request is left", lambda: not cell.request("GET", CSRS)[1]["items"])


def test_nowhere_in_the_cluster_is_a_signing_key(cell, sidecar):
    secrets = cell.request("GET", f"{SYSTEM}/secrets")[1]["items"]

    assert [
        secret["metadata"]["name"] for secret in secrets if secret.get("type") != "kubernetes.io/service-account-token"
    ] == []


def test_what_is_published_is_the_signers_root(cell, signer, sidecar):
    assert published(cell) == pem(signer.root)


def test_the_control_plane_has_the_rights_that_it_needs_and_approves_for_no_other_signer(cell, control_plane, sidecar):
    told = [line for line in control_plane.log if "orbidden" in line or "cannot" in line or "refus" in line]
    review = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

    def may(verb: str, name: str) -> bool:
        wanted = {"group": "certificates.k8s.io", "resource": "signers", "verb": verb, "name": name}
        spec = {"user": "system:serviceaccount:istio-system:istiod", "resourceAttributes": wanted}
        return bool(cell.made(review, {"spec": spec})["status"]["allowed"])

    assert told == []
    assert may("approve", SIGNER)
    assert not may("approve", "kubernetes.io/kube-apiserver-client")
    assert not may("sign", SIGNER)


def test_the_signers_root_is_changed_in_steps_and_the_control_plane_follows(cell, signer, control_plane, sidecar):
    """Both roots; the signer signs with the new one; the new root. Nothing is started anew."""
    old, new = signer.root, x509.new_root(DOMAIN, datetime.now(UTC), 10 * DAY)

    def configure(*roots: x509.Issuer) -> None:
        path = f"{SYSTEM}/configmaps/istio"
        code, answer = cell.request(
            "PATCH", path, {"data": mesh_config(*roots)["data"]}, "application/merge-patch+json"
        )
        assert code == 200, answer

    configure(old, new)
    cell.until("both are published", lambda: published(cell) == pem(old, new))
    signer.root = new
    configure(new)
    cell.until("the new one alone is published", lambda: published(cell) == pem(new))

    own = [
        each for each in signer.signed if each["metadata"]["annotations"]["isthmus.io/identity"].endswith("/sa/istiod")
    ]
    newest = x509.parse_certificates(base64.b64decode(own[-1]["status"]["certificate"]).decode())[0]
    assert x509.is_issued_by(newest, new.certificate)


@pytest.fixture
async def asking(cell, signer) -> Any:
    """The signer's other side by itself, as the administrator."""
    address = ApiAddress(server=cell.east.url, ca_pem=cell.east._ca_pem, token=cell.east._admin_token)
    async with ApiClient(address) as client:
        rules = SignerRules(workloads=SIGNER, own=SIGNER, domain="signers.example")
        found = ExternalSigner(client, rules, lambda: datetime.now(UTC), pod_name="law", longest=2 * DAY)
        found.roots = {SIGNER: pem(signer.root)}
        yield found
    signer.says = ""


async def ask(asking: ExternalSigner, signer: str = "", names: tuple[str, ...] = (str(WEB),)) -> list[str]:
    return await asking.signed(x509.new_request(x509.new_key(), names), WEB, timedelta(hours=1), signer)


@pytest.mark.parametrize("signer_name", ["", "mesh"])
async def test_a_workload_may_name_a_signer_of_the_domain(asking, signer, signer_name):
    leaf, roots = await ask(asking, signer_name)

    assert (x509.identity_of(leaf), roots) == (WEB, pem(signer.root))


@pytest.mark.parametrize(
    ("says", "code", "told"),
    [
        ("no", "PERMISSION_DENIED", "will not sign it: Failed: Policy: not on Sundays"),
        ("nothing", "UNAVAILABLE", "has not signed within 0.5 s"),
        ("another key", "INTERNAL", "another key than the request's"),
        ("an authority", "INTERNAL", "CA flag"),
    ],
)
async def test_whatever_a_signer_does_has_an_end_and_a_reason(cell, asking, signer, monkeypatch, says, code, told):
    monkeypatch.setattr(external_signer, "_WAIT_SECONDS", 0.5 if says == "nothing" else 8.0)
    signer.says = says

    with pytest.raises(Refused) as refused:
        await ask(asking)

    assert refused.value.code == code
    assert told in refused.value.told
    left = cell.request("GET", CSRS)[1]["items"]
    assert [item["metadata"]["name"] for item in left if item["metadata"]["name"].startswith("isthmus-law-")] == []


async def test_a_signer_whose_roots_nobody_has_configured_is_not_asked(asking, signer):
    with pytest.raises(Refused) as refused:
        await ask(asking, "other")

    assert refused.value.code == "FAILED_PRECONDITION"
    assert "signers.example/other" in refused.value.told


async def test_a_request_for_somebody_else_never_reaches_the_signer(asking, signer):
    before = len(signer.signed)

    with pytest.raises(x509.BadCertificate, match="nothing else"):
        await ask(asking, names=("spiffe://cluster.local/ns/kube-system/sa/admin",))

    assert len(signer.signed) == before


def test_a_root_that_the_signer_still_signs_with_is_not_taken_away(cell, signer, control_plane, sidecar):
    def put(*roots: x509.Issuer) -> None:
        path = f"{SYSTEM}/configmaps/istio"
        data = mesh_config(*roots)["data"]
        assert cell.request("PATCH", path, {"data": data}, "application/merge-patch+json")[0] == 200

    put(x509.new_root(DOMAIN, datetime.now(UTC), DAY))
    cell.until("it is a finding", lambda: "is of none of the roots" in cell.python(ISSUES))
    assert pem(signer.root) in published(cell)

    put(signer.root)
    cell.until("the finding goes", lambda: "ISM0207" not in cell.python(ISSUES))
    cell.until("its root alone is published", lambda: published(cell) == pem(signer.root))


def test_roots_that_cannot_be_read_change_nothing_and_are_a_finding_until_they_are_mended(cell, signer, sidecar):
    def put(text: str) -> None:
        path = f"{SYSTEM}/configmaps/istio"
        assert cell.request("PATCH", path, {"data": {"mesh": text}}, "application/merge-patch+json")[0] == 200

    def is_told() -> bool:
        return "ISM0207" in cell.python(ISSUES)

    put(f"caCertificates: [{{pem: nonsense, certSigners: [{SIGNER}]}}]")
    cell.until("it is a finding", is_told)
    assert published(cell) == pem(signer.root)

    put(mesh_config(signer.root)["data"]["mesh"])
    cell.until("the finding goes", lambda: not is_told())


def test_the_steps_of_a_root_say_that_there_is_none_of_ours(cell, sidecar):
    done = cell.isthmus("trust", "prepare")

    assert done.returncode == BAD_INPUT
    assert f"certificates are signed by {SIGNER}. Its roots are changed in MeshConfig" in done.stderr
