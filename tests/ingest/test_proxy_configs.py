"""ProxyConfig objects and MeshConfig's defaultConfig, as a control plane reads them."""

from __future__ import annotations


def mesh_config(words, text):
    return words.obj("ConfigMap", "istio", "istio-system", data={"mesh": text})


def test_objects_and_defaults_say_how_a_workloads_proxy_is_run(words):
    threads = {"concurrency": 3, "environmentVariables": {"ISTIO_META_A": "1"}}
    snapshot = words.snapshot(
        words.cluster(
            "east",
            mesh_config(words, "defaultConfig: {terminationDrainDuration: 9s, concurrency: 1}"),
            words.obj("ProxyConfig", "threads", "shop", spec=threads | {"selector": {"matchLabels": {"app": "web"}}}),
        )
    )

    of_web = snapshot.proxy_configs.for_workload("shop", {"app": "web"}, snapshot.settings.proxy_config)
    of_others = snapshot.proxy_configs.for_workload("shop", {}, snapshot.settings.proxy_config)

    assert (of_web.concurrency, of_web.metadata, of_web.termination_drain_seconds) == (3, (("ISTIO_META_A", "1"),), 9)
    assert of_others.concurrency == 1
    assert not snapshot.issues


def test_words_that_nothing_follows_are_findings_and_the_rest_counts(words):
    text = "defaultConfig: {concurrency: 2, statNameLength: 10, drainDuration: soon, tracing: {sampling: 5, maxPathTagLength: 9}}"
    snapshot = words.snapshot(words.cluster("east", mesh_config(words, text)))

    assert [(each.code, each.severity.name, each.field) for each in snapshot.issues] == [
        ("ISM0110", "INFO", "data.mesh.defaultConfig.statNameLength"),
        ("ISM0110", "INFO", "data.mesh.defaultConfig.tracing.maxPathTagLength"),
        ("ISM0110", "ERROR", "data.mesh.defaultConfig.drainDuration"),
    ]
    assert snapshot.settings.proxy_config.concurrency == 2


def test_threads_that_no_machine_has_are_a_finding_of_the_object(words):
    snapshot = words.snapshot(
        words.cluster("east", words.obj("ProxyConfig", "many", "shop", spec={"concurrency": 9999}))
    )

    [issue] = snapshot.issues
    assert (issue.code, issue.field, issue.subject.name) == ("ISM0110", "spec.concurrency", "many")
