"""Blue and green: clusters that know nothing of each other, a switch in front of them, and how little it takes to switch."""

from __future__ import annotations

import json
import threading
import time

import pytest

pytestmark = [pytest.mark.live, pytest.mark.long]

FRONT = """
import http.client, json, sys, time
end = time.monotonic() + float(sys.argv[2])
count = 0
while count < int(sys.argv[1]) or time.monotonic() < end:
    count += 1
    connection = http.client.HTTPConnection("172.30.3.1", 80, timeout=5)
    connection.request("GET", "/whoami", headers={"Host": "shop.example.com"})
    answer = connection.getresponse()
    body = answer.read()
    print(json.loads(body)["cluster"] if answer.status == 200 else f"HTTP {answer.status}")
    connection.close()
"""


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("blue-green")


def front(mesh, count: int = 20, seconds: float = 0) -> list[str]:
    return mesh.python("edge", FRONT, str(count), str(seconds)).split("\n")[:-1]


def weights(blue: int, green: int) -> dict:
    def to(host: str, weight: int) -> dict:
        return {"destination": {"host": f"{host}.example.com", "port": {"number": 80}}, "weight": weight}

    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "switch", "namespace": "istio-system"},
        "spec": {
            "hosts": ["shop.example.com"],
            "gateways": ["istio-system/front"],
            "http": [{"route": [to("blue", blue), to("green", green)]}],
        },
    }


def test_neither_knows_an_endpoint_of_the_other(mesh):
    known = {
        cluster: {
            host["address"]["socket_address"]["address"]
            for entry in json.loads(mesh.envoy(cluster, "sample", "client", "clusters?format=json"))["cluster_statuses"]
            if entry["name"] == "outbound|5000||helloworld.sample.svc.cluster.local"
            for host in entry["host_statuses"]
        }
        for cluster in ("blue", "green")
    }

    print(f"endpoints of helloworld: {known}")
    own = {cluster: {pod["ip"] for pod in mesh.pods(cluster, "helloworld")} for cluster in ("blue", "green")}
    assert known == own
    assert {answer["cluster"] for answer in mesh.ask("blue", 20)} == {"blue"}
    assert {answer["cluster"] for answer in mesh.ask("green", 20)} == {"green"}


def test_the_switch_moves_every_request_and_none_fails(mesh, until):
    assert set(front(mesh)) == {"blue"}
    seen: list[str] = []
    sender = threading.Thread(target=lambda: seen.extend(front(mesh, seconds=4)))
    sender.start()
    threading.Event().wait(1)
    began = time.monotonic()
    mesh.replace("edge", weights(0, 100))
    until("green serves", lambda: set(front(mesh, 5)) == {"green"})
    seconds = time.monotonic() - began
    sender.join()

    print(f"switched within {seconds:.1f} s: {len(seen)} requests meanwhile, {dict.fromkeys(seen)}")
    assert set(seen) == {"blue", "green"}
    assert seen == sorted(seen, key=["blue", "green"].index), "once switched, nothing goes back"
