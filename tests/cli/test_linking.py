"""Linking real API servers: what is made, what is left alone, and what the credential may do."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from isthmus.cli.app import isthmus
from isthmus.cli.errors import Failed
from isthmus.kubernetes.kubeconfig import ContextEntry, render

Request = Callable[..., tuple[int, dict[str, Any]]]
SYSTEM = "/api/v1/namespaces/istio-system"
READER = "istio-reader-service-account"


@pytest.fixture
def kubeconfig(api_servers: dict[str, Any], tmp_path: Path) -> str:
    """Both clusters, each with the mesh's namespace and nothing else."""
    path = tmp_path / "kubeconfig"
    entries = [
        ContextEntry(name=name, server=server.url, ca_pem=server.ca_pem, token=server.admin_token)
        for name, server in api_servers.items()
    ]
    path.write_text(render(entries))
    return str(path)


def run(kubeconfig: str, *arguments: str) -> Result:
    return CliRunner().invoke(isthmus, [*arguments, "--kubeconfig", kubeconfig])


def actions(result: Result) -> list[tuple[str, str, str]]:
    assert result.exit_code == 0, result.output
    return [(step["cluster"], step["kind"], step["action"]) for step in json.loads(result.stdout)["steps"]]


def everything(action: str) -> list[tuple[str, str, str]]:
    """One action on all that links two clusters both ways."""
    kinds = ("serviceaccounts", "clusterroles", "clusterrolebindings")
    readers = [(cluster, kind, action) for cluster in ("west", "east") for kind in kinds]
    return [*readers, ("east", "secrets", action), ("west", "secrets", action)]


def secret(request_to: Request, cluster: str = "east", read: str = "west") -> dict[str, Any]:
    code, found = request_to(cluster, "GET", f"{SYSTEM}/secrets/istio-remote-secret-{read}")
    assert code == 200, found
    return found


def kubeconfig_in(found: dict[str, Any], read: str = "west") -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(base64.b64decode(found["data"][read]))
    return document


def token_in(found: dict[str, Any]) -> str:
    return str(kubeconfig_in(found)["users"][0]["user"]["token"])


def test_a_second_run_changes_nothing_and_says_so(kubeconfig: str) -> None:
    first = run(kubeconfig, "link", "east", "west", "-o", "json")
    second = run(kubeconfig, "link", "east", "west", "-o", "json")

    assert actions(first) == everything("created")
    assert actions(second) == everything("unchanged")
    assert "nothing to change" in second.stderr


def test_the_credential_reads_what_has_addresses_and_no_secret(kubeconfig: str, request_to: Request) -> None:
    run(kubeconfig, "link", "east", "west")
    token = token_in(secret(request_to))

    seen = {
        path: request_to("west", "GET", path, token=token)[0]
        for path in ("/api/v1/services", "/api/v1/pods", "/apis/discovery.k8s.io/v1/endpointslices",
                     "/api/v1/secrets", f"{SYSTEM}/secrets", f"{SYSTEM}/configmaps")
    }  # fmt: skip

    assert list(seen.values()) == [200, 200, 200, 403, 403, 403]


def test_the_secret_is_shaped_as_istio_shapes_it(kubeconfig: str, request_to: Request, api_servers: Any) -> None:
    run(kubeconfig, "link", "east", "west")
    found = secret(request_to)

    assert found["metadata"]["labels"] == {"istio/multiCluster": "true", "app.kubernetes.io/managed-by": "isthmus-link"}
    assert found["metadata"]["annotations"]["networking.istio.io/cluster"] == "west"
    document = kubeconfig_in(found)
    assert document["current-context"] == "west"
    assert [entry["name"] for part in ("clusters", "contexts", "users") for entry in document[part]] == ["west"] * 3
    assert document["clusters"][0]["cluster"]["server"] == api_servers["west"].url


