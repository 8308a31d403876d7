"""A Pod goes in; what comes out starts captured, with an identity, and known to the mesh."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest

from isthmus.injection.injecting import Injected, LeftAsItIs, inject
from isthmus.injection.patching import json_patch
from isthmus.injection.settings import BadRequest
from isthmus.model.names import Namespace
from isthmus.model.proxy_config import ProxyConfig, ProxyConfigRule, ProxyConfigs


def names(parts):
    return [part["name"] for part in parts]


def injected(pod, settings):
    found = inject(pod, "shop", settings)
    assert isinstance(found, Injected), found
    return found.pod


def test_a_native_sidecar_starts_before_the_pods_own_init_containers(settings, pod):
    found = injected(pod(initContainers=[{"name": "migrate"}]), settings)["spec"]

    assert names(found["initContainers"]) == ["istio-init", "istio-proxy", "migrate"]
    assert found["initContainers"][1]["restartPolicy"] == "Always"
    assert names(found["containers"]) == ["app"]
    assert names(found["volumes"]) == ["istiod-ca-cert", "istio-token", "istio-podinfo", "istio-envoy"]


def test_a_pod_may_ask_for_a_sidecar_of_the_old_kind(settings, pod):
    hold = {"proxy.istio.io/config": "holdApplicationUntilProxyStarts: true"}
    found = injected(pod(annotations={"sidecar.istio.io/nativeSidecar": "false", **hold}), settings)["spec"]

    assert names(found["initContainers"]) == ["istio-init"]
    assert names(found["containers"]) == ["istio-proxy", "app"]
    assert found["containers"][0]["lifecycle"]["postStart"]["exec"]["command"] == ["isthmus", "agent", "wait"]


def test_the_proxy_runs_with_as_few_rights_as_it_can(settings, pod):
    capture, proxy = injected(pod(), settings)["spec"]["initContainers"]

    assert proxy["securityContext"]["runAsUser"] == 1337
    assert proxy["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert capture["securityContext"]["capabilities"] == {"add": ["NET_ADMIN"], "drop": ["ALL"]}
    assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in (capture, proxy))


def test_the_token_is_for_the_meshs_authority_alone(settings, pod):
    volumes = {each["name"]: each for each in injected(pod(), settings)["spec"]["volumes"]}

    assert volumes["istio-token"]["projected"]["sources"] == [
        {"serviceAccountToken": {"audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}}
    ]


def test_the_mesh_knows_the_pod_by_its_labels(settings, pod):
    labels = injected(pod(labels={"version": "v2"}), settings)["metadata"]["labels"]

    assert labels == {
        "app": "web",
        "version": "v2",
        "pod-template-hash": "5d4f",
        "istio.io/rev": "default",
        "security.istio.io/tlsMode": "istio",
        "service.istio.io/canonical-name": "web",
        "service.istio.io/canonical-revision": "v2",
        "topology.istio.io/network": "n1",
    }


def test_what_a_pod_says_of_itself_stays(settings, pod):
    said = {"topology.istio.io/network": "other", "service.istio.io/canonical-name": "shop", "istio.io/rev": "r"}

    labels = injected(pod(labels=said), settings)["metadata"]["labels"]

    assert said.items() <= labels.items()


@pytest.mark.parametrize(
    "path", ["/inject/cluster/west/net/n2", "/inject/:ENV:cluster=west:ENV:net=n2", "/inject/net/n2/cluster/west/"]
)
def test_cluster_and_network_come_from_the_path(settings, pod, variables, path):
    found = injected(pod(), settings.at(path))

    assert variables(found)["ISTIO_META_CLUSTER_ID"] == "west"
    assert variables(found)["ISTIO_META_NETWORK"] == "n2"
    assert found["metadata"]["labels"]["topology.istio.io/network"] == "n2"


@pytest.mark.parametrize("path", ["/inject/cluster", "/inject/town/x", "/inject/cluster/a b", "/inject/:ENV:cluster"])
def test_a_path_that_says_neither_is_refused(settings, path):
    with pytest.raises(BadRequest, match="path"):
        settings.at(path)


def test_the_agent_is_told_who_it_is(settings, pod, variables):
    found = injected(pod(), settings)

    assert (
        variables(found).items()
        >= {
            "ISTIO_META_CLUSTER_ID": "east",
            "ISTIO_META_MESH_ID": "mesh1",
            "ISTIO_META_WORKLOAD_NAME": "web",
            "ISTIO_META_APP_CONTAINERS": "app",
            "ISTIO_META_POD_PORTS": '[{"name":"http","containerPort":8080}]',
            "TRUST_DOMAIN": "cluster.local",
            "PROXY_CONFIG": '{"discoveryAddress":"istiod.istio-system.svc:15012"}',
        }.items()
    )


def test_a_pods_own_proxy_config_wins(settings, pod, variables):
    config = "discoveryAddress: elsewhere:15012\nproxyMetadata: {ISTIO_META_DNS_CAPTURE: 'false', EXTRA: x}"
    found = variables(injected(pod(annotations={"proxy.istio.io/config": config}), settings))

    assert json.loads(found["PROXY_CONFIG"])["discoveryAddress"] == "elsewhere:15012"
    assert (found["EXTRA"], found["ISTIO_META_DNS_CAPTURE"]) == ("x", "false")


def test_a_pod_is_run_as_objects_of_the_mesh_say_where_it_says_nothing_itself(settings, pod, variables):
    rule = ProxyConfigRule(
        created="", namespace=Namespace("shop"), name="n", config=ProxyConfig(metadata=(("ISTIO_META_TEAM", "a"),))
    )
    default = ProxyConfig(discovery_address="istiod-canary.istio-system.svc:15012", hold_application=True)
    mesh = replace(settings, proxies=ProxyConfigs(default=default, rules=(rule,)), native=False)

    found = injected(pod(annotations={"proxy.istio.io/config": "concurrency: 3"}), mesh)

    assert json.loads(variables(found)["PROXY_CONFIG"]) == {
        "concurrency": 3,
        "discoveryAddress": "istiod-canary.istio-system.svc:15012",
        "holdApplicationUntilProxyStarts": True,
        "proxyMetadata": {"ISTIO_META_TEAM": "a"},
    }
    assert variables(found)["ISTIO_META_TEAM"] == "a"
    assert "postStart" in found["spec"]["containers"][0]["lifecycle"]


@pytest.mark.parametrize(
    ("revision", "found"), [("default", "istiod.mesh.svc:15012"), ("canary", "istiod.istio-system.svc:15012")]
)
def test_the_mesh_names_the_default_revisions_address_and_no_others(settings, pod, variables, revision, found):
    default = ProxyConfig(discovery_address="istiod.mesh.svc:15012")
    mesh = replace(settings, revision=revision, proxies=ProxyConfigs(default=default))

    assert json.loads(variables(injected(pod(), mesh))["PROXY_CONFIG"])["discoveryAddress"] == found


def test_capture_is_as_the_annotations_say(settings, pod):
    said = {
        "traffic.sidecar.istio.io/excludeInboundPorts": "9090, 9091",
        "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/8",
        "traffic.sidecar.istio.io/excludeOutboundPorts": "3306",
    }
    capture = injected(pod(annotations=said), settings)["spec"]["initContainers"][0]

    assert capture["args"] == [
        "capture",
        "--user=1337",
        "--dns",
        "--inbound-ports=*",
        "--exclude-inbound-ports=9090,9091",
        "--outbound-ranges=10.0.0.0/8",
        "--exclude-outbound-ports=3306",
    ]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("traffic.sidecar.istio.io/excludeInboundPorts", "http"),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "*"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "70000"),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.300/8"),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/8; reboot"),
        ("proxy.istio.io/config", "- a list"),
        ("proxy.istio.io/config", "discoveryAddress: nowhere"),
        ("proxy.istio.io/config", "proxyMetadata: {A: 1}"),
        ("proxy.istio.io/config", "{"),
        ("proxy.istio.io/config", "privateKeyProvider: {cryptomb: {}}"),
        ("sidecar.istio.io/proxyImage", "a b"),
        ("sidecar.istio.io/proxyCPU", "much"),
        ("sidecar.istio.io/nativeSidecar", "maybe"),
        ("sidecar.istio.io/logLevel", "loud"),
        ("inject.istio.io/templates", "mine"),
    ],
)
def test_an_annotation_that_cannot_be_used_refuses_the_pod(settings, pod, annotation, value):
    """It would start otherwise than its owner meant."""
    with pytest.raises(BadRequest, match=annotation.replace("/", ".")):
        inject(pod(annotations={annotation: value}), "shop", settings)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"metadata": {}, "spec": {"containers": [{"image": "no name"}]}},
        {"metadata": {"labels": ["a"]}, "spec": {}},
        {"metadata": {}, "spec": {"containers": {}}},
        [],
        None,
    ],
)
def test_what_is_no_pod_is_refused(settings, broken):
    with pytest.raises(BadRequest, match="not a Pod"):
        inject(broken, "shop", settings)


def test_a_second_injection_changes_nothing(settings, pod):
    found = injected(pod(), settings)

    assert isinstance(inject(found, "shop", settings), LeftAsItIs)


def test_a_container_of_the_proxys_name_customizes_it(settings, pod):
    said = {
        "name": "istio-proxy",
        "image": "auto",
        "resources": {"requests": {"cpu": "1"}},
        "env": [{"name": "TRUST_DOMAIN", "value": "mine"}],
        "volumeMounts": [{"name": "extra", "mountPath": "/extra"}],
    }
    own = pod()
    own["spec"]["containers"].append(said)

    proxy = injected(own, settings)["spec"]["initContainers"][1]

    assert proxy["image"] == "isthmus/proxy:1"
    assert proxy["resources"]["requests"] == {"cpu": "1", "memory": "128Mi"}
    assert [each["value"] for each in proxy["env"] if each["name"] == "TRUST_DOMAIN"] == ["mine"]
    assert proxy["volumeMounts"][-1] == {"name": "extra", "mountPath": "/extra"}


def test_a_gateway_is_a_proxy_alone_without_capture(settings, pod):
    own = pod(annotations={"inject.istio.io/templates": "gateway"})
    own["spec"]["containers"] = [{"name": "istio-proxy", "image": "auto"}]

    found = injected(own, settings)["spec"]

    assert "initContainers" not in found
    assert found["securityContext"]["sysctls"] == [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    assert [(each["name"], each["image"], each["args"]) for each in found["containers"]] == [
        ("istio-proxy", "isthmus/proxy:1", ["agent", "router"])
    ]


@pytest.mark.parametrize(
    ("probe", "question"),
    [
        ({"httpGet": {"path": "/x", "port": "http"}}, {"httpGet": {"path": "/x", "port": 8080}, "timeoutSeconds": 1}),
        ({"tcpSocket": {"port": 9}, "timeoutSeconds": 3}, {"tcpSocket": {"port": 9}, "timeoutSeconds": 3}),
        ({"grpc": {"port": 7, "service": "s"}}, {"grpc": {"port": 7, "service": "s"}, "timeoutSeconds": 1}),
    ],
)
def test_probes_of_the_kubelet_go_through_the_agent(settings, pod, variables, probe, question):
    own = pod()
    own["spec"]["containers"][0]["readinessProbe"] = copy.deepcopy(probe) | {"periodSeconds": 4}

    found = injected(own, settings)

    seen = {"path": "/app-health/app/readyz", "port": 15020, "scheme": "HTTP"}
    assert found["spec"]["containers"][0]["readinessProbe"]["httpGet"] == seen
    assert found["spec"]["containers"][0]["readinessProbe"]["periodSeconds"] == 4
    assert json.loads(variables(found)["ISTIO_KUBE_APP_PROBERS"]) == {"/app-health/app/readyz": question}


def test_commands_that_probe_stay_as_they_are(settings, pod, variables):
    own = pod()
    own["spec"]["containers"][0]["livenessProbe"] = {"exec": {"command": ["true"]}}

    found = injected(own, settings)

    assert found["spec"]["containers"][0]["livenessProbe"] == {"exec": {"command": ["true"]}}
    assert "ISTIO_KUBE_APP_PROBERS" not in variables(found)


def test_a_pod_may_keep_its_probes(settings, pod):
    own = pod(annotations={"sidecar.istio.io/rewriteAppHTTPProbers": "false"})
    own["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"port": 80}}

    assert injected(own, settings)["spec"]["containers"][0]["readinessProbe"] == {"httpGet": {"port": 80}}


def test_a_probe_of_a_port_that_is_not_there_refuses_the_pod(settings, pod):
    own = pod()
    own["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"port": "admin"}}

    with pytest.raises(BadRequest, match="readinessProbe: port 'admin'"):
        inject(own, "shop", settings)


def apply(patch, document):
    """RFC 6902, as far as it is used here."""
    found = copy.deepcopy(document)
    for operation in patch:
        *parents, last = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
        target = found
        for part in parents:
            target = target[part]
        if operation["op"] == "remove":
            del target[last]
        else:
            target[last] = operation["value"]
    return found


def test_the_patch_makes_the_pod_what_it_is_to_be(settings, pod):
    before = pod(annotations={"a/b~c": "x"})
    after = injected(before, settings)

    patch = json_patch(before, after)

    assert apply(patch, before) == after
    assert json_patch(after, after) == []
    assert before == pod(annotations={"a/b~c": "x"}), "the Pod that was given is not touched"
