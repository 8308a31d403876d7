"""A directory of kubeconfigs, read."""

from __future__ import annotations

import yaml

from isthmus.controlplane.remote_files import reading_of_files
from isthmus.controlplane.remote_secrets import RemoteCluster, RemoteRules, transition
from isthmus.model.names import ClusterId, Namespace

RULES = RemoteRules(own_cluster=ClusterId("east"), system_namespace=Namespace("istio-system"))


def kubeconfig(*clusters: str, current: str = "", token: str = "t") -> bytes:
    document = {
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}:6443"}} for name in clusters],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": f"to-{name}", "context": {"cluster": name, "user": "u"}} for name in clusters],
    }
    return yaml.safe_dump(document | ({"current-context": current} if current else {})).encode()


def read(files: dict[str, bytes], current: dict[ClusterId, RemoteCluster] | None = None):
    return reading_of_files(files, RULES, current or {})


def test_the_current_contexts_cluster_gives_the_id():
    assert list(read({"a": kubeconfig("north", "west", current="to-west")}).clusters) == ["west"]


def test_ones_own_cluster_is_passed_over():
    reading = read({"a": kubeconfig("east")})

    assert (dict(reading.clusters), [entry.cluster for entry in reading.ignored]) == ({}, ["east"])


def test_of_two_files_for_one_cluster_the_connected_one_keeps_it():
    first = read({"b": kubeconfig("west")})

    reading = read({"a": kubeconfig("west", token="u"), "b": kubeconfig("west")}, dict(first.clusters))

    assert reading.clusters[ClusterId("west")].source == "b"
    assert [(entry.source, entry.issue.code) for entry in reading.rejected] == [("a", "ISM0201")]


def test_a_malformed_file_keeps_its_cluster_and_another_id_in_it_is_another_cluster():
    before = dict(read({"a": kubeconfig("west")}).clusters)

    assert transition(before, read({"a": b"{"}, before)).leave == ()
    change = transition(before, read({"a": kubeconfig("north")}, before))
    assert ([remote.id for remote in change.connect], change.leave) == (["north"], ("west",))


def test_files_are_held_to_the_rules_of_secrets():
    body = kubeconfig("west").replace(b"token: t", b"tokenFile: /etc/shadow")

    [rejected] = read({"a": body}).rejected
    assert "tokenFile is not allowed" in rejected.reason