def test_renewing_replaces_the_token_and_leaves_the_old_one_good(kubeconfig: str, request_to: Request) -> None:
    run(kubeconfig, "link", "east", "west")
    old = token_in(secret(request_to))

    renewed = run(kubeconfig, "link", "east", "west", "--renew", "-o", "json")

    new = token_in(secret(request_to))
    assert [action for _, kind, action in actions(renewed) if kind == "secrets"] == ["renewed", "renewed"]
    assert new != old
    assert [request_to("west", "GET", "/api/v1/pods", token=token)[0] for token in (old, new)] == [200, 200]


def test_a_token_that_is_taken_no_more_is_replaced(kubeconfig: str, request_to: Request) -> None:
    run(kubeconfig, "link", "east", "west")
    request_to("west", "DELETE", f"{SYSTEM}/serviceaccounts/{READER}")

    again = run(kubeconfig, "link", "east", "west", "-o", "json")

    changed = [entry for entry in actions(again) if entry[2] != "unchanged"]
    assert changed == [("west", "serviceaccounts", "created"), ("east", "secrets", "renewed")]
    assert request_to("west", "GET", "/api/v1/pods", token=token_in(secret(request_to)))[0] == 200


def test_a_dry_run_changes_nothing(kubeconfig: str, request_to: Request) -> None:
    shown = run(kubeconfig, "link", "east", "west", "--dry-run", "-o", "json")

    assert actions(shown) == everything("created")
    assert request_to("east", "GET", f"{SYSTEM}/secrets")[1]["items"] == []
    assert request_to("west", "GET", f"{SYSTEM}/serviceaccounts/{READER}")[0] == 404


def test_one_way_lets_only_the_first_read(kubeconfig: str, request_to: Request) -> None:
    run(kubeconfig, "link", "east", "west", "--one-way")

    assert secret(request_to, "east", "west")
    assert request_to("west", "GET", f"{SYSTEM}/secrets")[1]["items"] == []


def test_unlink_takes_away_what_link_made_and_no_more(kubeconfig: str, request_to: Request) -> None:
    theirs = {"metadata": {"name": "by-hand", "labels": {"istio/multiCluster": "true"}}, "stringData": {"north": "x"}}
    request_to("east", "POST", f"{SYSTEM}/secrets", theirs)
    run(kubeconfig, "link", "east", "west")

    done = run(kubeconfig, "unlink", "east", "west", "--yes", "-o", "json")

    assert sorted(actions(done)) == sorted(everything("deleted"))
    names = [item["metadata"]["name"] for item in request_to("east", "GET", f"{SYSTEM}/secrets")[1]["items"]]
    assert names == ["by-hand"]
    assert request_to("west", "GET", f"{SYSTEM}/serviceaccounts/{READER}")[0] == 404


def test_a_secret_made_by_hand_is_neither_changed_nor_deleted(kubeconfig: str, request_to: Request) -> None:
    made = CliRunner().invoke(
        isthmus, ["create-remote-secret", "--context", "west", "--name", "west", "--kubeconfig", kubeconfig]
    )
    before = next(yaml.safe_load_all(made.stdout))
    request_to("east", "POST", f"{SYSTEM}/secrets", before)

    linked = run(kubeconfig, "link", "east", "west", "--one-way", "-o", "json")
    unlinked = run(kubeconfig, "unlink", "east", "west", "--one-way", "--yes", "-o", "json")

    assert {action for _, _, action in actions(linked)} == {"unchanged"}
    assert {action for _, _, action in actions(unlinked)} == {"unchanged"}
    assert base64.b64decode(secret(request_to)["data"]["west"]).decode() == before["stringData"]["west"]


