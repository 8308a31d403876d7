"""What commands of machines, tunnels, peers and quotas say to bad input, unknown contexts and missing objects, and in which exit code."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.cli.app import main
from isthmus.kubernetes.kubeconfig import ContextEntry, render

Run = Callable[..., tuple[int, str, str]]

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: ledger, namespace: bank}
spec: {template: {serviceAccount: ledger, network: n1}}
"""
PAGES = {
    "/status": {
        "phase": "starting",
        "clusters": [{"id": "east", "role": "primary", "pods": []}, {"id": "west", "role": "remote", "pods": []}],
        "machines": [],
    },
    "/control-plane/east/istiod/debug/peerz": [
        {
            "mesh": "bank", "trustDomain": "bank.example", "state": "live", "staleSince": "", "lastContact": "", "listeners": 1,
            "exports": ["a.shop", "b.shop"], "imports": [], "problems": ["spec.imports: no such service"], "refusedByPeer": {},
            "controlPlane": "", "gateways": [], "reason": "",
        }
    ],
    "/control-plane/east/istiod/debug/quotaz": [
        {"namespace": "shop", "resource": "services", "used": 11, "allowed": 10},
        {"namespace": "bank", "resource": "services", "used": 1, "allowed": 10},
    ],
    "/control-plane/east/istiod/debug/readyz": [],
    "/control-plane/east/istiod/debug/issues": [],
    "/control-plane/east/istiod/debug/clusterz": [],
}  # fmt: skip


class AnsweringMesh(socketserver.UnixStreamServer):
    """A running mesh as far as commands ask it: pages, and one machine that can be switched."""

    def __init__(self, folder: Path) -> None:
        self.switched: list[str] = []
        super().__init__(str(folder / "control.sock"), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers in one piece: a client that has the head of an empty answer is gone before another one is sent."""

    server: AnsweringMesh
    wbufsize = -1

    def do_GET(self) -> None:
        self._answer(200, json.dumps(PAGES[self.path]))

    def do_POST(self) -> None:
        if self.path.startswith("/machines/ledger/"):
            self.server.switched.append(self.path.rpartition("/")[2])
            self._answer(200, "")
        else:
            self._answer(404, "there is no such machine; there is: ledger")

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def address_string(self) -> str:
        return "mesh"

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, stdout and stderr of a command; no mesh runs, unless the test lets one."""
    monkeypatch.setenv("ISTHMUS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(end.value.code or 0), said.out, said.err

    return command


@pytest.fixture
def running(tmp_path: Path) -> Iterator[AnsweringMesh]:
    folder = tmp_path / "state" / "two-shores"
    folder.mkdir(parents=True)
    with AnsweringMesh(folder) as mesh:
        thread = threading.Thread(target=mesh.serve_forever)
        thread.start()
        yield mesh
        mesh.shutdown()
        thread.join()


@pytest.fixture
def kubeconfig(api_servers: dict[str, Any], tmp_path: Path) -> str:
    entries = [
        ContextEntry(name=name, server=server.url, ca_pem=server.ca_pem, token=server.admin_token)
        for name, server in api_servers.items()
    ]
    file = tmp_path / "kubeconfig"
    file.write_text(render(entries))
    return str(file)


@pytest.mark.parametrize("command", [("peers",), ("quotas",), ("machine", "on", "ledger"), ("peers", "-o", "json")])
def test_without_a_mesh_there_is_nobody_to_ask(run, command):
    code, out, err = run(*command)

    assert (code, out) == (1, "")
    assert "no mesh runs here: start one with `isthmus up TOPOLOGY`" in err


@pytest.mark.parametrize("command", ["peers", "quotas"])
@pytest.mark.parametrize("cluster", ["north", "west"])
def test_a_cluster_without_a_control_plane_is_not_asked(run, running, command, cluster):
    code, out, err = run(command, "--in-cluster", cluster, "-o", "json")

    assert (code, out) == (64, "")
    assert f"{cluster} runs no control plane; these do: east" in err


@pytest.mark.parametrize("command", ["peers", "quotas"])
def test_another_name_than_the_meshs_is_told_which_there_is(run, running, command):
    code, out, err = run(command, "--name", "one-shore")

    assert (code, out) == (1, "")
    assert "no mesh 'one-shore' runs here; there is: two-shores" in err


def test_peers_are_data_on_stdout_and_what_is_wrong_with_them_on_stderr(run, running):
    code, out, err = run("peers")
    as_json = run("peers", "-o", "json")[1]

    assert code == 0
    assert "bank.example" in out
    assert err.splitlines() == ["bank (east): spec.imports: no such service"]
    assert [(row["mesh"], row["istiod"]) for row in json.loads(as_json)["peers"]] == [("bank", "east")]


def test_remote_clusters_says_which_mesh_is_asked(run, running, tmp_path, monkeypatch):
    """Also where KUBECONFIG is that mesh's own, as its guides say; another one means other clusters."""
    own = tmp_path / "state" / "two-shores" / "kubeconfig"
    (own.parent / "plan.json").touch()
    without = run("remote-clusters")
    monkeypatch.setenv("KUBECONFIG", str(own))
    with_its_own = run("remote-clusters")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "another"))
    with_another = run("remote-clusters")
    by_name = run("remote-clusters", "--name", "two-shores")

    for _, _, err in (without, with_its_own, by_name):
        assert err.startswith("as the control planes of two-shores, on this machine, say:")
    assert with_another[0] != 0
    assert "another" in with_another[2]
    assert "on this machine" not in with_another[2]


