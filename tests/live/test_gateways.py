"""Requests from outside: a Gateway of Gateway API, deployed, served and renewed while it is used."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import kubernetes
import pytest

from isthmus.model.identity import TrustDomain
from isthmus.trust import x509

pytestmark = pytest.mark.live

GROUP = "gateway.networking.k8s.io"
HOST = "shop.example.com"
SECRET = "shop-certificate"

_ASK = """
import http.client, json, ssl, sys, hashlib, time
address, port, host, path, seconds, enough = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
seen, errors, answers = [], [], []
end = time.monotonic() + float(seconds)
while True:
    try:
        connection = http.client.HTTPConnection(address, int(port), timeout=5)
        if port == "443":
            connection.connect()
            connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
            seen.append(hashlib.sha256(connection.sock.getpeercert(True)).hexdigest())
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        body = answer.read().decode()
        answers.append((answer.status, body))
        if answer.status >= 400:
            errors.append(f"HTTP {answer.status}")
    except OSError as error:
        errors.append(repr(error))
    if time.monotonic() > end or (int(enough) and len(seen) > int(enough) and seen[-int(enough)] != seen[0]):
        break
print(json.dumps({"seen": list(dict.fromkeys(seen)), "errors": errors, "answers": answers[-40:], "count": len(answers)}))
"""


def made() -> tuple[dict[str, str], str]:
    """A certificate of its own, as a Secret's data; and its digest."""
    found = x509.new_root(TrustDomain.parse("cluster.local"), datetime.now(UTC), timedelta(days=1))
    pem, key = x509.certificate_pem(found.certificate), x509.key_pem(found.key)
    data = {"tls.crt": base64.b64encode(pem.encode()).decode(), "tls.key": base64.b64encode(key.encode()).decode()}
    from cryptography import x509 as reading
    from cryptography.hazmat.primitives.hashes import SHA256

    return data, reading.load_pem_x509_certificate(pem.encode()).fingerprint(SHA256()).hex()


class Objects:
    """Objects of one cluster in namespace sample; all are taken away at the end."""

    def __init__(self, mesh: Any) -> None:
        self.core = mesh.core("east")
        self._custom = kubernetes.client.CustomObjectsApi(self.core.api_client)
        self._made: list[tuple[str, str, str, str]] = []

    def make(self, api_version: str, kind: str, name: str, spec: dict[str, Any]) -> None:
        group, _, version = api_version.partition("/")
        where = (group, version, "sample", kind.lower() + "s")
        body = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
        self._custom.create_namespaced_custom_object(*where, body)
        self._made.append((*where[:2], where[3], name))

    def status(self, kind: str, name: str) -> dict[str, Any]:
        found = self._custom.get_namespaced_custom_object(GROUP, "v1", "sample", kind.lower() + "s", name)
        return found.get("status", {})

    def clear(self) -> None:
        for group, version, plural, name in reversed(self._made):
            self._custom.delete_namespaced_custom_object(group, version, "sample", plural, name)


@pytest.fixture(scope="module")
def objects(mesh) -> Iterator[Objects]:
    found = Objects(mesh)
    yield found
    found.clear()


@pytest.fixture(scope="module")
def front(mesh, until, objects) -> Iterator[str]:
    """The address of a Gateway that nobody has deployed but the control plane."""
    data, _ = made()
    body = {"metadata": {"name": SECRET}, "type": "kubernetes.io/tls", "data": data}
    objects.core.create_namespaced_secret("sample", body)
    tls = {"certificateRefs": [{"name": SECRET}]}
    listeners = [
        {"name": "web", "port": 80, "protocol": "HTTP"},
        {"name": "secure", "port": 443, "protocol": "HTTPS", "hostname": HOST, "tls": tls},
    ]
    objects.make(f"{GROUP}/v1", "Gateway", "front", {"gatewayClassName": "istio", "listeners": listeners})
    rule = {"backendRefs": [{"name": "helloworld", "port": 5000}]}
    gone = {"matches": [{"path": {"value": "/gone"}}], "backendRefs": [{"name": "nobody", "port": 80}]}
    parents = [{"name": "front"}]
    objects.make(
        f"{GROUP}/v1", "HTTPRoute", "shop", {"parentRefs": parents, "hostnames": [HOST], "rules": [rule, gone]}
    )

    def address() -> str:
        status = objects.status("Gateway", "front")
        programmed = {each["type"]: each["status"] for each in status.get("conditions", [])}.get("Programmed")
        return status["addresses"][0]["value"] if programmed == "True" and status.get("addresses") else ""

    until("the gateway has an address", lambda: bool(address()))
    found = address()
    until("it answers", lambda: not ask(mesh, found, 443)["errors"])
    yield found
    objects.core.delete_namespaced_secret(SECRET, "sample")