def test_unlinking_two_keeps_the_reader_that_a_third_uses(kubeconfig: str, request_to: Request) -> None:
    run(kubeconfig, "link", "east", "west")
    path = f"{SYSTEM}/serviceaccounts/{READER}"
    account = request_to("west", "GET", path)[1]
    account["metadata"]["annotations"]["isthmus.io/read-by"] = "east,north"
    request_to("west", "PUT", path, account)

    run(kubeconfig, "unlink", "east", "west", "--yes")

    assert request_to("west", "GET", path)[1]["metadata"]["annotations"] == {"isthmus.io/read-by": "north"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("unlink", "east", "west"), "say --yes"),
        (("link", "east"), "two or more"),
        (("link", "east", "nowhere"), "no context 'nowhere'; there is: east, west"),
        (("link", "east", "west", "-n", "elsewhere"), "east: has no namespace elsewhere"),
        (("link", "east", "west", "--token-duration", "1m"), "less than 10m"),
        (("link", "east", "west", "--server", "west=here"), "write it as CONTEXT=https://HOST:PORT"),
    ],
)
def test_mistakes_change_nothing(kubeconfig: str, request_to: Request, arguments: Any, said: str) -> None:
    result = run(kubeconfig, *arguments)

    assert isinstance(result.exception, SystemExit | Failed), result.exception
    assert said in result.output
    assert request_to("east", "GET", f"{SYSTEM}/secrets")[1]["items"] == []


def test_the_secrets_of_a_cluster_tell_when_credentials_expire(kubeconfig: str) -> None:
    run(kubeconfig, "link", "east", "west", "--token-duration", "1h")

    [row] = json.loads(run(kubeconfig, "remote-clusters", "--context", "east", "-o", "json").stdout)["remoteClusters"]

    assert (row["id"], row["secretName"], row["syncStatus"]) == (
        "west",
        "istio-system/istio-remote-secret-west",
        "unknown",
    )
    assert row["credentialExpires"].startswith("20")


def test_a_kubeconfig_that_is_named_means_its_clusters_and_no_mesh_on_this_machine(
    kubeconfig: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(kubeconfig, "link", "east", "west")
    monkeypatch.setenv("KUBECONFIG", kubeconfig)

    shown = CliRunner().invoke(isthmus, ["remote-clusters", "-o", "json"])

    rows = json.loads(shown.stdout)["remoteClusters"]
    assert [(row["istiod"], row["id"], row["syncStatus"]) for row in rows] == [
        ("east", "west", "unknown"),
        ("west", "east", "unknown"),
    ]
    assert shown.stderr.startswith("read from the remote secrets of east, west alone: ")


def test_a_cluster_that_does_not_answer_hides_no_other(kubeconfig: str, tmp_path: Path) -> None:
    run(kubeconfig, "link", "east", "west")
    document = yaml.safe_load(Path(kubeconfig).read_text())
    next(each for each in document["clusters"] if each["name"] == "west")["cluster"]["server"] = "https://127.0.0.1:1"
    other = tmp_path / "other"
    other.write_text(yaml.safe_dump(document))

    shown = run(str(other), "remote-clusters")
    of_west = run(str(other), "remote-clusters", "--context", "west")

    assert (shown.exit_code, "istio-remote-secret-west" in shown.stdout) == (0, True)
    assert shown.stderr.splitlines()[0].startswith("west: ")
    assert of_west.exit_code == 1


def test_a_server_on_localhost_is_warned_of(kubeconfig: str) -> None:
    made = run(kubeconfig, "create-remote-secret", "--context", "west", "--name", "west")

    assert made.stdout.startswith("# This file is autogenerated, do not edit.\n")
    assert made.stdout.endswith("---\n")
    assert "other clusters do not reach this machine's localhost" in made.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--server", "10.0.0.1:6443"), "--server 10.0.0.1:6443: write it as https://HOST:PORT"),
        (("--server", "https://"), "--server https://: write it as https://HOST:PORT"),
        (("--server", "https://west:none"), "--server https://west:none: write it as https://HOST:PORT"),
        (("--long-lived", "--token-duration", "1h"), "the token of a token Secret never expires"),
        (("--namespace", "not-there"), "has no namespace not-there: install the mesh there first, or name it with -n"),
    ],
)
def test_a_secret_that_nobody_could_use_is_not_made(
    kubeconfig: str, request_to: Request, options: Any, said: str
) -> None:
    made = run(kubeconfig, "create-remote-secret", "--context", "west", "--name", "west", *options)

    assert isinstance(made.exception, SystemExit | Failed), made.exception
    assert said in made.output
    assert "apiVersion" not in made.stdout
    assert request_to("west", "GET", f"{SYSTEM}/serviceaccounts/{READER}")[0] == 404


