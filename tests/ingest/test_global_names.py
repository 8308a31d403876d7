"""Names that follow identities, and what a change of their policies reads."""

from __future__ import annotations

from isthmus.assurance.scenario import scenario_of
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.inputs import NOTHING_BESIDES
from isthmus.ingest.snapshot import read, with_rules

LABELS = {"app": "greeting", "identity": "greeting"}
OBJECTS = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "greeting", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "greeting"}, "ports": [{"name": "http", "port": 80}]},
    },
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "greeting", "namespace": "shop"},
        "spec": {"template": {"metadata": {"labels": LABELS}}},
    },
]
POLICY = {
    "apiVersion": "admiral.io/v1alpha1",
    "kind": "GlobalTrafficPolicy",
    "metadata": {"name": "greeting", "namespace": "shop", "labels": {"identity": "greeting"}},
    "spec": {"policy": [{"dnsPrefix": "far", "lbType": 1, "target": [{"region": "us", "weight": 100}]}]},
}


def test_a_policys_own_name_goes_with_the_policy():
    """Which names there are depends on a rule here, so a change of rules alone is not enough to read."""

    def scenario(*more):
        clusters = [{"id": "east", "objects": [*OBJECTS, *more]}]
        return scenario_of({"env": {"ISTHMUS_GLOBAL_NAMES": "global"}, "clusters": clusters})

    cache, before, after = IngestCache(), scenario(POLICY), scenario()
    reading = read(before.settings, before.clusters, before.config_cluster, cache)

    assert {key.hostname for key in reading.snapshot.services if key.hostname.endswith(".global")} == {
        "default.greeting.global",
        "far.default.greeting.global",
    }
    assert with_rules(reading, after.settings, after.clusters[0], cache, NOTHING_BESIDES) is None