def ask(
    mesh: Any, address: str, port: int, path: str = "/whoami", host: str = HOST, seconds: float = 0, enough: int = 0
) -> Any:
    """One request from the client's Pod to the gateway; or many, for so long."""
    return json.loads(mesh.python("east", _ASK, address, str(port), host, path, str(seconds), str(enough)))


def test_requests_from_outside_reach_both_clusters(mesh, front):
    found = ask(mesh, front, 443, seconds=2)

    assert found["errors"] == []
    assert {json.loads(body)["cluster"] for _, body in found["answers"]} == {"east", "west"}


def test_its_writers_are_told(mesh, front, objects, until):
    def told() -> dict[str, str]:
        [parent] = objects.status("HTTPRoute", "shop")["parents"]
        return {each["type"]: f"{each['status']} {each['reason']}" for each in parent["conditions"]}

    until(
        "the route's writer", lambda: told() == {"Accepted": "True Accepted", "ResolvedRefs": "False BackendNotFound"}
    )
    listeners = {each["name"]: each["attachedRoutes"] for each in objects.status("Gateway", "front")["listeners"]}
    assert listeners == {"web": 1, "secure": 1}


def test_what_leads_nowhere_is_answered_500(mesh, front):
    assert [status for status, _ in ask(mesh, front, 80, path="/gone")["answers"]] == [500]


def test_a_renewed_certificate_is_shown_without_one_failed_connection(mesh, front, objects):
    data, digest = made()
    found: dict[str, Any] = {}
    asking = threading.Thread(target=lambda: found.update(ask(mesh, front, 443, seconds=20, enough=20)))
    asking.start()
    objects.core.patch_namespaced_secret(SECRET, "sample", {"data": data})
    asking.join()

    assert found["errors"] == []
    assert found["seen"][-1] == digest


def test_a_spoilt_or_deleted_secret_takes_nothing_down_and_is_told(mesh, front, objects, until):
    before = ask(mesh, front, 443)["seen"]
    nonsense = base64.b64encode(b"nonsense").decode()
    objects.core.patch_namespaced_secret(SECRET, "sample", {"data": {"tls.crt": nonsense}})

    def told(text: str) -> bool:
        listeners = objects.status("Gateway", "front")["listeners"]
        [secure] = [each for each in listeners if each["name"] == "secure"]
        return any(text in each["message"] for each in secure["conditions"] if each["type"] == "ResolvedRefs")

    until("its writer is told", lambda: told("not a chain of PEM certificates"))
    until(
        "and the mesh's operator",
        lambda: "ISM0408" in {each["code"] for each in mesh.client.control_plane("east", "debug/issues")},
    )
    assert ask(mesh, front, 443, seconds=1) | {"answers": [], "count": 0} == {
        "seen": before, "errors": [], "answers": [], "count": 0,
    }  # fmt: skip
    objects.core.delete_namespaced_secret(SECRET, "sample")
    until("its writer is told", lambda: told("there is no such Secret"))
    assert ask(mesh, front, 443)["errors"] == []

    data, digest = made()
    body = {"metadata": {"name": SECRET}, "type": "kubernetes.io/tls", "data": data}
    objects.core.create_namespaced_secret("sample", body)
    until("the new one is shown", lambda: ask(mesh, front, 443)["seen"] == [digest])


def test_istios_gateway_and_virtual_service_share_the_port(mesh, front, objects, until):
    selector = {f"{GROUP}/gateway-name": "front"}
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["old.example.com"]}
    istio = "networking.istio.io/v1"
    objects.make(istio, "Gateway", "old", {"selector": selector, "servers": [server]})
    route = {"route": [{"destination": {"host": "helloworld", "port": {"number": 5000}}}]}
    objects.make(istio, "VirtualService", "old", {"hosts": ["old.example.com"], "gateways": ["old"], "http": [route]})

    until("it answers", lambda: not ask(mesh, front, 80, host="old.example.com")["errors"])
    assert not ask(mesh, front, 80)["errors"], "the older one still does"


def test_keys_are_on_no_page(mesh, front):
    page = json.dumps(mesh.client.control_plane("east", "debug/issues"))
    envoy = mesh.envoy(
        "east",
        "sample",
        next(p["name"] for p in mesh.cluster("east")["pods"] if p["name"].startswith("front-")),
        "config_dump",
    )

    assert "PRIVATE KEY" not in page + envoy
