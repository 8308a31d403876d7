"""The guide's two teams in one cluster: what each may write, see, call and add; and what whoever is slow can hold."""

from __future__ import annotations

import json
from typing import Any

import kubernetes
import pytest

pytestmark = pytest.mark.live

SLOW = """
import json, select, socket, sys, time
def opened(address, port, sent):
    connection = socket.socket()
    connection.settimeout(5)
    connection.setsockopt(socket.SOL_SOCKET, 36, 1337)  # as the sidecar itself: past the capture
    connection.connect((address, port))
    connection.sendall(bytes.fromhex(sent))
    return connection
begun, left = time.monotonic(), {}
for name, place in json.loads(sys.argv[1]).items():
    left[opened(*place)] = name
ended = {}
while left and time.monotonic() - begun < 45:
    for connection in select.select(list(left), [], [], 1)[0]:
        try:
            more = connection.recv(65536)
        except OSError:
            more = b""
        if not more:
            ended[left.pop(connection)] = round(time.monotonic() - begun, 1)
print(json.dumps({"ended": ended, "left": sorted(left.values())}))
"""

HEAD = b"GET /hello HTTP/1.1\r\nHost: x\r\nX-Slow: ".hex()
CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303").hex()
"""The first bytes of 200."""


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("tenants")


def as_user(mesh: Any, name: str) -> kubernetes.client.ApiClient:
    api = mesh.core("c1").api_client
    api.set_default_header("Impersonate-User", name)
    return api


def code(call: Any, *arguments: Any) -> int:
    try:
        call(*arguments)
    except kubernetes.client.ApiException as error:
        return int(error.status)
    return 201


def test_a_developer_writes_in_her_own_namespace_alone_and_neither_quotas_nor_roles(mesh):
    core = kubernetes.client.CoreV1Api(as_user(mesh, "ann"))
    service = {
        "metadata": {"name": "spare", "annotations": {"networking.istio.io/exportTo": "."}},
        "spec": {"ports": [{"port": 80}]},
    }
    raised = {"metadata": {"annotations": {"isthmus.io/quota": "virtualservices=100"}}}

    codes = {namespace: code(core.create_namespaced_service, namespace, service) for namespace in ("shop", "bank")}
    raising = code(core.patch_namespace, "shop", raised)
    mesh.core("c1").delete_namespaced_service("spare", "shop")

    assert (codes, raising) == ({"shop": 201, "bank": 403}, 403)
    told = json.loads(mesh.isthmus("audit", "--user", "ann", "-o", "json").stdout)["events"]
    seen = [
        (each["objectRef"]["resource"], each["objectRef"].get("namespace"), each["responseStatus"]["code"])
        for each in told
    ]
    assert seen == [("services", "shop", 201), ("services", "bank", 403), ("namespaces", "shop", 403)]


def test_whoever_writes_what_is_wrong_or_over_the_quota_is_told_so_at_once(mesh):
    """The API server asks the mesh's control plane. What stays in its namespace is nobody's business."""
    rules = kubernetes.client.CustomObjectsApi(as_user(mesh, "ann"))
    to_till = [{"route": [{"destination": {"host": "till"}}]}]

    def write(name: str, **spec: Any) -> tuple[int, str]:
        kind = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService"}
        try:
            rules.create_namespaced_custom_object(
                "networking.istio.io",
                "v1",
                "shop",
                "virtualservices",
                {**kind, "metadata": {"name": name}, "spec": spec},
            )
        except kubernetes.client.ApiException as error:
            return int(error.status), str(json.loads(error.body)["message"])
        return 201, ""

    one_more = write("one-more", hosts=["till"], http=to_till)
    wrong = write("wrong", hosts=["till"], http=[{}], exportTo=["."])
    at_home = write("at-home", hosts=["till"], http=to_till, exportTo=["."])
    rules.delete_namespaced_custom_object("networking.istio.io", "v1", "shop", "virtualservices", "at-home")

    assert (one_more[0], wrong[0], at_home[0]) == (403, 422, 201)
    assert one_more[1].startswith(
        'admission webhook "validation.istio.io" denied the request: exceeds a quota: '
        "there are 2 virtualservices of namespace shop that others see, and its quota is 1"
    )
    assert wrong[1].startswith('admission webhook "validation.istio.io" denied the request: spec.http[0]: ')
    told = json.loads(mesh.isthmus("audit", "--user", "ann", "--kind", "VirtualService", "-o", "json").stdout)["events"]
    assert [each["responseStatus"]["code"] for each in told] == [403, 422, 201, 200]


def test_what_is_over_the_quota_is_a_finding_and_counts_again_when_the_quota_is_raised(mesh, until):
    """And the one whose place it was is untouched all the while."""
    issues = [each for each in mesh.client.control_plane("c1", "debug/issues") if each["code"] == "ISM0120"]
    assert [each["origin"] for each in issues] == ["VirtualService shop/b-mistake in c1"]
    core = mesh.core("c1")

    def answers() -> set[str]:
        return {answer.get("error", "").partition(":")[0] for answer in mesh.ask("c1", 5)}

    def allow(count: int) -> None:
        core.patch_namespace(
            "shop", {"metadata": {"annotations": {"isthmus.io/quota": f"services=2, virtualservices={count}"}}}
        )

    allow(2)
    until("the mistake holds for everybody", lambda: answers() == {"HTTP 500"})
    allow(1)
    until("it holds in its own namespace", lambda: answers() == {""})


def test_whoever_begins_and_does_not_go_on_is_shown_out_everywhere(mesh, figure):
    """Half a request's head, or half a TLS handshake, at each port that another Pod can reach."""
    [pod], [control_plane] = mesh.pods("c1", "till"), mesh.pods("c1", "istiod")
    places = {f"istiod {port}": (control_plane["ip"], port, CLIENT_HELLO) for port in (15012, 15013, 15017)}
    places |= {f"istiod {port}": (control_plane["ip"], port, HEAD) for port in (8080, 15014)}
    places |= {f"sidecar {port}": (pod["ip"], port, HEAD) for port in (5000, 15021, 15090)}
    places["sidecar 5000, TLS"] = (pod["ip"], 5000, CLIENT_HELLO)

    found = json.loads(mesh.python("c1", SLOW, json.dumps(places)))

    figure(f"seconds until whoever is slow is shown out: {found['ended']}")
    assert found["left"] == []
    assert max(found["ended"].values()) < 40
