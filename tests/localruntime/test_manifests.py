"""What the local runtime puts into every cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes
import pytest

from isthmus.api.registry import KINDS
from isthmus.installation.rights import control_plane_rules, system_rules
from isthmus.installation.settings import Profile, install_settings
from isthmus.localruntime.manifests import system
from isthmus.localruntime.planning import plan_of
from isthmus.localruntime.topology import load

EXAMPLES = Path(__file__).parents[2] / "examples"


def rules_of(example: str, cluster: str, kind: str, name: str) -> list[dict[str, Any]]:
    plan = plan_of(load(EXAMPLES / example))
    found = system(plan, plan.cluster(cluster), None, None)
    return next(obj["rules"] for obj in found if obj["kind"] == kind and obj["metadata"]["name"] == name)


@pytest.mark.parametrize("key", KINDS)
def test_a_control_plane_may_read_every_kind_that_it_watches(key):
    """A kind that it may not watch keeps it waiting for ever."""
    kind = KINDS[key]

    allowed = {
        verb
        for rule in rules_of("primary-remote.yaml", "east", "ClusterRole", "istiod-clusterrole-istio-system")
        if kind.group in rule["apiGroups"] and {kind.plural, "*"} & set(rule["resources"])
        for verb in rule["verbs"]
    }

    assert {"get", "list", "watch"} <= allowed


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_strict_clients_take_every_object_with_which_a_cluster_begins(example):
    """Some refuse a whole object, or a list of them, when a required field is missing; a Node's has ten."""
    plan = plan_of(load(example))
    read = set()

    for cluster in plan.clusters:
        for obj in system(plan, cluster, None, None):
            model = getattr(kubernetes.client, f"V1{obj['kind']}", None)
            if model is not None and "." not in obj["apiVersion"].partition("/")[0].removesuffix(".k8s.io"):
                assert model.from_dict(obj).metadata.name == obj["metadata"]["name"]
                read.add(obj["kind"])

    assert {"Node", "Namespace", "ServiceAccount"} <= read


def test_control_planes_have_the_rights_of_installed_ones_and_no_other():
    said = {"cluster": "east", "clusterSet.enabled": "true", "machines.enabled": "true"}
    wanted = install_settings(Profile.PRIMARY, said)

    ruling = rules_of("primary-remote.yaml", "east", "ClusterRole", "istiod-clusterrole-istio-system")

    assert ruling == control_plane_rules(wanted)
    assert rules_of("primary-remote.yaml", "east", "Role", "istiod") == system_rules()
    assert not [rule for rule in ruling if "secrets" in rule["resources"] and "create" in rule["verbs"]]


def test_readers_of_a_remote_write_the_roots_and_read_no_secret():
    reading = rules_of("primary-remote.yaml", "center", "ClusterRole", "istio-reader-clusterrole-istio-system")

    assert not [rule for rule in reading if "secrets" in rule["resources"]]
    config_maps = [rule for rule in reading if "configmaps" in rule["resources"]]
    assert [(rule.get("resourceNames"), "create" in rule["verbs"]) for rule in config_maps] == [
        (["istio-ca-root-cert"], False),
        (None, True),
    ]
