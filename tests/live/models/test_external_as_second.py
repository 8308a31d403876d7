"""A control plane outside the mesh as the second in order: it stands in while the mesh's own is away."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = [pytest.mark.live, pytest.mark.long]

NAME = "external-as-second"
SYSTEM = "istio-system"
RULE = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "answered", "namespace": "sample"},
    "spec": {
        "hosts": ["helloworld"],
        "http": [
            {"match": [{"uri": {"exact": "/hello"}}], "directResponse": {"status": 418}},
            {"route": [{"destination": {"host": "helloworld"}}]},
        ],
    },
}


def test_an_external_one_takes_over_with_control_and_certificates_and_no_request_fails(isthmus, mesh_of, until):
    done = isthmus("up", str(Path(__file__).parent / f"{NAME}.yaml"), "--no-traffic")
    assert done.returncode == 0, done.stderr + done.stdout
    mesh = mesh_of(isthmus, NAME)

    def of(cluster: str) -> list[str]:
        return list(mesh.control_planes_of(cluster))

    def obeys(cluster: str) -> bool:
        answers = mesh.ask(cluster, 5, path="/hello")
        return {answer.get("error", "").partition(":")[0] for answer in answers} == {"HTTP 418"}

    until("east's is asked", lambda: "east" in of("east") + of("west"))
    with mesh.load("east") as east, mesh.load("west") as west:
        mesh.scale("east", "istiod", 0, SYSTEM)
        until("all are with the one outside", lambda: (of("east"), of("west")) == (["ops"], ["ops"]))
        mesh.apply("east", RULE)
        until("a new rule holds in both", lambda: obeys("east") and obeys("west"))
        mesh.scale("west", "helloworld-v2", 2)
        until(
            "a new Pod has a certificate", lambda: [p["ready"] for p in mesh.pods("west", "helloworld")] == ["2/2"] * 2
        )
        mesh.remove("east", RULE)
        mesh.scale("east", "istiod", 1, SYSTEM)
        until("east's is back", lambda: [pod["ready"] for pod in mesh.pods("east", "istiod")] == ["1/1"])
        east.goes_on(50)
        west.goes_on(50)

    assert (east.summary.failed, west.summary.failed) == (0, 0)
