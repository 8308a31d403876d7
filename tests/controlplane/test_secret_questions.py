"""What becomes of remote secrets: read alone, and changed over time."""

from __future__ import annotations

import pytest

from isthmus.controlplane.secret_questions import check, simulate

CA = "Y2FEYXRh"


def kubeconfig(name: str, user: str = "token: t", cluster: str = "") -> str:
    return f"""
clusters: [{{name: {name}, cluster: {{server: "https://{name}.example", certificate-authority-data: {CA}{cluster}}}}}]
contexts: [{{name: {name}, context: {{cluster: {name}, user: {name}}}}}]
current-context: {name}
users: [{{name: {name}, user: {{{user}}}}}]
"""


def secret(name: str = "s", namespace: str = "istio-system", label: str = "true", **kubeconfigs: str) -> dict:
    metadata = {"name": name, "namespace": namespace, "labels": {"istio/multiCluster": label}}
    return {"kind": "Secret", "metadata": metadata, "stringData": kubeconfigs}


def asked(obj: dict, **environment: str) -> tuple[list[str], list[str], list[str]]:
    found = check(obj, "own", "istio-system", environment)
    return (
        found["accepted"],
        [each["cluster"] for each in found["rejected"]],
        [each["cluster"] for each in found["ignored"]],
    )


def test_each_cluster_of_a_secret_is_judged_by_itself():
    obj = secret(west=kubeconfig("west"), bad="[", own=kubeconfig("own"), run=kubeconfig("run", "exec: {command: rm}"))

    assert asked(obj) == (["west"], ["bad", "run"], ["own"])


@pytest.mark.parametrize("obj", [secret(label="false", west="x"), secret(namespace="other", west="x")])
def test_label_and_namespace_select_it(obj):
    assert asked(obj) == ([], [], ["west"])


@pytest.mark.parametrize(
    ("user", "option"),
    [
        ("exec: {command: rm}", "exec"),
        ("tokenFile: /etc/passwd", "tokenFile"),
        ("client-key: /k", "clientKey"),
        ("client-certificate: /c", "clientCertificate"),
        ("auth-provider: {name: gcp}", "gcp"),
    ],
)
def test_what_runs_programs_or_reads_files_is_refused_unless_the_operator_allows_it(user, option):
    obj = secret(west=kubeconfig("west", user))

    [rejected] = check(obj, "own", "istio-system", {})["rejected"]
    assert "not allowed" in rejected["reason"]
    if option in ("exec", "gcp"):
        assert asked(obj, PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS=f"azure, {option}") == (["west"], [], [])


def steps(*changes: dict) -> list[tuple[list[str], list[str]]]:
    found = simulate(changes, "own", "istio-system", {})["steps"]
    return [(step["remoteClusters"], step["reconnected"]) for step in found]


def test_only_what_changed_is_connected_anew():
    first, second = kubeconfig("west"), kubeconfig("west", "token: u")

    assert steps(
        {"apply": secret(west=first)},
        {"apply": secret(west=first)},
        {"apply": secret(west=second, south=first)},
        {"apply": secret(south=first)},
        {"delete": "istio-system/s"},
    ) == [(["west"], ["west"]), (["west"], []), (["south", "west"], ["south", "west"]), (["south"], []), ([], [])]


def test_the_first_secret_of_a_cluster_keeps_it_until_it_goes():
    one, other = kubeconfig("west"), kubeconfig("west", "token: u")

    assert steps(
        {"apply": secret("b", west=one)},
        {"apply": secret("a", west=other)},
        {"delete": "istio-system/b"},
    ) == [(["west"], ["west"]), (["west"], []), (["west"], ["west"])]


@pytest.mark.parametrize("step", [{}, {"apply": {"kind": "Pod"}}])
def test_a_bad_question_is_told(step):
    with pytest.raises(ValueError, match=r"apply|Secret"):
        simulate([step], "own", "istio-system", {})
