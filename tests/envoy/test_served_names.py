"""What a proxy's statistics port says of the proxy's own end."""

from __future__ import annotations

import pytest

from isthmus.envoy.served_names import UNKNOWN, lua, own_end


def node(labels=None, **metadata):
    return {
        "metadata": {"WORKLOAD_NAME": "web", "NAMESPACE": "shop", "CLUSTER_ID": "east", "LABELS": labels or {}}
        | metadata
    }


@pytest.mark.parametrize(
    ("labels", "name", "revision"),
    [
        ({}, "web", "latest"),
        ({"app": "a", "version": "v1"}, "a", "v1"),
        ({"app": "a", "app.kubernetes.io/name": "b"}, "b", "latest"),
        ({"app": "a", "service.istio.io/canonical-name": "c", "service.istio.io/canonical-revision": "r"}, "c", "r"),
    ],
)
def test_canonical_names_are_as_istio_derives_them(labels, name, revision):
    found = own_end(node(labels))

    assert (found["canonical_service"], found["canonical_revision"]) == (name, revision)


def test_what_could_end_a_label_early_is_not_said():
    found = own_end(node({"app": 'x"} 1\n'}, CLUSTER_ID="100%"))

    assert (found["app"], found["cluster"], found["workload"]) == (UNKNOWN, UNKNOWN, "web")


def test_a_proxy_of_which_nothing_is_known_has_a_script_all_the_same():
    assert f'source_workload="{UNKNOWN}"' in lua({"id": "x"})