def test_quotas_of_one_namespace_and_none_of_one_that_has_none(run, running):
    of_shop, of_nobody = (run("quotas", "-n", name, "-o", "json") for name in ("shop", "nobody"))

    assert [(row["used"], row["allowed"]) for row in json.loads(of_shop[1])["quotas"]] == [(11, 10)]
    assert (of_nobody[0], json.loads(of_nobody[1])["quotas"]) == (0, [])


def test_a_machine_is_switched_and_one_that_is_not_there_is_refused(run, running):
    done, missing, half = (
        run("machine", "cut", "ledger"),
        run("machine", "on", "nobody"),
        run("machine", "half", "ledger"),
    )

    assert (done[0], running.switched) == (0, ["cut"])
    assert (missing[0], missing[2].strip()) == (1, "there is no such machine; there is: ledger")
    assert half[0] == 64


@pytest.mark.parametrize(
    "target", ["helloworld.sample:0", "helloworld.sample:65536", "helloworld:5000", "helloworld.sample:x"]
)
def test_traffic_to_what_cannot_be_asked_is_bad_usage(run, target):
    code, out, err = run("traffic", "--to", target)

    assert (code, out) == (64, "")
    assert f"{target!r} is not NAME.NAMESPACE:PORT, with a port from 1 to 65535" in err


def test_traffic_of_a_mesh_that_is_starting_is_not_said_to_lack_a_client(run, running):
    code, out, err = run("traffic")

    assert (code, out) == (1, "")
    assert err.strip() == "the mesh is starting, and no client runs yet: `isthmus status` shows how far it is"


def test_a_mesh_that_does_not_answer_is_told_with_where_to_look(run, tmp_path):
    (tmp_path / "state" / "two-shores").mkdir(parents=True)

    code, out, err = run("peers")

    assert (code, out) == (1, "")
    assert "does not answer" in err
    assert "runtime.log" in err


TUNNEL = ("--cluster-id", "east", "--control-plane", "istiod:15012")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("outside", *TUNNEL), "--call"),
        (("outside", *TUNNEL, "--call", "many"), "'many' is not a valid integer"),
        (("outside", *TUNNEL, "--call", "0"), "--call"),
        (("outside", *TUNNEL, "--call", "15443", "--dial", "70000"), "--dial"),
        (("outside", *TUNNEL, "--call", "15443", "--peer", "istio-tunnel"), "'istio-tunnel' is not NAMESPACE/ACCOUNT"),
        (("outside", "--cluster-id", "east", "--control-plane", "istiod", "--call", "1"), "'istiod' is not HOST:PORT"),
        (("inside", *TUNNEL, "--outside", "here:1"), "--target"),
        (("inside", *TUNNEL, "--outside", "here:1", "--target", "gateway:15443"), "is not PORT=HOST:PORT"),
        (("inside", *TUNNEL, "--outside", "here:1", "--target", "15443=gateway"), "'gateway' is not HOST:PORT"),
        (("inside", *TUNNEL, "--outside", "here:70000", "--target", "1=g:1"), "'here:70000' is not HOST:PORT"),
        (("inside", *TUNNEL, "--outside", "here:1", "--target", "70000=g:1"), "is not PORT=HOST:PORT"),
        (("inside", *TUNNEL, "--outside", "here:1", "--target", "1=g:1", "--spare", "0"), "--spare"),
    ],
)
def test_an_end_of_a_tunnel_that_cannot_be_is_not_run(run, arguments, told):
    code, out, err = run("tunnel", *arguments)

    assert (code, out) == (64, "")
    assert told in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "name a WorkloadGroup, or a file with one"),
        (("ledger", "-f", "group.yaml"), "name a WorkloadGroup, or a file with one"),
        (("ledger", "--token-duration", "1m"), "no tokens for less than 10m"),
        (("ledger", "--token-duration", "soon"), "--token-duration"),
    ],
)
def test_a_kit_that_is_asked_for_wrongly_is_bad_usage(run, tmp_path, arguments, told):
    code, out, err = run("workload", "entry", "configure", *arguments, "-d", str(tmp_path / "kit"))

    assert (code, out) == (64, "")
    assert told in err
    assert not (tmp_path / "kit").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: [", "is not YAML"),
        ("kind: Service\nmetadata: {name: ledger}", "has 0 WorkloadGroups with a name, not one"),
        (GROUP + "---" + GROUP, "has 2 WorkloadGroups with a name, not one"),
        ("kind: WorkloadGroup\nmetadata:", "has 0 WorkloadGroups with a name, not one"),
        (GROUP.replace("{serviceAccount: ledger, network: n1}", "ledger"), "spec.template"),
        (GROUP.replace("spec: {template", "spec: [{template").replace("}}", "}}]"), "spec"),
    ],
)
def test_a_file_that_has_no_one_group_is_bad_input(run, kubeconfig, tmp_path, text, told):
    file = tmp_path / "group.yaml"
    file.write_text(text)
    where = ("-d", str(tmp_path / "kit"), "--kubeconfig", kubeconfig, "--context", "east")

    code, out, err = run("workload", "entry", "configure", "-f", str(file), *where)

    assert (code, out) == (65, "")
    assert told in err
    assert not (tmp_path / "kit").exists()


