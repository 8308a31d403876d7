"""A machine outside every cluster: it joins, is called and calls, falls ill and recovers, leaves, and dies together with its control plane."""

from __future__ import annotations

import json
import time
from pathlib import Path

import kubernetes
import pytest

from isthmus.localruntime.traffic import run_inside

pytestmark = pytest.mark.live

LEDGER = "spiffe://cluster.local/ns/sample/sa/ledger"
CLIENT = "spiffe://cluster.local/ns/sample/sa/client"


@pytest.fixture(scope="module")
def mesh(guided):
    """The guide ends with the machine switched off."""
    found = guided("virtual-machines")
    found.client.switch("ledger", "on")
    return found


def entries(mesh) -> dict[str, dict]:
    api = kubernetes.client.CustomObjectsApi(mesh._api("east"))
    found = api.list_namespaced_custom_object("networking.istio.io", "v1", "sample", "workloadentries")
    return {each["metadata"]["name"]: each for each in found["items"]}


def answered(mesh, cluster: str) -> dict[str, str]:
    [answer] = mesh.ask(cluster, 1, host="ledger.sample", port=80)
    return answer


def is_called(mesh) -> bool:
    return all("error" not in answered(mesh, cluster) for cluster in ("east", "west"))


def is_left_alone(mesh) -> bool:
    return all("no healthy upstream" in answered(mesh, cluster).get("error", "") for cluster in ("east", "west"))


def feels(mesh, how: str) -> None:
    script = f"from urllib.request import urlopen; urlopen('http://127.0.0.1:5000/health?is={how}')"
    run_inside(mesh.client, ("east", "sample", "ledger"), ["python3", "-c", script])


def test_it_is_registered_and_called_from_both_clusters_with_its_own_identity(mesh, until):
    until("the machine is called", lambda: is_called(mesh))

    [(name, entry)] = entries(mesh).items()
    answers = {cluster: answered(mesh, cluster) for cluster in ("east", "west")}
    print(f"{name}: {entry['spec']}; answers: {answers}")
    assert name == f"ledger-{entry['spec']['address']}-n1"
    assert entry["spec"]["labels"] == {"app": "ledger", "version": "machine"}
    assert {(answer["caller"], answer["self"]) for answer in answers.values()} == {(CLIENT, LEDGER)}


def test_it_calls_what_is_in_the_mesh_by_name_and_is_seen_as_itself(mesh):
    done = mesh.isthmus("traffic", "--from", "ledger", "-o", "json")

    answers = json.loads(done.stdout)["answers"]
    print(f"{[(answer['cluster'], answer['requests'], answer['path']) for answer in answers]}")
    assert {answer["cluster"] for answer in answers} == {"east", "west"}
    assert {answer["caller"] for answer in answers} == {LEDGER}


def test_a_kit_for_another_machine_is_made_of_what_the_cluster_says(mesh, tmp_path):
    kubeconfig = str(mesh.client.state.kubeconfig)
    done = mesh.isthmus(
        *("workload", "entry", "configure", "ledger", "-n", "sample", "-d", str(tmp_path / "kit")),
        *("--context", "east", "--kubeconfig", kubeconfig, "-o", "json"),
    )

    assert done.returncode == 0, done.stderr
    files = {Path(path).name: Path(path) for path in json.loads(done.stdout)["files"]}
    variables = dict(line.partition("=")[::2] for line in files["cluster.env"].read_text().splitlines())
    assert sorted(files) == ["cluster.env", "istio-token", "mesh.yaml", "root-cert.pem"]
    assert files["istio-token"].stat().st_mode & 0o777 == 0o600
    assert (variables["ISTIO_META_CLUSTER_ID"], variables["ISTIO_META_NETWORK"]) == ("east", "n1")
    assert variables["SERVICE_ACCOUNT"] == "ledger"
    assert "discoveryAddress: 172.30.1.240:15012" in files["mesh.yaml"].read_text()
    unknown = mesh.isthmus(
        *("workload", "entry", "configure", "vault", "-n", "sample", "-d", str(tmp_path / "no")),
        *("--context", "east", "--kubeconfig", kubeconfig),
    )
    assert (unknown.returncode, (tmp_path / "no").exists()) == (65, False)
    assert "there is no WorkloadGroup sample/vault" in unknown.stderr


def test_one_that_is_not_well_is_called_by_nobody_until_it_is(mesh, until, figure):
    until("the machine is called", lambda: is_called(mesh))

    feels(mesh, "bad")
    began = time.monotonic()
    until("nobody calls it", lambda: is_left_alone(mesh))
    left = time.monotonic() - began
    [entry] = entries(mesh).values()
    feels(mesh, "good")
    began = time.monotonic()
    until("it is called again", lambda: is_called(mesh))
    back = time.monotonic() - began

    [condition] = entry["status"]["conditions"]
    figure(f"probed each second: traffic left after {left:.2f} s, and came back after {back:.2f} s")
    assert (condition["type"], condition["status"]) == ("Healthy", "False")
    assert condition["message"].startswith("503: ")


def test_one_that_leaves_is_forgotten_and_may_come_back(mesh, until, figure):
    mesh.client.switch("ledger", "off")
    began = time.monotonic()
    until("nobody calls it", lambda: is_left_alone(mesh))
    left = time.monotonic() - began
    until("its entry has gone", lambda: not entries(mesh))
    gone = time.monotonic() - began

    mesh.client.switch("ledger", "on")
    until("it is called again", lambda: is_called(mesh))
    figure(f"switched off: called by nobody after {left:.2f} s, its entry gone after {gone:.1f} s")


@pytest.mark.long
def test_when_it_dies_together_with_its_control_plane_another_one_forgets_it(mesh, until, figure):
    """The new control plane is another one: it has another name, and no connection to the machine."""
    until("the machine is called", lambda: is_called(mesh))
    [entry] = entries(mesh).values()
    before = entry["metadata"]["annotations"]["istio.io/workloadController"]
    [istiod] = mesh.pods("east", "istiod")

    mesh.client.switch("ledger", "cut")
    mesh.core("east").delete_namespaced_pod(istiod["name"], "istio-system", grace_period_seconds=0)
    began = time.monotonic()
    until("its entry has gone", lambda: not entries(mesh))

    [after] = mesh.pods("east", "istiod")
    figure(f"the machine and its control plane lost at once: its entry gone after {time.monotonic() - began:.1f} s")
    assert before == f"east/{istiod['name']}"
    assert after["name"] != istiod["name"]
