"""`isthmus analyze` as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner, Result

from isthmus.cli.analyzing import analyze_command
from isthmus.cli.verbs import VERBS

ROUTES = """\
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec:
  hosts: [cart]
  http:
  - route:
    - destination: {host: cort}
"""
SCENARIO = """\
kind: Scenario
configCluster: east
clusters:
- id: east
  objects:
  - apiVersion: v1
    kind: Service
    metadata: {name: cart, namespace: shop}
    spec: {ports: [{name: http, port: 80}]}
- id: west
  objects:
  - apiVersion: v1
    kind: Service
    metadata: {name: cart, namespace: shop}
    spec: {ports: [{name: grpc, port: 80}]}
"""


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(analyze_command, list(arguments), input=stdin)


@pytest.fixture
def routes(tmp_path: Path) -> str:
    file = tmp_path / "routes.yaml"
    file.write_text(ROUTES)
    return str(file)


def test_a_finding_is_one_line_with_file_and_line(routes: str) -> None:
    seen = run(routes)

    assert seen.exit_code == 79
    assert seen.stdout == (
        f"{routes}:13: Error IST0101 VirtualService shop/cart: there is no host cort.shop.svc.cluster.local; "
        "create what is named, or correct the reference.\n"
    )
    assert seen.stderr == "2 objects: 1 error, 0 warnings, 0 infos\n"


def test_json_and_yaml_say_the_same(routes: str) -> None:
    as_json = json.loads(run(routes, "-o", "json").stdout)

    assert yaml.safe_load(run(routes, "-o", "yaml").stdout) == as_json
    [message] = as_json["messages"]
    assert message["code"] == "IST0101"
    assert message["level"] == "Error"
    assert message["origin"] == "VirtualService shop/cart"
    assert message["path"] == "spec.http[0].route[0].destination.host"
    assert message["reference"] == f"{routes}:13"
    assert message["documentation"] == "docs/findings/IST0101.md"


def test_junit_has_a_case_for_each_object_that_something_is_said_about(routes: str) -> None:
    suite = ElementTree.fromstring(run(routes, "-o", "junit").stdout)

    assert [case.get("name") for case in suite] == ["VirtualService shop/cart", "1 other objects"]
    assert suite.get("failures") == "1"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--failure-threshold", "Error"], 0),
        (["--failure-threshold", "warning"], 79),
        (["--failure-threshold", "Warning", "--suppress", "ISM0101"], 0),
        (["--failure-threshold", "Warning", "--suppress", "ISM0101=Service shop/*"], 0),
        (["--failure-threshold", "Warning", "-n", "elsewhere"], 0),
        (["--failure-threshold", "Warning", "-n", "elsewhere", "-A"], 79),
    ],
)
def test_the_threshold_decides_the_exit_code(tmp_path: Path, arguments: list[str], code: int) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(SCENARIO)

    assert run("--scenario", str(file), *arguments).exit_code == code


def test_findings_of_several_clusters_name_theirs(tmp_path: Path) -> None:
    east, west = tmp_path / "east", tmp_path / "west"
    for folder, objects in zip((east, west), yaml.safe_load(SCENARIO)["clusters"], strict=True):
        folder.mkdir()
        (folder / "objects.yaml").write_text(yaml.safe_dump_all(objects["objects"]))

    seen = run("--cluster", f"east={east}", "--cluster", f"west={west}")

    assert f"{west}/objects.yaml:" in seen.stdout
    assert "Warning ISM0101 Service shop/cart in west" in seen.stdout


def test_files_count_as_if_they_were_applied(tmp_path: Path) -> None:
    scenario, changed = tmp_path / "mesh.yaml", tmp_path / "changed.yaml"
    scenario.write_text(SCENARIO)
    changed.write_text(ROUTES.partition("---")[0].replace("name: http", "name: grpc"))

    assert "ISM0101" in run("--scenario", str(scenario)).stdout
    assert "ISM0101" not in run("--scenario", str(scenario), str(changed)).stdout


def test_lists_from_stdin_are_taken_as_kubectl_prints_them() -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(yaml.safe_load_all(ROUTES))}

    seen = run("-", stdin=yaml.safe_dump(listed))

    assert seen.stdout.startswith("stdin:")


@pytest.mark.parametrize("arguments", [[], ["--scenario", "a", "--context", "b"], ["--suppress", "=", "a"]])
def test_it_says_what_it_needs(arguments: list[str]) -> None:
    seen = run(*arguments)

    assert seen.exit_code != 0
    assert seen.stdout == ""


def test_programs_ask_by_files(routes: str) -> None:
    [message] = VERBS["analyze"]({"files": [routes]})["messages"]

    assert (message["code"], message["reference"]) == ("IST0101", f"{routes}:13")


def test_the_same_input_gives_the_same_bytes(routes: str) -> None:
    assert run(routes, "-o", "json").stdout == run(routes, "-o", "json").stdout
