"""Global names: Deployments with an identity are called by one name from everywhere, as the policy says, and the name goes with them."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from contextlib import contextmanager

import kubernetes
import pytest

pytestmark = pytest.mark.live

ASK = """
import sys, urllib.error, urllib.request
url, count = sys.argv[1], int(sys.argv[2])
for _ in range(count):
    try:
        print(urllib.request.urlopen(url, timeout=5).read().decode().split()[2].rstrip(","))
    except urllib.error.HTTPError as error:
        print(error.code)
    except urllib.error.URLError:
        print("nowhere")
"""


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("global-names")


def answered(mesh, cluster: str, name: str, count: int = 20) -> collections.Counter[str]:
    """Which node answers how often."""
    return collections.Counter(mesh.python(cluster, ASK, f"http://{name}/hello", str(count)).split())


@pytest.mark.parametrize("cluster", ["east", "west"])
def test_regions_get_the_shares_that_the_policy_gives_them(mesh, cluster):
    found = answered(mesh, cluster, "stage.greeting.global", 100)

    assert found.keys() == {"east-a", "west-a"}
    assert 70 <= found["east-a"] <= 90, found


def test_a_deployment_appears_under_its_name_and_the_name_goes_with_it(mesh, until):
    assert answered(mesh, "east", "default.late.global", 1).keys() == {"nowhere"}
    apps = mesh.apps("west")
    deployment = apps.api_client.sanitize_for_serialization(apps.read_namespaced_deployment("greeting", "sample"))
    template = deployment["spec"]["template"]
    # The Service of the first one chooses its Pods, too; the identity tells them apart.
    template["metadata"]["labels"] = {"app": "greeting", "identity": "late"}
    late = {
        "metadata": {"name": "late"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"identity": "late"}}, "template": template},
    }
    apps.create_namespaced_deployment("sample", late)

    until("east reaches it", lambda: answered(mesh, "east", "default.late.global", 1).keys() == {"west-a"})
    assert answered(mesh, "west", "default.late.global").keys() == {"west-a"}

    apps.delete_namespaced_deployment("late", "sample")
    until("the name is gone", lambda: answered(mesh, "east", "default.late.global", 1).keys() == {"nowhere"})


@contextmanager
def without_policies(mesh) -> Iterator[None]:
    """In neither cluster meanwhile; they are put back as they were written."""
    where = ("admiral.io", "v1alpha1", "sample", "globaltrafficpolicies")
    taken = []
    try:
        for cluster in ("east", "west"):
            api = kubernetes.client.CustomObjectsApi(mesh.apps(cluster).api_client)
            policy = api.get_namespaced_custom_object(*where, "greeting")
            api.delete_namespaced_custom_object(*where, "greeting")
            written = {"name": "greeting", "labels": policy["metadata"].get("labels") or {}}
            written["annotations"] = policy["metadata"].get("annotations") or {}
            taken.append((api, policy | {"metadata": written}))
        yield
    finally:
        for api, policy in taken:
            api.create_namespaced_custom_object(*where, policy)


def test_without_the_policy_the_nearest_come_first_and_the_others_take_over(mesh, until):
    with without_policies(mesh):
        until("each stays at home", lambda: answered(mesh, "east", "stage.greeting.global").keys() == {"east-a"})
        until("each stays at home", lambda: answered(mesh, "west", "stage.greeting.global").keys() == {"west-a"})
        gone = "west.stage.greeting.global"
        until("the policy's own name is gone", lambda: answered(mesh, "east", gone, 1).keys() == {"nowhere"})

        with mesh.scaled("east", "greeting", 0):
            until("west takes over", lambda: answered(mesh, "east", "stage.greeting.global").keys() == {"west-a"})
    until("the policy's own name is back", lambda: answered(mesh, "east", gone, 1).keys() == {"west-a"})
