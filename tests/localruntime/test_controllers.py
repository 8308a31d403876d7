"""Controllers as decision tables: these objects, then these writes. A small cluster runs them to the end."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

import pytest

from isthmus.kubernetes.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    NAMESPACES,
    NODES,
    PODS,
    PROXY_CONFIGS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from isthmus.localruntime.controllers.actions import Create, Delete, Patch, Replace, name_of
from isthmus.localruntime.controllers.cache import WATCHED
from isthmus.localruntime.controllers.deployments import deployments
from isthmus.localruntime.controllers.endpoint_slices import endpoint_slices
from isthmus.localruntime.controllers.injection import InjectionSettings, inject
from isthmus.localruntime.controllers.load_balancers import load_balancers
from isthmus.localruntime.controllers.namespaces import namespaces
from isthmus.localruntime.controllers.replica_sets import replica_sets
from isthmus.localruntime.controllers.scheduling import scheduling
from isthmus.localruntime.proxy_configs import config_of, node_metadata, proxy_configs_in
from isthmus.model.proxy_config import ProxyConfig, ProxyConfigs

NOW = "2026-01-01T00:00:00Z"
SETTINGS = InjectionSettings(network="n1", revisions=("default", "canary"))


class Cluster:
    """Keeps objects, carries out writes, and starts every placed Pod at once."""

    def __init__(self) -> None:
        self.state: dict[Any, dict[Any, dict[str, Any]]] = {resource: {} for resource in WATCHED}
        self._numbers = itertools.count(1)
        self.ready_from_the_start = True
        self.fewest_ready = 99

    def add(self, resource: Any, obj: dict[str, Any]) -> dict[str, Any]:
        obj = copy.deepcopy(obj)
        metadata = obj.setdefault("metadata", {})
        if resource is not NODES and resource is not NAMESPACES:
            metadata.setdefault("namespace", "ns")
        number = next(self._numbers)
        metadata.setdefault("name", f"{metadata.get('generateName', 'x')}{number}")
        metadata.setdefault("uid", f"uid-{number}")
        metadata.setdefault("creationTimestamp", f"2026-01-01T00:00:{number % 60:02}Z")
        metadata.setdefault("generation", 1)
        self.state[resource][name_of(obj)] = obj
        return obj

    def carry_out(self, action: Any) -> None:
        match action:
            case Create(resource, body):
                self.add(resource, body)
            case Patch(resource, name, body):
                _merge(self.state[resource][name], body)
            case Replace(resource, body):
                self.state[resource][name_of(body)] = body
            case Delete(resource, name):
                self._collect(self.state[resource].pop(name))

    def _collect(self, owner: dict[str, Any]) -> None:
        """As API servers do: what belonged to an object goes with it."""
        for objects in self.state.values():
            for name, obj in list(objects.items()):
                uids = [reference["uid"] for reference in obj["metadata"].get("ownerReferences") or ()]
                if owner["metadata"]["uid"] in uids and name in objects:
                    self._collect(objects.pop(name))

    def settle(self) -> None:
        """Rounds until no controller asks for anything."""
        for _ in range(100):
            actions = [
                *deployments(self.state, NOW),
                *replica_sets(self.state, NOW),
                *scheduling(self.state, SETTINGS),
                *endpoint_slices(self.state, NOW),
            ]
            if not actions:
                return
            for action in actions:
                self.carry_out(action)
            for index, pod in enumerate(self.state[PODS].values()):
                if pod["spec"].get("nodeName") and "status" not in pod:
                    pod["status"] = status(f"10.0.0.{index + 1}", ready=self.ready_from_the_start)
            self.fewest_ready = min(self.fewest_ready, sum(map(is_ready, self.state[PODS].values())))
        raise AssertionError(f"never settles: {actions}")

    def versions(self) -> list[str]:
        return sorted(pod["metadata"]["labels"]["version"] for pod in self.state[PODS].values())


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        elif value is None:
            target.pop(key, None)
        else:
            target[key] = value


def status(ip: str, *, ready: bool = True) -> dict[str, Any]:
    told = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"phase": "Running", "podIP": ip, "conditions": told}


def is_ready(pod: dict[str, Any]) -> bool:
    return any(c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def deployment(replicas: int, version: str = "v1", **spec: Any) -> dict[str, Any]:
    labels = {"app": "a", "version": version}
    return {
        "metadata": {"name": "a"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            **spec,
        },
    }


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    made.add(NAMESPACES, {"metadata": {"name": "ns"}})
    made.add(NODES, {"metadata": {"name": "node", "labels": {"topology.kubernetes.io/zone": "a"}}, "spec": {}})
    return made


def test_a_deployment_gets_its_pods_and_says_so(cluster):
    made = cluster.add(DEPLOYMENTS, deployment(3))

    cluster.settle()

    assert cluster.versions() == ["v1", "v1", "v1"]
    assert made["status"]["readyReplicas"] == 3
    assert {c["type"]: c["status"] for c in made["status"]["conditions"]} == {
        "Available": "True",
        "Progressing": "True",
    }


def test_scaled_to_zero_no_count_is_left(cluster):
    made = cluster.add(DEPLOYMENTS, deployment(2))
    cluster.settle()

    made["spec"]["replicas"] = 0
    cluster.settle()

    assert cluster.state[PODS] == {}
    assert not {"replicas", "readyReplicas", "availableReplicas", "updatedReplicas"} & made["status"].keys()


def test_scaled_down_what_is_not_ready_goes_first(cluster):
    made = cluster.add(DEPLOYMENTS, deployment(3))
    cluster.settle()
    pods = list(cluster.state[PODS].values())
    pods[1]["status"] = status("10.0.0.9", ready=False)

    made["spec"]["replicas"] = 2
    cluster.settle()

    assert pods[1]["metadata"]["name"] not in {name for _, name in cluster.state[PODS]}


def test_a_new_template_replaces_pods_and_enough_are_always_ready(cluster):
    made = cluster.add(DEPLOYMENTS, deployment(4))
    cluster.settle()
    cluster.fewest_ready = 99

    made["spec"]["template"] = deployment(4, "v2")["spec"]["template"]
    cluster.settle()

    assert cluster.versions() == ["v2"] * 4
    assert cluster.fewest_ready >= 3, "at most a quarter may be missing"


def test_a_template_that_never_gets_ready_leaves_the_old_pods_alone(cluster):
    made = cluster.add(DEPLOYMENTS, deployment(4))
    cluster.settle()
    cluster.ready_from_the_start = False

    made["spec"]["template"] = deployment(4, "v2")["spec"]["template"]
    cluster.settle()

    assert cluster.versions().count("v1") == 3
    assert sum(map(is_ready, cluster.state[PODS].values())) == 3


def test_a_template_that_was_there_before_gets_its_old_replica_set_back(cluster):
    made = cluster.add(DEPLOYMENTS, deployment(1))
    cluster.settle()
    made["spec"]["template"] = deployment(1, "v2")["spec"]["template"]
    cluster.settle()

    made["spec"]["template"] = deployment(1, "v1")["spec"]["template"]
    cluster.settle()

    assert cluster.versions() == ["v1"]
    assert len(cluster.state[REPLICA_SETS]) == 2


def test_a_deleted_deployment_takes_everything_along(cluster):
    cluster.add(DEPLOYMENTS, deployment(2))
    cluster.settle()

    (name,) = cluster.state[DEPLOYMENTS]
    cluster.carry_out(Delete(DEPLOYMENTS, name))
    cluster.settle()

    assert cluster.state[REPLICA_SETS] == {}
    assert cluster.state[PODS] == {}


def test_pods_spread_over_nodes_and_keep_to_their_selector(cluster):
    cluster.add(NODES, {"metadata": {"name": "other", "labels": {"disk": "fast"}}, "spec": {}})
    cluster.add(DEPLOYMENTS, deployment(4))
    cluster.settle()
    assert sorted(pod["spec"]["nodeName"] for pod in cluster.state[PODS].values()) == ["node", "node", "other", "other"]

    picky = cluster.add(PODS, {"spec": {"nodeSelector": {"disk": "fast"}, "containers": [{"name": "c"}]}})
    cluster.settle()

    assert cluster.state[PODS][name_of(picky)]["spec"]["nodeName"] == "other"


@pytest.mark.parametrize(
    ("namespace_labels", "pod_labels", "injected"),
    [
        ({}, {}, False),
        ({"istio-injection": "enabled"}, {}, True),
        ({"istio-injection": "enabled"}, {"sidecar.istio.io/inject": "false"}, False),
        ({"istio-injection": "disabled"}, {"sidecar.istio.io/inject": "true"}, False),
        ({}, {"sidecar.istio.io/inject": "true"}, True),
        ({"istio.io/rev": "canary"}, {}, True),
        ({"istio.io/rev": "gone"}, {}, False),
    ],
)
def test_sidecars_come_by_label(namespace_labels, pod_labels, injected):
    pod = {"metadata": {"labels": dict(pod_labels)}, "spec": {"containers": [{"name": "c"}]}}

    found = inject(pod, namespace_labels, SETTINGS)

    assert ([c["name"] for c in found["spec"]["containers"]] == ["istio-proxy", "c"]) is injected
    assert (found["metadata"]["labels"].get("security.istio.io/tlsMode") == "istio") is injected
    assert inject(copy.deepcopy(found), namespace_labels, SETTINGS) == found, "once is enough"


@pytest.mark.parametrize(
    ("annotations", "threads"),
    [({}, 2), ({"proxy.istio.io/config": "concurrency: 3"}, 3), ({"proxy.istio.io/config": "concurrency: many"}, 2)],
)
def test_every_proxy_is_told_how_it_is_run(annotations, threads):
    settings = replace(SETTINGS, proxies=lambda: ProxyConfigs(default=ProxyConfig(concurrency=2)))
    sidecar = {"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "c"}]}}
    gateway = {
        "metadata": {"annotations": annotations},
        "spec": {"containers": [{"name": "g", "image": "isthmus/proxy"}]},
    }

    for pod in (sidecar, gateway):
        found = inject(pod, {"istio-injection": "enabled"}, settings)

        assert config_of(found).concurrency == threads


def test_what_an_envoy_says_of_itself_is_not_what_the_runtime_knows_better():
    config = ProxyConfig(metadata=(("ISTIO_META_CLUSTER_ID", "west"), ("ISTIO_META_TEAM", "a"), ("OTHER", "x")))

    assert node_metadata(config) == {"TEAM": "a"}


def test_a_meshs_objects_say_how_proxies_are_run():
    cluster = Cluster()
    cluster.add(
        CONFIG_MAPS,
        {
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": "defaultConfig: {concurrency: 2}"},
        },
    )
    cluster.add(PROXY_CONFIGS, {"metadata": {"name": "x", "namespace": "shop"}, "spec": {"concurrency": 4}})
    cluster.add(PROXY_CONFIGS, {"metadata": {"name": "y", "namespace": "shop"}, "spec": {"concurrency": "many"}})

    found = proxy_configs_in(cluster.state)

    assert found.for_workload("shop", {}, ProxyConfig()).concurrency == 4
    assert found.for_workload("other", {}, ProxyConfig()).concurrency == 2


def slices(cluster: Cluster) -> list[tuple[list[int], list[tuple[str, bool, bool, bool]]]]:
    """(ports, [(address, ready, serving, terminating)]) of each slice."""
    found = []
    for slice_ in cluster.state[ENDPOINT_SLICES].values():
        endpoints = [
            (e["addresses"][0], *(e["conditions"][k] for k in ("ready", "serving", "terminating")))
            for e in slice_["endpoints"]
        ]
        found.append(([port["port"] for port in slice_["ports"]], endpoints))
    return found


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return {"metadata": {"name": "s"}, "spec": {"selector": {"app": "a"}, "ports": ports, **spec}}


def pod(name: str, ip: str, *, ready: bool = True, going: bool = False, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": {"app": "a"}}
    if going:
        metadata["deletionTimestamp"] = NOW
    containers = spec.pop("containers", [{"name": "c"}])
    return {
        "metadata": metadata,
        "spec": {"nodeName": "node", "containers": containers, **spec},
        "status": status(ip, ready=ready),
    }


def test_a_gateways_pod_is_filled_in_where_it_keeps_a_place_for_its_proxy():
    pod = {
        "metadata": {"labels": {"app": "front"}, "annotations": {"inject.istio.io/templates": "gateway"}},
        "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]},
    }

    filled = inject(pod, {}, SETTINGS)

    [container] = filled["spec"]["containers"]
    assert (container["image"], container["args"]) == ("isthmus/proxy", ["proxy", "router"])
    assert filled["metadata"]["labels"] == {"app": "front", "topology.istio.io/network": "n1"}


def test_a_service_without_pods_has_an_empty_slice(cluster):
    cluster.add(SERVICES, service())

    cluster.settle()

    assert slices(cluster) == [([8080], [])]


def test_endpoints_say_in_which_state_they_are(cluster):
    cluster.add(SERVICES, service())
    cluster.add(PODS, pod("p1", "10.0.0.1"))
    cluster.add(PODS, pod("p2", "10.0.0.2", ready=False))
    cluster.add(PODS, pod("p3", "10.0.0.3", going=True))

    cluster.settle()

    assert slices(cluster) == [
        (
            [8080],
            [("10.0.0.1", True, True, False), ("10.0.0.2", False, False, False), ("10.0.0.3", False, True, True)],
        )
    ]


def test_pods_that_number_a_port_differently_get_slices_of_their_own(cluster):
    ports = [{"name": "http", "port": 80, "targetPort": "web"}]
    cluster.add(SERVICES, service(ports=ports))
    for name, number in (("p1", 8080), ("p2", 9090)):
        containers = [{"name": "c", "ports": [{"name": "web", "containerPort": number}]}]
        cluster.add(PODS, pod(name, f"10.0.0.{name[1]}", containers=containers))

    cluster.settle()

    assert sorted((ports, [e[0] for e in endpoints]) for ports, endpoints in slices(cluster)) == [
        ([8080], ["10.0.0.1"]),
        ([9090], ["10.0.0.2"]),
    ]


def test_slices_of_others_are_left_alone(cluster):
    theirs = {"metadata": {"name": "theirs", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4"}
    cluster.add(ENDPOINT_SLICES, theirs)

    cluster.settle()

    assert ("ns", "theirs") in cluster.state[ENDPOINT_SLICES]


def test_balanced_services_get_addresses_that_stay(cluster):
    for name in ("s1", "s2"):
        cluster.add(SERVICES, {"metadata": {"name": name}, "spec": {"type": "LoadBalancer"}})
    for action in load_balancers(cluster.state, "172.30.1.0/24"):
        cluster.carry_out(action)
    first = {name: s["status"]["loadBalancer"]["ingress"][0]["ip"] for (_, name), s in cluster.state[SERVICES].items()}

    assert first == {"s1": "172.30.1.1", "s2": "172.30.1.2"}
    assert list(load_balancers(cluster.state, "172.30.1.0/24")) == []
    del cluster.state[SERVICES][("ns", "s1")]
    cluster.add(SERVICES, {"metadata": {"name": "s3"}, "spec": {"type": "LoadBalancer"}})
    [action] = load_balancers(cluster.state, "172.30.1.0/24")
    assert action.body["status"]["loadBalancer"]["ingress"][0]["ip"] == "172.30.1.1"


def test_a_namespace_begins_with_an_account_and_the_roots_unless_it_is_going(cluster):
    begun = list(namespaces(cluster.state, "PEM"))
    assert [(a.resource, a.body["metadata"]["name"]) for a in begun] == [
        (SERVICE_ACCOUNTS, "default"),
        (CONFIG_MAPS, "kube-root-ca.crt"),
    ]

    cluster.state[NAMESPACES][("", "ns")]["metadata"]["deletionTimestamp"] = NOW

    assert list(namespaces(cluster.state, "PEM")) == []
