"""`isthmus validate` as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from isthmus.api.crds import all_crds
from isthmus.cli.errors import Failed
from isthmus.cli.validating import validate_command
from isthmus.kubernetes.kubeconfig import ContextEntry, render

GOOD = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
BAD = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec:
  hosts: [cart]
  http:
  - route:
    - destination: {host: cart}
      wait: 5
"""


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(validate_command, list(arguments), input=stdin)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/bad.yml").write_text(f"{GOOD}---\n{BAD}")
    (tmp_path / "notes.txt").write_text("no object")
    return tmp_path


def test_valid_objects_say_nothing_but_their_number(folder: Path) -> None:
    seen = run(str(folder))

    assert (seen.exit_code, seen.stdout) == (0, "")
    assert seen.stderr == "1 object: 1 valid, 0 not valid\n"


def test_a_finding_is_one_line_with_file_line_code_object_field_and_fix(folder: Path) -> None:
    seen = run("-R", str(folder))

    assert seen.exit_code == 65
    assert seen.stdout == (
        f"{folder}/more/bad.yml:14: Error ISM0702 VirtualService shop/cart: spec.http[0].route[0].wait: unknown field; "
        "there is: destination, headers, weight\n"
    )
    assert seen.stderr == "3 objects: 2 valid, 1 not valid\n"


def test_stdin_and_lists_as_kubectl_prints_them() -> None:
    listed = json.dumps(
        {"apiVersion": "v1", "kind": "List", "items": [{"kind": "Thing", "apiVersion": "example.org/v1"}]}
    )

    seen = run("-", "-o", "json", stdin=listed)

    answer = json.loads(seen.stdout)
    assert seen.exit_code == 0
    assert [result["kind"] for result in answer["results"]] == ["Thing"]
    assert answer["results"][0]["reference"] == "stdin:1"


def test_json_has_every_object_and_the_findings_of_each(folder: Path) -> None:
    answer = json.loads(run("-f", str(folder / "more/bad.yml"), "-o", "json").stdout)

    assert not answer["valid"]
    assert answer["errors"] == ["VirtualService shop/cart: spec.http[0].route[0].wait: unknown field"]
    [good, bad] = answer["results"]
    assert good["valid"]
    assert bad["findings"][0]["reference"] == f"{folder}/more/bad.yml:14"


def test_junit_fails_the_case_of_the_bad_object(folder: Path) -> None:
    suite = ElementTree.fromstring(run(str(folder / "more/bad.yml"), "-o", "junit").stdout)

    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["VirtualService shop/cart"]


def test_a_finding_that_is_meant_can_be_left_out(folder: Path) -> None:
    bad = str(folder / "more/bad.yml")

    assert run(bad, "--suppress", "ISM0702=VirtualService shop/*").exit_code == 0
    assert run(bad, "--suppress", "ISM0702=VirtualService elsewhere/*").exit_code == 65


def test_the_settings_of_a_mesh_are_checked_too(tmp_path: Path) -> None:
    config = tmp_path / "mesh.yaml"
    config.write_text("rootNamespace: istio-system\ntrustDomain: a..b\n")

    seen = run("--mesh-config", str(config))

    assert seen.exit_code == 65
    assert seen.stdout.startswith(f"{config}:2: Error ISM0735 MeshConfig ")


def test_files_that_cannot_be_read_are_all_named_and_nothing_is_judged(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")

    seen = run(str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"), str(tmp_path / "c.yaml"))

    assert isinstance(seen.exception, Failed | SystemExit)
    assert seen.stdout == ""
    assert [line.partition(": ")[0] for line in seen.stderr.splitlines()] == [
        f"{tmp_path}/a.yaml:1",
        f"{tmp_path}/b.yaml",
        f"{tmp_path}/c.yaml",
    ]


def test_an_empty_input_is_not_taken_for_a_good_one() -> None:
    seen = run("-", stdin="# nothing\n---\n")

    assert seen.exit_code != 0
    assert seen.stdout == ""
    assert seen.stderr == "-: there is no object in it\n"


def test_what_is_no_object_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("just text\n")

    assert run(str(file)).stdout.startswith(f"{file}:1: Error ISM0701: $: is not an object")


def test_topologies_are_checked_as_up_does(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(
        "apiVersion: isthmus.io/v1alpha1\nkind: Topology\nmetadata: {name: a}\nspec:\n  clusters:\n    c1: {regoin: a}\n"
    )

    seen = run(str(file))

    assert seen.exit_code == 65
    assert seen.stdout.startswith(f"{file}:6: Error ISM0709 Topology a: spec.clusters.c1.regoin: ")


def test_the_examples_are_valid() -> None:
    assert run(str(Path(__file__).parents[2] / "examples")).exit_code == 0


def test_a_live_clusters_objects_are_judged_where_they_are(api_servers, tmp_path):
    """What went past validation: kept by a server that has no webhook, or from before there was one."""
    east = api_servers["east"]
    routes = "/apis/networking.istio.io/v1/namespaces/istio-system/virtualservices"
    definition = next(crd for crd in all_crds() if crd["spec"]["names"]["kind"] == "VirtualService")
    assert east.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)[0] in (201, 409)
    route = [{"destination": {"host": "cart"}}]
    for name, hosts in (("good", ["a.example"]), ("bad", ["a.example", "a b"])):
        spec = {"hosts": hosts, "http": [{"route": route}]}
        assert east.request("POST", routes, {"metadata": {"name": name}, "spec": spec})[0] == 201
    entry = ContextEntry(name="east", server=east.url, ca_pem=east.ca_pem, token=east.admin_token)
    (tmp_path / "kubeconfig").write_text(render([entry]))

    done = run("--context", "east", "--kubeconfig", str(tmp_path / "kubeconfig"), "-n", "istio-system", "-o", "json")
    elsewhere = run("--context", "east", "--kubeconfig", str(tmp_path / "kubeconfig"), "-n", "nowhere")

    results = {each["name"]: each for each in json.loads(done.stdout)["results"]}
    assert (done.exit_code, elsewhere.exit_code) == (65, 0)
    assert results["good"]["errors"] == []
    assert any("a b" in text for text in results["bad"]["errors"])
    assert results["bad"]["findings"][0]["reference"] == "east"
    for name in ("good", "bad"):
        east.request("DELETE", f"{routes}/{name}")
