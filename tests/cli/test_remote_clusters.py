"""What `isthmus remote-clusters` says beside its table."""

from __future__ import annotations

from isthmus.cli.remote_clusters import told

CONTRADICTED = {
    "code": "ISM0205",
    "origin": "west/ConfigMap/istio-system/istio-ca-root-cert",
    "message": "the roots published here are those of center, and ours are not among them",
    "fix": "give all of them one root",
    "istiod": "east",
}


def test_what_is_wrong_with_a_cluster_is_told_and_what_is_wrong_with_rules_is_not():
    of_a_rule = CONTRADICTED | {"code": "ISM0301"}

    [line] = told([of_a_rule, CONTRADICTED])

    assert line.startswith("the control plane of east says: ISM0205 west/ConfigMap/istio-system/istio-ca-root-cert: ")
    assert line.endswith("; give all of them one root")
