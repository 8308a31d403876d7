"""An installed control plane with no more rights than install gives it, and what an API server asks it: injection and validation."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from isthmus.model.identity import TrustDomain
from isthmus.trust.authority import CertificateAuthority

INJECTOR = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/istio-sidecar-injector"
VALIDATOR = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/istio-validator-istio-system"
JSON_PATCH = "application/json-patch+json"
INSTALL = ("install", "--cluster", "east", "--network", "n1", "--apply", "-o", "json")
CONTAINERS = {"containers": [{"name": "app", "image": "web:1"}]}


def bundles(cell: Any, path: str) -> set[str]:
    webhooks = cell.request("GET", path)[1]["webhooks"]
    return {base64.b64decode(each["clientConfig"].get("caBundle") or "").decode() for each in webhooks}


@pytest.fixture(scope="module")
def control_plane(cell) -> Any:
    """Installed by the command; its Service leads to the process that runs here instead of a Pod."""
    done = cell.isthmus(*INSTALL)
    assert done.returncode == 0, done.stderr
    cell.made(
        "/apis/discovery.k8s.io/v1/namespaces/istio-system/endpointslices",
        {
            "metadata": {"name": "istiod-here", "labels": {"kubernetes.io/service-name": "istiod"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [cell.address], "conditions": {"ready": True}}],
            "ports": [{"name": "https-webhook", "port": 15017, "protocol": "TCP"}],
        },
    )
    for name, labels in {"shop": {"istio-injection": "enabled"}, "plain": {}}.items():
        cell.made("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    running = cell.control_plane("istiod")
    for path in (INJECTOR, VALIDATOR):
        cell.until(f"{path} has an authority", lambda path=path: bundles(cell, path) != {""})
    return running


def create_pod(cell: Any, namespace: str, name: str, **metadata: Any) -> tuple[int, Any]:
    body = {"metadata": {"name": name, **metadata}, "spec": CONTAINERS}
    code, answer = cell.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    return code, answer


def names(pod: Any) -> list[str]:
    return [each["name"] for each in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]]


def test_the_rights_that_install_gives_are_enough(control_plane):
    """And no kind is missing: what may not be read is told in the log."""
    told = [line for line in control_plane.log if "orbidden" in line or "cannot" in line or "refus" in line]

    assert told == []


def test_the_authority_is_the_meshs_own(cell, control_plane):
    path = "/api/v1/namespaces/shop/configmaps/istio-ca-root-cert"
    roots = cell.until("the roots are published", lambda: cell.request("GET", path)[1].get("data"))

    assert bundles(cell, INJECTOR) == bundles(cell, VALIDATOR) == {roots["root-cert.pem"]}


def test_installing_again_leaves_the_authority_where_it_is(cell, control_plane):
    before = bundles(cell, INJECTOR)

    done = cell.isthmus(*INSTALL)

    assert {each["action"] for each in json.loads(done.stdout)["objects"]} == {"unchanged"}, done.stdout
    assert bundles(cell, INJECTOR) == before


def test_a_pod_of_a_labelled_namespace_is_injected(cell, control_plane):
    code, pod = create_pod(cell, "shop", "web-1")

    assert code == 201, pod
    assert names(pod) == ["istio-init", "istio-proxy", "app"]
    assert pod["metadata"]["labels"]["topology.istio.io/network"] == "n1"
    told = {each["name"]: each.get("value") for each in pod["spec"]["initContainers"][1]["env"]}
    assert (told["ISTIO_META_CLUSTER_ID"], told["ISTIO_META_NETWORK"]) == ("east", "n1")


@pytest.mark.parametrize(
    ("namespace", "labels", "injected"),
    [
        ("plain", {}, False),
        ("plain", {"sidecar.istio.io/inject": "true"}, True),
        ("shop", {"sidecar.istio.io/inject": "false"}, False),
        ("plain", {"istio.io/rev": "default"}, True),
        ("plain", {"istio.io/rev": "canary"}, False),
    ],
)
def test_labels_decide(cell, control_plane, namespace, labels, injected):
    name = f"pod-{len(cell.request('GET', '/api/v1/pods')[1]['items'])}"

    code, pod = create_pod(cell, namespace, name, labels=labels)

    assert code == 201, pod
    assert ("istio-proxy" in names(pod)) is injected


def test_a_pod_that_asks_for_the_impossible_is_refused_and_told_why(cell, control_plane):
    wrong = {"traffic.sidecar.istio.io/excludeOutboundPorts": "mysql"}

    code, answer = create_pod(cell, "shop", "wrong", annotations=wrong)

    assert code == 422, answer
    assert "excludeOutboundPorts: 'mysql' is not a port" in answer["message"]


def test_wrong_configuration_is_refused_with_each_problem(cell, control_plane):
    rule = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "a"}}
    path = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices"

    code, answer = cell.request("POST", path, rule | {"spec": {"hosts": ["*"], "http": [{}]}})

    assert code == 422, answer
    assert answer["message"].startswith('admission webhook "validation.istio.io" denied the request:')
    assert cell.request("GET", f"{path}/a")[0] == 404
    right = {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]}
    assert cell.request("POST", path, rule | {"spec": right})[0] == 201


def test_one_more_than_the_quota_of_a_namespace_is_refused(cell, control_plane):
    """Routes, and Services, which are checked for nothing else. What stays in its namespace is nobody's business."""
    quota = {"isthmus.io/quota": "virtualservices=1, services=0"}
    cell.made("/api/v1/namespaces", {"metadata": {"name": "bounded", "annotations": quota}})
    path = "/apis/networking.istio.io/v1/namespaces/bounded/virtualservices"
    spec = {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]}
    head = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService"}

    def write(name: str, query: str = "", **more: Any) -> tuple[int, str]:
        code, answer = cell.request(
            "POST", path + query, {**head, "metadata": {"name": name}, "spec": {**spec, **more}}
        )
        return code, answer.get("message", "")

    assert write("first")[0] == 201
    code, message = cell.until(
        "the first one counts", lambda: (said := write("second", "?dryRun=All"))[0] == 403 and said
    )

    assert code == 403
    assert "there are 1 virtualservices of namespace bounded that others see, and its quota is 1" in message
    assert write("third", exportTo=["."])[0] == 201
    service = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    code, answer = cell.request("POST", "/api/v1/namespaces/bounded/services", service)
    assert code == 403
    assert answer["message"].startswith('admission webhook "quota.isthmus.io" denied the request: exceeds a quota:')


