"""install --apply and uninstall against a real API server: once, twice, changed, by two revisions, over what was there before."""

from __future__ import annotations

import json
from typing import Any

import pytest

PRIMARY = ("install", "--cluster", "east", "--network", "n1", "--apply", "-o", "json")


_OF_EVERY_NAMESPACE = ("default", "kube-root-ca.crt")
"""What a cluster itself puts there."""


def actions(done: Any) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return {
        f"{each['kind']} {each['namespace']}/{each['name']}": each["action"]
        for each in json.loads(done.stdout)["objects"]
    }


def everything(cell: Any) -> dict[str, str]:
    """Each object of the cluster that an installation could have touched, with its version."""
    found = {}
    groups = {
        "/api/v1": ("namespaces", "serviceaccounts", "services", "configmaps", "secrets"),
        "/apis/apps/v1": ("deployments",),
        "/apis/rbac.authorization.k8s.io/v1": ("clusterroles", "clusterrolebindings", "roles", "rolebindings"),
        "/apis/admissionregistration.k8s.io/v1": ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
        "/apis/apiextensions.k8s.io/v1": ("customresourcedefinitions",),
        "/apis/discovery.k8s.io/v1": ("endpointslices",),
        "/apis/networking.istio.io/v1": ("gateways", "virtualservices"),
    }
    for group, kinds in groups.items():
        for kind in kinds:
            for item in cell.request("GET", f"{group}/{kind}")[1].get("items", []):
                metadata = item["metadata"]
                if metadata["name"] not in _OF_EVERY_NAMESPACE:
                    found[f"{kind} {metadata.get('namespace', '')}/{metadata['name']}"] = metadata["resourceVersion"]
    return found


@pytest.fixture
def empty(cell) -> Any:
    """Whatever a test leaves installed goes."""
    before = set(everything(cell))
    yield cell
    for revision in ("default", "canary"):
        cell.isthmus("uninstall", "--revision", revision, "--purge", "--yes")
    cell.until("namespaces have ended", lambda: not cell.east.going())
    # A real server takes definitions away after their objects, a little later than it says so.
    cell.until("what was installed is gone", lambda: set(everything(cell)) <= before)


def test_a_dry_run_changes_nothing_and_says_what_would_be(empty):
    before = everything(empty)

    done = empty.isthmus(*PRIMARY, "--dry-run")

    assert set(actions(done).values()) == {"created"}
    assert everything(empty) == before


def test_applied_twice_the_second_time_changes_nothing(empty):
    assert set(actions(empty.isthmus(*PRIMARY)).values()) == {"created"}
    after_once = everything(empty)

    assert set(actions(empty.isthmus(*PRIMARY)).values()) == {"unchanged"}
    assert everything(empty) == after_once


def test_uninstalling_leaves_what_was_there_before(empty):
    before = everything(empty)
    empty.isthmus(*PRIMARY)

    done = actions(empty.isthmus("uninstall", "--yes", "-o", "json"))

    left = set(everything(empty)) - set(before)
    assert {name for name in left if not name.startswith("customresourcedefinitions")} == {
        "namespaces /istio-system",
        "configmaps istio-system/isthmus-install-default",
    }
    assert done["Namespace /istio-system"] == "kept"
    assert done["Deployment istio-system/istiod"] == "deleted"


def test_purging_leaves_nothing(empty):
    before = set(everything(empty))
    empty.isthmus(*PRIMARY)

    empty.isthmus("uninstall", "--purge", "--yes")
    empty.until("the namespace has ended", lambda: not empty.east.going())

    assert set(everything(empty)) == before


def test_uninstalling_asks_first(empty):
    empty.isthmus(*PRIMARY)
    before = everything(empty)

    done = empty.isthmus("uninstall")

    assert done.returncode == 64
    assert "--yes" in done.stderr
    assert set(actions(empty.isthmus("uninstall", "--dry-run", "-o", "json")).values()) == {"deleted", "kept"}
    assert everything(empty) == before


def test_what_an_installation_no_longer_wants_is_taken_away(empty):
    empty.isthmus(*PRIMARY, "--set", "ingressGateway.enabled=true")

    done = actions(empty.isthmus(*PRIMARY))

    assert {name for name, action in done.items() if action == "deleted"} == {
        "ServiceAccount istio-system/istio-ingressgateway-service-account",
        "Service istio-system/istio-ingressgateway",
        "Deployment istio-system/istio-ingressgateway",
    }
    assert set(actions(empty.isthmus(*PRIMARY)).values()) == {"unchanged"}


