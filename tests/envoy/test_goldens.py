"""A handful of whole resources, as people would read them. ISTHMUS_REWRITE=1 writes them anew: read every changed line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from isthmus.envoy.expand import expanded
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from isthmus.model.services import Protocol

GOLDENS = Path(__file__).parent / "goldens"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (CLUSTER, "outbound|5000||helloworld.sample.svc.cluster.local"),
        (ENDPOINTS, "outbound|5000||helloworld.sample.svc.cluster.local"),
        (LISTENER, "10.96.0.2_7000"),
        (LISTENER, "virtualInbound"),
        (ROUTES, "9000"),
    ],
)
def test_whole_resource(mesh, kind, name):
    view = mesh.view(mesh.sample_mesh(), mesh.inbound_port(8080), mesh.inbound_port(7000, Protocol.AUTO, 7000))

    found = next(
        each for each in expanded(mesh.compiled(view), kind) if name in (each.get("name"), each.get("clusterName"))
    )

    written = json.dumps(found, indent=2, sort_keys=True) + "\n"
    file = GOLDENS / f"{kind.rpartition('.')[2]}-{name.replace('|', '_')}.json"
    if os.environ.get("ISTHMUS_REWRITE"):
        file.write_text(written)
    assert written == file.read_text()
