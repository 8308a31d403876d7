"""A control plane's canary is tried by a cluster that reaches it through the gateway of another network."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from isthmus.localruntime.mesh_client import MeshRefused, MeshUnavailable

pytestmark = [pytest.mark.live, pytest.mark.long]

NAME = "revisions-through-gateways"


def revision_of(mesh, app: str) -> set[str]:
    """Which of east's revisions west's proxies of an app are connected to."""
    found = set()
    for pod in mesh.pods("east", "istiod"):
        try:
            rows = mesh.client.control_plane("east", "debug/syncz", pod["name"])
        except (MeshRefused, MeshUnavailable):
            continue
        if any(
            row["proxy"].startswith(app) and row["cluster_id"] == "west" and "listener" in row["resources"]
            for row in rows
        ):
            found.add(pod["labels"]["istio.io/rev"])
    return found


def restart(mesh) -> None:
    """West's helloworld, as `kubectl rollout restart` does it."""
    now = datetime.now(UTC).isoformat()
    body = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}}}
    mesh.apps("west").patch_namespaced_deployment("helloworld-v2", "sample", body)


def move(mesh, revision: str) -> None:
    done = mesh.isthmus(
        "tag", "set", "prod", "--revision", revision, "--context", "east", KUBECONFIG=str(mesh.client.state.kubeconfig)
    )
    assert done.returncode == 0, done.stderr


def test_proxies_of_another_network_follow_the_tag_to_the_canary_and_back_and_no_request_fails(isthmus, mesh_of, until):
    done = isthmus("up", str(Path(__file__).parent / f"{NAME}.yaml"), "--no-traffic")
    assert done.returncode == 0, done.stderr + done.stdout
    mesh = mesh_of(isthmus, NAME)
    assert revision_of(mesh, "helloworld") == revision_of(mesh, "client") == {"stable"}

    with mesh.load("east") as load:
        move(mesh, "canary")
        restart(mesh)
        until("west's new Pod is with the canary", lambda: revision_of(mesh, "helloworld") == {"canary"})
        assert revision_of(mesh, "client") == {"stable"}, "who was not restarted stays"

        move(mesh, "stable")
        restart(mesh)
        until("and back", lambda: revision_of(mesh, "helloworld") == {"stable"})
        load.goes_on(50)

    print(f"through east's gateway to the canary and back: {load.summary}")
    assert load.summary.failed == 0