def test_definitions_that_are_no_longer_wanted_stay_and_are_not_forgotten(empty):
    empty.isthmus(*PRIMARY)
    name = "CustomResourceDefinition /virtualservices.networking.istio.io"

    done = actions(empty.isthmus(*PRIMARY, "--set", "crds=remote", "--set", "networkGateway.enabled=false"))
    assert done[name] == "kept"

    assert actions(empty.isthmus("uninstall", "--purge", "--yes", "-o", "json"))[name] == "deleted"


def test_two_revisions_share_what_is_the_clusters_and_go_one_by_one(empty):
    empty.isthmus(*PRIMARY)
    second = actions(empty.isthmus(*PRIMARY, "--revision", "canary", "--set", "networkGateway.enabled=false"))
    assert second["Namespace /istio-system"] == "unchanged"
    assert second["Deployment istio-system/istiod-canary"] == "created"

    gone = actions(empty.isthmus("uninstall", "--yes", "-o", "json"))

    assert gone["ServiceAccount istio-system/istio-reader-service-account"] == "kept"
    assert "deployments istio-system/istiod-canary" in everything(empty)
    last = actions(empty.isthmus("uninstall", "--revision", "canary", "--yes", "-o", "json"))
    assert last["ServiceAccount istio-system/istio-reader-service-account"] == "deleted"


def test_a_namespace_that_was_there_stays_and_is_not_marked(empty):
    empty.made("/api/v1/namespaces", {"metadata": {"name": "istio-system", "labels": {"mine": "yes"}}})
    try:
        empty.isthmus(*PRIMARY)
        labels = empty.request("GET", "/api/v1/namespaces/istio-system")[1]["metadata"]["labels"]
        assert labels["topology.istio.io/network"] == "n1"
        assert "app.kubernetes.io/managed-by" not in labels

        done = actions(empty.isthmus("uninstall", "--purge", "--yes", "-o", "json"))

        assert done["Namespace /istio-system"] == "kept"
        assert empty.request("GET", "/api/v1/namespaces/istio-system")[0] == 200
    finally:
        empty.request("DELETE", "/api/v1/namespaces/istio-system")


def test_what_somebody_else_has_set_is_not_taken_silently(empty):
    arguments = (*PRIMARY, "--set", "controlPlane.replicas=2")
    empty.isthmus(*arguments)
    path = "/apis/apps/v1/namespaces/istio-system/deployments/istiod"
    code, answer = empty.request("PATCH", path, {"spec": {"replicas": 5}}, "application/merge-patch+json")
    assert code == 200, answer

    refused = empty.isthmus(*arguments)
    assert refused.returncode == 1
    assert "Deployment istio-system/istiod: somebody else has said otherwise" in refused.stderr
    assert empty.request("GET", path)[1]["spec"]["replicas"] == 5

    assert actions(empty.isthmus(*arguments, "--force-conflicts"))["Deployment istio-system/istiod"] == "changed"
    assert empty.request("GET", path)[1]["spec"]["replicas"] == 2


def test_what_nobody_has_said_may_be_scaled_by_anyone(empty):
    empty.isthmus(*PRIMARY)
    path = "/apis/apps/v1/namespaces/istio-system/deployments/istiod"
    empty.request("PATCH", path, {"spec": {"replicas": 3}}, "application/merge-patch+json")

    assert actions(empty.isthmus(*PRIMARY))["Deployment istio-system/istiod"] == "unchanged"
    assert empty.request("GET", path)[1]["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("--profile", "remote", "--set", "controlPlane.address=203.0.113.7", "--set", "controlPlane.cluster=east"),
        ("--profile", "remote", "--set", "controlPlane.address=istiod.example.org", "--set", "configCluster=true"),
        ("--profile", "external", "--set", "controlPlane.home=outside"),
        ("--set", "controlPlane.exposed=gateway", "--set", "tags=prod", "--set", "injection.byDefault=true"),
    ],
)
def test_every_profile_is_taken_by_the_server_and_goes_again(empty, arguments):
    network = () if "external" in arguments else ("--network", "n2")
    command = ("install", "--cluster", "west", *network, "--apply", "-o", "json", *arguments)

    assert set(actions(empty.isthmus(*command)).values()) == {"created"}
    assert set(actions(empty.isthmus(*command)).values()) == {"unchanged"}


def test_an_installation_that_is_not_there_is_told(empty):
    done = empty.isthmus("uninstall", "--revision", "ghost", "--yes")

    assert done.returncode == 65
    assert "no installation istio-system.ghost" in done.stderr
