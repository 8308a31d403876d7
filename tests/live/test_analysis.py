"""`isthmus analyze` on a running mesh."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

ROUTE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: helloworld, namespace: sample}
spec:
  hosts: [helloworld]
  http:
  - route:
    - destination: {host: helloworld, port: {number: 1}}
"""


def test_what_isthmus_boots_has_nothing_wrong_and_a_file_is_looked_at_as_if_it_were_applied(
    mesh, tmp_path: Path
) -> None:
    kubeconfig = mesh.isthmus("kubeconfig", "--name", mesh.name).stdout.strip()
    route = tmp_path / "route.yaml"
    route.write_text(ROUTE)

    healthy = mesh.isthmus("analyze", "--kubeconfig", kubeconfig, "--context", "east,west", "-o", "json")
    with_file = mesh.isthmus("analyze", "--kubeconfig", kubeconfig, "--context", "east", "-o", "json", str(route))

    assert healthy.returncode == 0, healthy.stdout
    assert [found for found in json.loads(healthy.stdout)["messages"] if found["level"] == "Error"] == []
    assert with_file.returncode == 79, with_file.stderr
    [wrong] = [found for found in json.loads(with_file.stdout)["messages"] if found["level"] == "Error"]
    assert (wrong["code"], wrong["reference"]) == ("IST0101", f"{route}:8")
    assert "has no port 1" in wrong["message"]
