"""What a mesh that starts waits for before it is called ready."""

from __future__ import annotations

import pytest

from isthmus.kubernetes.resources import DEPLOYMENTS, PODS
from isthmus.localruntime.planning import plan_of
from isthmus.localruntime.readiness import may_meet, not_ready, unheard
from isthmus.localruntime.topology import load


def pod(ready, phase="Running", **metadata):
    return {
        "metadata": metadata,
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def test_deployments_and_pods_of_their_own_are_waited_for():
    """A ReplicaSet's Pod counts with its Deployment, and what has done its work is not waited for."""
    state = {
        DEPLOYMENTS: {
            ("sample", "client"): {"status": {"conditions": [{"type": "Available", "status": "True"}]}},
            ("sample", "echo"): {"status": {}},
        },
        PODS: {
            ("sample", "db-0"): pod(ready=True),
            ("sample", "db-1"): pod(ready=False),
            ("sample", "db-2"): {"metadata": {}, "spec": {}},
            ("sample", "echo-1"): pod(ready=False, ownerReferences=[{"kind": "ReplicaSet"}]),
            ("sample", "job"): pod(ready=False, phase="Succeeded"),
        },
    }

    assert list(not_ready(state)) == ["sample/echo", "sample/db-1", "sample/db-2"]


@pytest.mark.parametrize(("trusts", "meets"), [("[bank]", {"bank"}), ("[]", set())])
def test_meshes_are_waited_for_where_each_trusts_the_other(trusts, meets, tmp_path):
    meshes = f"{{shop: {{trustDomain: a, trusts: {trusts}}}, bank: {{trustDomain: b, trusts: [shop]}}}}"
    clusters = "{shop: {mesh: shop}, bank: {mesh: bank}}"
    file = tmp_path / "two.yaml"
    head = "apiVersion: isthmus.io/v1alpha1\nkind: Topology\nmetadata: {name: two}"
    file.write_text(f"{head}\nspec: {{meshes: {meshes}, clusters: {clusters}}}\n")
    plan = plan_of(load(file))

    assert may_meet(plan, plan.clusters[0]) == meets


def test_a_peer_counts_as_heard_once_it_is_live():
    rows = [
        {"mesh": "bank", "state": "not asked"},
        {"mesh": "mill", "state": "live"},
        {"mesh": "far", "state": "stale"},
    ]

    assert unheard(frozenset({"bank", "mill"}), rows) == ["bank"]
