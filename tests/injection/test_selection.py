"""Who gets a proxy: labels of the namespace and of the Pod, as in Istio's table."""

from __future__ import annotations

import pytest

from isthmus.injection.selection import entries, objection, selected

ENABLED = {"istio-injection": "enabled"}
DISABLED = {"istio-injection": "disabled"}
CANARY = {"istio.io/rev": "canary"}
YES, NO = {"sidecar.istio.io/inject": "true"}, {"sidecar.istio.io/inject": "false"}


@pytest.mark.parametrize(
    ("namespace", "pod", "by"),
    [
        ({}, {}, ""),
        ({}, NO, ""),
        ({}, YES, "default"),
        ({}, CANARY, "canary"),
        ({}, CANARY | YES, "canary"),
        ({}, CANARY | NO, ""),
        (ENABLED, {}, "default"),
        (ENABLED, YES, "default"),
        (ENABLED, NO, ""),
        (ENABLED | CANARY, {}, "default"),
        (DISABLED, {}, ""),
        (DISABLED, YES, ""),
        (DISABLED | CANARY, YES, ""),
        (CANARY, {}, "canary"),
        (CANARY, YES, "canary"),
        (CANARY, NO, ""),
        ({"istio.io/rev": "default"}, {}, "default"),
        ({"istio.io/rev": "gone"}, YES, ""),
    ],
)
def test_exactly_one_revision_takes_a_pod(namespace, pod, by):
    revisions = {"default": entries("default", is_default=True), "canary": entries("canary", is_default=False)}

    takers = [name for name, rules in revisions.items() if selected(rules, namespace, pod)]

    assert takers == ([by] if by else [])


@pytest.mark.parametrize(
    ("namespace", "pod", "taken"),
    [
        ({}, {}, True),
        ({}, YES, True),
        ({}, NO, False),
        (DISABLED, {}, False),
        ({"kubernetes.io/metadata.name": "kube-system"}, {}, False),
    ],
)
def test_unlabelled_namespaces_can_be_taken_by_default(namespace, pod, taken):
    rules = entries("default", is_default=True, by_default=True)

    assert bool(selected(rules, namespace, pod)) is taken


def test_no_two_entries_select_the_same_pod():
    """An API server would call the webhook twice."""
    rules = entries("default", is_default=True, by_default=True)
    for namespace in ({}, ENABLED, DISABLED, {"istio.io/rev": "default"}, ENABLED | {"istio.io/rev": "default"}):
        for pod in ({}, YES, NO, {"istio.io/rev": "default"}, YES | {"istio.io/rev": "default"}):
            assert sum(rule.selects(namespace, pod) for rule in rules) <= 1, (namespace, pod)


@pytest.mark.parametrize(
    ("change", "namespace", "why"),
    [
        ({"spec": {"hostNetwork": True}}, "shop", "host's network"),
        ({}, "kube-system", "system's own"),
        ({}, "kube-public", "system's own"),
        ({"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}}, "shop", "inject: false"),
        ({"metadata": {"annotations": {"sidecar.istio.io/status": "{}"}}}, "shop", "injected already"),
        ({"metadata": {"annotations": {"sidecar.istio.io/inject": "True"}}}, "shop", ""),
        ({}, "shop", ""),
    ],
)
def test_what_selectors_cannot_say_is_asked_of_the_pod(change, namespace, why):
    found = objection(change, namespace)

    assert why in found
    assert bool(found) is bool(why)
