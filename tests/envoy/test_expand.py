"""Expanded resources: what `render` prints has no packed message left in it, in any process."""

from __future__ import annotations

import subprocess
import sys

from isthmus.envoy.expand import expanded
from isthmus.envoy.resources import CLUSTER, LISTENER, NAME_TABLE


def test_the_name_table_has_istio_s_field_names(mesh):
    (table,) = expanded(mesh.compiled(mesh.view(mesh.sample_mesh())), NAME_TABLE)

    assert table == {
        "table": {
            "helloworld.sample.svc.cluster.local": {
                "ips": ["10.96.0.1"],
                "registry": "Kubernetes",
                "shortname": "helloworld",
                "namespace": "sample",
            }
        }
    }


def test_packed_messages_are_opened_by_a_process_that_never_compiled(mesh, tmp_path):
    resources = mesh.compiled(mesh.view(mesh.sample_mesh(), mesh.inbound_port(8080)))
    for kind, name in ((LISTENER, "virtualInbound"), (CLUSTER, "outbound|5000||helloworld.sample.svc.cluster.local")):
        (tmp_path / "body").write_bytes(resources.of_type(kind)[name].body)
        script = (
            "import sys; from google.protobuf import json_format; from isthmus.envoy.expand import decoded\n"
            "print(json_format.MessageToJson(decoded(sys.argv[1], open(sys.argv[2], 'rb').read())))"
        )

        command = [sys.executable, "-c", script, kind, str(tmp_path / "body")]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

        assert '"commonTlsContext"' in printed


def test_resources_are_sorted_by_name(mesh):
    names = [each["name"] for each in expanded(mesh.compiled(mesh.view(mesh.sample_mesh())), CLUSTER)]

    assert names == sorted(names)