def test_an_authority_that_somebody_else_writes_is_mended_and_a_quarrel_is_told(cell, control_plane):
    before = bundles(cell, INJECTOR)
    rival = CertificateAuthority.self_signed(TrustDomain.parse("cluster.local"), datetime.now(UTC)).root_pem

    def overwrite() -> None:
        other = base64.b64encode(rival.encode()).decode()
        patch = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": other}]
        assert cell.request("PATCH", INJECTOR, patch, JSON_PATCH)[0] == 200

    for _ in range(2):
        overwrite()
        cell.until("mended", lambda: bundles(cell, INJECTOR) == before)

    control_plane.until_said("somebody else writes the webhooks' authority")


def test_another_revisions_webhooks_are_left_alone(cell, control_plane):
    """Its control plane is another, with another authority."""
    done = cell.isthmus(*INSTALL, "--revision", "canary", "--set", "networkGateway.enabled=false")
    assert done.returncode == 0, done.stderr
    try:
        path = INJECTOR + "-canary"
        version = cell.request("GET", path)[1]["metadata"]["resourceVersion"]
        # Whatever else is written in the meantime, ours is mended after it.
        test_an_authority_that_somebody_else_writes_is_mended_once(cell, control_plane)
        assert cell.request("GET", path)[1]["metadata"]["resourceVersion"] == version
        assert bundles(cell, path) == {""}
    finally:
        assert cell.isthmus("uninstall", "--revision", "canary", "--yes").returncode == 0


def test_an_authority_that_somebody_else_writes_is_mended_once(cell, control_plane):
    before = bundles(cell, VALIDATOR)
    patch = [{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]

    assert cell.request("PATCH", VALIDATOR, patch, JSON_PATCH)[0] == 200

    cell.until("mended", lambda: bundles(cell, VALIDATOR) == before)


def test_answers_are_counted(cell, control_plane):
    create_pod(cell, "shop", "counted")
    page = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:15014/metrics').read().decode())"

    counted = dict(
        line.split(" ") for line in cell.python(page).splitlines() if line.startswith(("sidecar_", "galley_"))
    )

    assert float(counted["sidecar_injection_success_total"]) >= 1
    assert counted.keys() >= {"sidecar_injection_failure_total", "galley_validation_passed_total"}