def test_a_kit_for_what_is_not_there_says_what_is_missing(run, kubeconfig, tmp_path, request_to):
    """An unknown context, a group that nobody made, an account that nobody made, and a mesh without a control plane."""
    (tmp_path / "group.yaml").write_text(GROUP)
    kit = ("-d", str(tmp_path / "kit"), "--kubeconfig", kubeconfig)

    def configure(*arguments: str) -> tuple[int, str]:
        code, out, err = run("workload", "entry", "configure", *arguments, *kit)
        assert out == ""
        return code, err

    request_to("east", "POST", "/api/v1/namespaces", {"metadata": {"name": "bank"}})
    north = configure("ledger", "--context", "north")
    no_group = configure("ledger", "-n", "bank", "--context", "east")
    no_account = configure("-f", str(tmp_path / "group.yaml"), "--context", "east")
    request_to("east", "POST", "/api/v1/namespaces/bank/serviceaccounts", {"metadata": {"name": "ledger"}})
    nobody = configure("-f", str(tmp_path / "group.yaml"), "--context", "east", "-o", "json")
    elsewhere = configure("-f", str(tmp_path / "group.yaml"), "--context", "east", "--network", "n2")

    assert north[0] == 65
    assert "north" in north[1]
    assert (no_group[0], "there is no WorkloadGroup bank/ledger" in no_group[1]) == (65, True)
    assert (no_account[0], "there is no service account bank/ledger" in no_account[1]) == (65, True)
    assert (nobody[0], "no control plane that the machine can reach" in nobody[1]) == (65, True)
    assert (elsewhere[0], "leave out --network n2" in elsewhere[1]) == (65, True)
    assert not (tmp_path / "kit").exists()


def test_a_kubeconfig_that_cannot_be_read_is_bad_input_for_commands_of_all_contexts(run, tmp_path):
    file = tmp_path / "kubeconfig"
    for text in ("contexts: [", "just words", "contexts: 3"):
        file.write_text(text)

        code, out, err = run("trust", "bundles", "--kubeconfig", str(file))

        assert (code, out) == (65, ""), text
        assert str(file) in err


def test_a_proxy_is_named_in_one_way(run: Run, tmp_path: Path):
    for arguments in ((), ("client", "--directory", str(tmp_path))):
        code, _, told = run("proxy-config", "clusters", *arguments)
        assert (code, "say which: POD of the mesh that runs here, or --directory" in told) == (64, True), told


def test_an_envoy_that_is_not_there_and_a_port_that_nobody_forwards_are_named(run: Run, tmp_path: Path):
    code, _, told = run("proxy-config", "clusters", "--directory", str(tmp_path))
    assert (code, f"no Envoy answers at {tmp_path}/admin.sock" in told) == (1, True), told

    code, _, told = run("proxy-status", "--control-plane", "http://127.0.0.1:1")
    assert (code, "http://127.0.0.1:1 does not answer" in told) == (1, True), told

    code, _, told = run("proxy-status", "--control-plane", "istiod:15014")
    assert (code, "--control-plane istiod:15014: write it as http://HOST:PORT" in told) == (64, True), told