def test_an_id_that_no_secret_can_be_named_after_is_told_before_anything_is_made(
    kubeconfig: str, request_to: Request
) -> None:
    linked = run(kubeconfig, "link", "east", "west=Kubernetes")

    assert isinstance(linked.exception, SystemExit | Failed), linked.exception
    assert "'Kubernetes' is not a DNS label" in linked.output
    assert "isthmus install --cluster" in linked.output
    assert request_to("west", "GET", f"{SYSTEM}/serviceaccounts/{READER}")[0] == 404


def test_a_cluster_without_a_name_is_called_by_the_uid_of_kube_system(kubeconfig: str, request_to: Request) -> None:
    uid = request_to("west", "GET", "/api/v1/namespaces/kube-system")[1]["metadata"]["uid"]

    made = json.loads(run(kubeconfig, "create-remote-secret", "--context", "west", "-o", "json").stdout)["secret"]

    assert made["metadata"]["name"] == f"istio-remote-secret-{uid}"


def test_a_plugin_takes_the_place_of_the_token(kubeconfig: str) -> None:
    plugin = ("--auth-type", "plugin", "--auth-plugin-name", "oidc", "--auth-plugin-config", "client-id=mesh")
    made = run(kubeconfig, "create-remote-secret", "--context", "west", "--name", "west", "-o", "json", *plugin)

    document = yaml.safe_load(json.loads(made.stdout)["secret"]["stringData"]["west"])
    assert document["users"][0]["user"] == {"auth-provider": {"name": "oidc", "config": {"client-id": "mesh"}}}


def test_an_account_in_ones_own_words_takes_the_place_of_the_readers(
    kubeconfig: str, request_to: Request, tmp_path: Path
) -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "only-looks"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "looker", "namespace": "istio-system"}],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "looker"}}
    (tmp_path / "rights").mkdir()
    (tmp_path / "rights" / "all.yaml").write_text(yaml.safe_dump_all([binding, account]))
    words = ["create-remote-secret", "--context", "west", "--name", "west", "--manifests", str(tmp_path / "rights")]

    made = run(kubeconfig, *words, "--service-account", "looker")
    other = run(kubeconfig, *words, "--service-account", "somebody")

    assert made.exit_code == 0, made.output
    assert "created ServiceAccount looker" in made.stderr
    assert "created ClusterRoleBinding only-looks" in made.stderr
    assert request_to("west", "GET", f"{SYSTEM}/serviceaccounts/looker")[0] == 200
    assert request_to("west", "GET", f"{SYSTEM}/serviceaccounts/{READER}")[0] == 404
    assert "there is no ServiceAccount istio-system/somebody among them" in other.output


def test_manifests_are_rights_and_nothing_else(kubeconfig: str, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}))

    made = run(kubeconfig, "create-remote-secret", "--context", "west", "--manifests", str(tmp_path / "all.yaml"))

    assert isinstance(made.exception, SystemExit | Failed), made.exception
    assert "Pod: only ServiceAccount" in made.output


def test_a_token_secret_gives_a_token_that_never_expires(kubeconfig: str, request_to: Request) -> None:
    owner = {"kubernetes.io/service-account.name": READER}
    request_to("west", "POST", f"{SYSTEM}/serviceaccounts", {"metadata": {"name": READER}})
    body = {"metadata": {"name": "forever", "annotations": owner}, "type": "kubernetes.io/service-account-token",
            "stringData": {"token": "t", "ca.crt": "ca"}}  # fmt: skip
    request_to("west", "POST", f"{SYSTEM}/secrets", body)

    made = run(kubeconfig, "create-remote-secret", "--context", "west", "--name", "west", "--long-lived", "-o", "json")

    document = yaml.safe_load(json.loads(made.stdout)["secret"]["stringData"]["west"])
    assert document["users"][0]["user"] == {"token": "t"}
