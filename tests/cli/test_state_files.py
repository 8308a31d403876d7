"""A mesh from a file: the same answer whether the file is JSON or YAML, and the same words about what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from isthmus.cli.app import isthmus

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}, "uid": None},
    "spec": {"serviceAccountName": "web"},
    "status": {"podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}], "phase": "Running"},
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]},
}


def mesh(*objects: Any) -> dict[str, Any]:
    return {"kind": "Scenario", "clusters": [{"id": "east", "objects": [POD, *objects]}], "env": {"MESH_ID": "mesh1"}}


def rendered(file: Path) -> Result:
    proxy = ["--proxy", "sidecar/web-1.shop", "--in-cluster", "east"]
    return CliRunner().invoke(isthmus, ["render", "--scenario", str(file), *proxy], standalone_mode=False)


def answers(directory: Path, scenario: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the same scenario in JSON, in JSON under another name, and in YAML."""
    found = []
    for name, text in (("a.json", json.dumps(scenario)), ("a", json.dumps(scenario)), ("a.yaml", yaml.dump(scenario))):
        file = directory / name
        file.write_text(text)
        found.append(json.loads(rendered(file).stdout))
    return found


def test_json_and_yaml_give_one_answer(tmp_path: Path) -> None:
    first, *others = answers(tmp_path, mesh(SERVICE))

    assert "outbound|80||web.shop.svc.cluster.local" in [each["name"] for each in first["clusters"]]
    assert others == [first, first]


def test_what_is_in_a_list_counts(tmp_path: Path) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [{"kind": "ServiceList", "items": [SERVICE]}]}

    assert answers(tmp_path, mesh(listed)) == answers(tmp_path, mesh(SERVICE))


def test_what_cannot_be_read_is_named_and_takes_nothing_else_down(tmp_path: Path) -> None:
    nameless = {"apiVersion": "v1", "kind": "Service"}
    unknown = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "shop"}}
    wrong = SERVICE | {"metadata": {"name": "odd", "namespace": "shop"}, "spec": {"ports": [{"port": 70000}]}}
    first, *others = answers(tmp_path, mesh(SERVICE, nameless, "text", unknown, wrong))

    assert first["warnings"][:4] == [
        "east: object 2 has no metadata: left out",
        "east: object 3 has no metadata: left out",
        "east: Thing shop/t: this version does not read example.com/v1 Thing: left out",
        "east: Service shop/odd: Expected `int` <= 65535 - at `spec.ports[0].port`: left out",
    ]
    assert "outbound|80||web.shop.svc.cluster.local" in [each["name"] for each in first["clusters"]]
    assert others == [first, first]


def test_numbers_as_keys_which_yaml_alone_knows_are_text(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "portLevelMtls": {8080: {"mode": "DISABLE"}}},
    }
    file.write_text(yaml.dump(mesh(SERVICE, policy)))

    assert json.loads(rendered(file).stdout)["warnings"] == []
