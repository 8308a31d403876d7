"""What a cluster's own DNS reads of its objects: every change is looked at, and nothing is read twice for it."""

from __future__ import annotations

from structlog.testing import capture_logs

from isthmus.localruntime.cluster_dns import DecodedObjects
from isthmus.model.names import ClusterId


def service(version, ports):
    return {"metadata": {"name": "web", "namespace": "shop", "resourceVersion": version}, "spec": {"ports": ports}}


def test_each_version_is_decoded_once():
    services, name = DecodedObjects("Service", ClusterId("east")), ("shop", "web")
    old, new = service("1", [{"port": 80}]), service("2", [{"port": 81}])

    first, same, changed = (services.of({name: each})[name] for each in (old, old, new))

    assert same is first
    assert changed.spec.ports[0].port == 81
    assert services.of({}) == {}


def test_a_version_that_cannot_be_decoded_is_told_once():
    services, name = DecodedObjects("Service", ClusterId("east")), ("shop", "web")

    with capture_logs() as told:
        found = [services.of({name: service(version, "none")}) for version in ("1", "1", "2")]

    assert found == [{}, {}, {}]
    assert [each["event"] for each in told] == ["not in DNS"] * 2
