"""A new revision of the control plane is tried on some, takes over all, and goes back: under load."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from isthmus.localruntime.mesh_client import MeshRefused

pytestmark = pytest.mark.live

SYSTEM = "istio-system"


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("revisions")


def answering(status: int, name: str, revision: str) -> dict:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "sample", "labels": {"istio.io/rev": revision}},
        "spec": {
            "hosts": ["helloworld"],
            "http": [
                {"match": [{"uri": {"exact": "/hello"}}], "directResponse": {"status": status}},
                {"route": [{"destination": {"host": "helloworld"}}]},
            ],
        },
    }


def revision_of(mesh, app: str) -> set[str]:
    """The revisions that the proxies of an app are connected to."""
    found = set()
    for pod in mesh.pods("c1", "istiod"):
        try:
            rows = mesh.client.control_plane("c1", "debug/syncz", pod["name"])
        except MeshRefused:
            continue
        if any(row["proxy"].startswith(app) and "listener" in row["resources"] for row in rows):
            found.add(pod["labels"]["istio.io/rev"])
    return found


def tag(mesh, *arguments: str) -> str:
    done = mesh.isthmus("tag", *arguments, "--context", "c1", KUBECONFIG=str(mesh.client.state.kubeconfig))
    assert done.returncode == 0, done.stderr
    return done.stdout


def restart(mesh, deployment: str) -> None:
    """As `kubectl rollout restart` does it."""
    now = datetime.now(UTC).isoformat()
    body = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}}}
    mesh.apps("c1").patch_namespaced_deployment(deployment, "sample", body)


def says(mesh) -> set[str]:
    return {answer.get("error", "").partition(":")[0] for answer in mesh.ask("c1", 5, path="/hello")}


def test_a_rule_is_for_the_revision_or_the_tag_that_it_names(mesh, until):
    with (
        mesh.applied("c1", answering(418, "for-canary", "canary")),
        mesh.applied("c1", answering(451, "for-prod", "prod")),
    ):
        until("the rule for prod is obeyed", lambda: says(mesh) == {"HTTP 451"})
        mesh.remove("c1", answering(451, "for-prod", "prod"))
        until("the rule for canary is not", lambda: "HTTP 418" not in says(mesh) and "HTTP 451" not in says(mesh))
    print("\nclient, with stable by the tag prod, obeys rules for prod, and none for canary")


def test_the_tag_moves_and_comes_back_and_no_request_fails(mesh, until):
    assert revision_of(mesh, "client") == {"stable"}
    with mesh.load("c1") as load:
        print(tag(mesh, "set", "prod", "--revision", "canary"))
        restart(mesh, "helloworld-v1")
        until("helloworld is canary's", lambda: revision_of(mesh, "helloworld") == {"canary"})
        assert revision_of(mesh, "client") == {"stable"}, "what is connected stays"
        load.goes_on(50)

        print(tag(mesh, "set", "prod", "--revision", "stable"))
        restart(mesh, "helloworld-v1")
        until("helloworld is stable's again", lambda: revision_of(mesh, "helloworld") == {"stable"})
        load.goes_on(50)

    print(f"upgrade and rollback of the server's control plane: {load.summary}")
    assert load.summary.failed == 0


@pytest.fixture
def stable_again(mesh, until):
    """Whatever the test does to revisions, afterwards all are stable's."""
    yield
    mesh.scale("c1", "istiod-stable", 1, SYSTEM)
    until(
        "stable runs",
        lambda: (
            [pod["ready"] for pod in mesh.pods("c1", "istiod") if pod["labels"]["istio.io/rev"] == "stable"] == ["1/1"]
        ),
    )
    tag(mesh, "set", "prod", "--revision", "stable")
    for deployment in ("client", "helloworld-v1"):
        restart(mesh, deployment)
    until("all are stable's", lambda: revision_of(mesh, "client") == revision_of(mesh, "helloworld") == {"stable"})


def test_when_the_revision_of_a_tag_is_gone_the_tag_moves_its_proxies(mesh, until, stable_again):
    with mesh.applied("c1", answering(418, "for-canary", "canary")):
        with mesh.load("c1") as load:
            mesh.scale("c1", "istiod-stable", 0, SYSTEM)
            until("stable is gone", lambda: revision_of(mesh, "client") == set())
            tag(mesh, "set", "prod", "--revision", "canary")
            until(
                "all are canary's", lambda: revision_of(mesh, "client") == revision_of(mesh, "helloworld") == {"canary"}
            )
            load.goes_on(50)

        print(f"stable gone, prod moved to canary: {load.summary}")
        assert load.summary.failed == 0
        until("the rule for canary is obeyed now", lambda: says(mesh) == {"HTTP 418"})


def test_a_tag_that_is_used_is_not_removed_and_one_that_leads_nowhere_is_not_set(mesh):
    kubeconfig = {"KUBECONFIG": str(mesh.client.state.kubeconfig)}
    used = mesh.isthmus("tag", "remove", "prod", "--context", "c1", **kubeconfig)
    nowhere = mesh.isthmus("tag", "set", "prod", "--revision", "v9", "--context", "c1", **kubeconfig)

    assert (used.returncode, "tag prod is used by sample" in used.stderr) == (1, True)
    assert (nowhere.returncode, "there is: canary, stable" in nowhere.stderr) == (65, True)
