"""What API servers of the local runtime ask control planes, and how they find them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isthmus.localruntime.manifests import system
from isthmus.localruntime.planning import plan_of
from isthmus.localruntime.topology import load
from isthmus.localruntime.webhooks import webhooks
from isthmus.model.selectors import Operator, Requirement

EXAMPLES = Path(__file__).parents[2] / "examples"


def asked(example: str, cluster: str) -> list[dict[str, Any]]:
    plan = plan_of(load(EXAMPLES / example))
    return webhooks(plan, plan.cluster(cluster))


def judges(configuration: dict[str, Any], labels: dict[str, str]) -> bool:
    validation = configuration["webhooks"][0]["objectSelector"]["matchExpressions"]
    requirements = [Requirement(each["key"], Operator(each["operator"]), tuple(each["values"])) for each in validation]
    return all(requirement.holds(labels) for requirement in requirements)


def test_what_is_written_where_rules_come_from_is_asked_about_and_nowhere_else():
    assert [obj["metadata"]["name"] for obj in asked("primary-remote.yaml", "east")] == ["istio-validator-istio-system"]
    assert asked("primary-remote.yaml", "center") == []


@pytest.mark.parametrize(
    ("revision", "judging"), [(None, "stable"), ("stable", "stable"), ("prod", "stable"), ("canary", "canary")]
)
def test_one_revision_judges_each_object(revision, judging):
    """By its name, or by a tag's; the first one what names none."""
    labels = {} if revision is None else {"istio.io/rev": revision}

    found = [obj["metadata"]["labels"]["istio.io/rev"] for obj in asked("revisions.yaml", "c1") if judges(obj, labels)]

    assert found == [judging]


def test_a_control_plane_outside_the_mesh_is_asked_at_its_address():
    service, slice_, configuration = asked("external-control-plane.yaml", "east")

    plan = plan_of(load(EXAMPLES / "external-control-plane.yaml"))
    assert slice_["endpoints"][0]["addresses"] == [plan.cluster("ops").control_plane_balanced]
    called = configuration["webhooks"][0]["clientConfig"]["service"]
    assert called["name"] == service["metadata"]["name"] == "istiod-remote"
    assert asked("external-control-plane.yaml", "ops") == asked("external-control-plane.yaml", "west") == []


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_control_planes_may_write_their_authority_into_each_of_them(example):
    """Otherwise nobody is asked, and the mesh never is ready."""
    plan = plan_of(load(example))
    for cluster in plan.clusters:
        wanted = {
            obj["metadata"]["name"]
            for obj in webhooks(plan, cluster)
            if obj["kind"] == "ValidatingWebhookConfiguration"
        }
        roles = {
            obj["metadata"]["name"]: obj for obj in system(plan, cluster, None, None) if obj["kind"] == "ClusterRole"
        }
        rules = roles.get("istiod-clusterrole-istio-system", {}).get("rules", ())
        may = {name for rule in rules if "patch" in rule["verbs"] for name in rule.get("resourceNames", ())}

        assert wanted <= may
