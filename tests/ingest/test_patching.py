"""Which changes of Pods and EndpointSlices are patched, and which have the whole read again."""

from __future__ import annotations

import pytest

from isthmus.ingest.cache import IngestCache
from isthmus.ingest.patching import patched
from isthmus.ingest.snapshot import read


def database(words, *pods, name="db"):
    """A headless Service's slice with its Pods."""
    endpoints = [{"addresses": [ip], "hostname": pod} for pod, ip in pods]
    labels = {"kubernetes.io/service-name": "db"}
    ports = [{"name": "http", "port": 8080}]
    return words.obj("EndpointSlice", name, labels=labels, addressType="IPv4", ports=ports, endpoints=endpoints)


def gateway(words, name, ip):
    spec = {"externalIPs": [ip], "ports": [{"name": "tls", "port": 15443}]}
    return words.obj("Service", f"gw-{name}", "istio-system", {"topology.istio.io/network": name}, spec=spec)


def member(words, name, network, ip, *pods):
    """A cluster on a network that has a gateway."""
    fixed = words.network(network), gateway(words, network, ip), words.service("db", "None")
    return words.cluster(name, *fixed, database(words, *pods))


@pytest.fixture
def settings(words):
    return words.snapshot(words.cluster("east")).settings


def after(settings, before, now):
    """What a patch makes of it; None where it declines."""
    reading = read(settings, before, before[0].id, IngestCache())
    changes = {
        new.id: {"EndpointSlice": {("ns", "db")}}
        for old, new in zip(before, now, strict=True)
        if old.objects["EndpointSlice"] != new.objects["EndpointSlice"]
    }
    return patched(reading, changes, {each.id: each.objects for each in now})


def test_pods_of_a_headless_service_come_and_go_by_a_patch_where_there_is_one_network(words, settings):
    def mesh(*pods):
        return [words.cluster("east", words.network("n1"), words.service("db", "None"), database(words, *pods))]

    one, two = mesh(("db-0", "10.0.0.1")), mesh(("db-0", "10.0.0.1"), ("db-1", "10.0.0.2"))

    for before, now in ((one, two), (two, one)):
        reading = after(settings, before, now)
        assert reading is not None
        assert reading.snapshot == read(settings, now, now[0].id, IngestCache()).snapshot


def test_whose_pod_a_name_means_to_others_is_told_as_it_is_now(words, settings):
    """db-0 moves from a to b, on the same network: what the name is to callers elsewhere is another cluster's."""
    db = ("db-0", "10.0.0.1")
    far = member(words, "d", "n3", "1.1.1.3")
    third = member(words, "c", "n2", "1.1.1.2", db)

    def mesh(a, b):
        return [far, member(words, "a", "n1", "1.1.1.1", *a), member(words, "b", "n1", "1.1.1.1", *b), third]

    before, now = mesh([db], []), mesh([], [db])
    anew = read(settings, now, now[0].id, IngestCache()).snapshot
    assert [issue.subject.cluster for issue in anew.issues if issue.code == "ISM0111"] == ["b"]

    reading = after(settings, before, now)

    assert reading is None or reading.snapshot == anew
