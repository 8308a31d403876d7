"""Remote secrets: what they ask for, and what changes when they change."""

from __future__ import annotations

import base64

import msgspec
import pytest
import yaml

from isthmus.api.core import Secret
from isthmus.controlplane.remote_secrets import (
    LABEL,
    RemoteCluster,
    RemoteRules,
    after,
    misnamed,
    reading_of,
    sharing,
    transition,
)
from isthmus.kubernetes.kubeconfig import ContextEntry, render
from isthmus.model.names import ClusterId, Namespace

EAST, WEST = ClusterId("east"), ClusterId("west")
RULES = RemoteRules(own_cluster=EAST, system_namespace=Namespace("istio-system"))
LABELLED = {LABEL: "true"}


def secret(
    name: str,
    created: str = "2026-01-01T00:00:00Z",
    labels: dict[str, str] | None = None,
    namespace: str = "istio-system",
    **clusters: str,
) -> Secret:
    body = {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": created,
            "labels": LABELLED if labels is None else labels,
        },
        "data": {cluster: base64.b64encode(text.encode()).decode() for cluster, text in clusters.items()},
    }
    return msgspec.json.decode(msgspec.json.encode(body), type=Secret)


def kubeconfig(token: str = "t") -> str:
    return render([ContextEntry(name="c", server="https://10.0.0.1:6443", ca_pem="", token=token)])


def with_user(**user: object) -> str:
    document = yaml.safe_load(kubeconfig())
    document["users"][0]["user"] = user
    return yaml.safe_dump(document)


def test_the_secret_that_leads_to_the_config_cluster_is_no_remote_secret():
    """Though it is labelled as one, by whoever made it: the cluster would be read twice, under two ids."""
    rules = RemoteRules(own_cluster=EAST, system_namespace=RULES.system_namespace, config_secret="istio-kubeconfig")

    reading = reading_of([secret("istio-kubeconfig", config=kubeconfig())], rules)

    assert (reading.clusters, reading.rejected, reading.ignored) == ({}, (), ())


def test_each_entry_of_a_secret_is_a_cluster_but_not_ones_own():
    reading = reading_of([secret("s", west=kubeconfig(), east=kubeconfig(), north=kubeconfig())], RULES)

    assert list(reading.clusters) == ["north", "west"]
    assert [(entry.cluster, entry.issue) for entry in reading.ignored] == [("east", None)]
    assert reading.issues == ()


@pytest.mark.parametrize("other", [{"labels": {LABEL: "false"}}, {"labels": {}}, {"namespace": "shop"}])
def test_label_and_namespace_make_a_secret_a_remote_secret(other):
    reading = reading_of([secret("s", west=kubeconfig(), **other)], RULES)

    assert (dict(reading.clusters), reading.rejected, reading.ignored) == ({}, (), ())


def test_the_older_secret_wins_a_cluster():
    newer = secret("a", "2026-02-01T00:00:00Z", west=kubeconfig("new"))
    older = secret("b", "2026-01-01T00:00:00Z", west=kubeconfig("old"))

    reading = reading_of([newer, older], RULES)

    [issue] = reading.issues
    assert reading.clusters[WEST].source == "istio-system/b"
    assert (issue.code, issue.subject.name, issue.field) == ("ISM0201", "a", "data.west")


def test_a_bad_kubeconfig_is_told_and_touches_no_other_cluster():
    reading = reading_of([secret("s", bad="{", west=kubeconfig())], RULES)

    [rejected] = reading.rejected
    assert list(reading.clusters) == ["west"]
    assert (rejected.cluster, rejected.reason[:8]) == ("bad", "not YAML")
    assert "cluster bad is not discovered: not YAML" in rejected.issue.what


@pytest.mark.parametrize(
    ("user", "risk", "reason"),
    [
        ({"exec": {"command": "sleep"}}, "exec", "exec is not allowed"),
        ({"tokenFile": "/etc/token"}, "tokenFile", "tokenFile is not allowed"),
        ({"client-key": "/dev/null"}, "clientKey", "client-key is not allowed"),
        ({"client-certificate": "/dev/null"}, "clientCertificate", "client-certificate is not allowed"),
        ({"auth-provider": {"name": "gcp"}}, "gcp", "auth provider gcp is not allowed"),
    ],
)
def test_what_reaches_into_the_control_plane_is_rejected_unless_the_operator_has_accepted_it(user, risk, reason):
    found = secret("s", west=with_user(**user))
    accepting = RemoteRules(own_cluster=EAST, system_namespace=RULES.system_namespace, allowed=frozenset({risk}))

    assert reason in reading_of([found], RULES).rejected[0].reason
    assert list(reading_of([found], accepting).clusters) == ["west"]


def test_an_unchanged_kubeconfig_is_known_by_its_digest():
    first = reading_of([secret("s", west=kubeconfig())], RULES).clusters[WEST]
    same = reading_of([secret("other", west=kubeconfig())], RULES).clusters[WEST]
    changed = reading_of([secret("s", west=kubeconfig("new"))], RULES).clusters[WEST]

    assert first.digest == same.digest != changed.digest
    assert "token" not in repr(first.address)


def transcript(*steps: list[Secret]) -> list[str]:
    """One line for each step: who is connected anew, who leaves, who is connected then."""
    current: dict[ClusterId, RemoteCluster] = {}
    lines = []
    for secrets in steps:
        change = transition(current, reading_of(secrets, RULES))
        current = after(current, change)
        new = " ".join(f"+{remote.id}" for remote in change.connect)
        gone = " ".join(f"-{cluster}" for cluster in change.leave)
        lines.append(f"{new} {gone} = {' '.join(sorted(current))}".strip())
    return lines


def test_the_life_of_remote_secrets():
    one, two = kubeconfig("1"), kubeconfig("2")
    late = "2026-03-01T00:00:00Z"

    seen = transcript(
        [secret("s0", c0=one)],
        [secret("s0", c0=two)],
        [secret("s0", c0=two)],
        [secret("s0", c0=two, c1=one)],
        [secret("s0", c0=two)],
        [secret("s0", c0=two), secret("s1", late, c0=one, c2=one)],
        [secret("s1", late, c0=one, c2=one)],
        [],
    )

    assert seen == [
        "+c0  = c0",
        "+c0  = c0",
        "= c0",
        "+c1  = c0 c1",
        "-c1 = c0",
        "+c2  = c0 c2",
        "+c0  = c0 c2",
        "-c0 -c2 =",
    ]


def test_a_kubeconfig_that_becomes_unusable_leaves_its_connection_and_its_deletion_does_not():
    seen = transcript([secret("s", c0=kubeconfig())], [secret("s", c0="{")], [secret("s")])

    assert seen == ["+c0  = c0", "= c0", "-c0 ="]


def test_one_cluster_under_two_ids_is_told_for_each_secret():
    issues = sharing({EAST: "1", WEST: "2", ClusterId("west-2"): "2", ClusterId("dark"): ""}, EAST)

    assert [(issue.code, issue.subject.name) for issue in issues] == [("ISM0203", "west"), ("ISM0203", "west-2")]
    assert "west and west-2 are one cluster" in issues[0].what


def test_a_cluster_that_calls_itself_otherwise_is_told():
    assert misnamed(WEST, [], EAST, "istio-system/s") is None
    assert misnamed(WEST, ["west"], EAST, "istio-system/s") is None

    issue = misnamed(WEST, ["west-1"], EAST, "istio-system/s")

    assert issue is not None
    assert (issue.code, issue.subject.name) == ("ISM0202", "s")
    assert "cluster west calls itself west-1" in issue.what
