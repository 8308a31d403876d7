"""The Python clients that people have: each creates, lists, watches, patches and deletes."""

from __future__ import annotations

import threading
import warnings

import kr8s
import kr8s.asyncio
import kubernetes
import kubernetes_asyncio
import lightkube
import pytest
from kr8s.asyncio.objects import ConfigMap as Kr8sConfigMap
from kr8s.asyncio.objects import Deployment as Kr8sDeployment
from kr8s.asyncio.objects import Pod as Kr8sPod
from kubernetes_asyncio.client import ApiClient as AsyncApiClient
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.core_v1 import ServicePort, ServiceSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment as LightDeployment
from lightkube.resources.core_v1 import ConfigMap as LightConfigMap
from lightkube.resources.core_v1 import Service as LightService
from lightkube.types import PatchType

DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "shop", "labels": {"app": "shop"}},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "shop"}},
        "template": {
            "metadata": {"labels": {"app": "shop"}},
            "spec": {"containers": [{"name": "shop", "image": "shop:1"}]},
        },
    },
}

ANYTHING = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}


@pytest.fixture(scope="module")
def kubeconfig(server, tmp_path_factory):
    path = tmp_path_factory.mktemp("home") / "kubeconfig"
    path.write_text(server.kubeconfig())
    return str(path)


@pytest.fixture
async def lamps(api, namespace):
    """The group of a custom kind."""
    group = f"{namespace}.example"
    crd = {
        "metadata": {"name": f"lamps.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "lamps", "kind": "Lamp"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": ANYTHING}],
        },
    }
    await api.made("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    return group


@pytest.fixture
def official(kubeconfig):
    """The `kubernetes` package. It blocks, so that its tests are no coroutines."""
    with kubernetes.config.new_client_from_config(kubeconfig) as client:
        yield client


def test_kubernetes_objects_of_every_day(official, namespace):
    core, apps = kubernetes.client.CoreV1Api(official), kubernetes.client.AppsV1Api(official)
    metadata = kubernetes.client.V1ObjectMeta(name="settings", labels={"app": "shop"})
    core.create_namespaced_config_map(namespace, kubernetes.client.V1ConfigMap(metadata=metadata, data={"a": "b"}))
    apps.create_namespaced_deployment(namespace, DEPLOYMENT)

    core.patch_namespaced_config_map("settings", namespace, {"data": {"c": "d"}})
    apps.patch_namespaced_deployment_scale("shop", namespace, {"spec": {"replicas": 3}})
    listed = core.list_namespaced_config_map(namespace, label_selector="app=shop")
    scale = apps.read_namespaced_deployment_scale("shop", namespace)
    deployment = apps.read_namespaced_deployment("shop", namespace)
    gone = core.delete_namespaced_config_map("settings", namespace)

    assert [(item.metadata.name, item.data) for item in listed.items] == [("settings", {"a": "b", "c": "d"})]
    assert (scale.spec.replicas, deployment.spec.replicas) == (3, 3)
    assert gone["status"] == "Success"
    with pytest.raises(kubernetes.client.ApiException) as refused:
        core.read_namespaced_config_map("settings", namespace)
    assert refused.value.status == 404


def test_kubernetes_gets_the_type_that_it_expects_of_each_deletion(official, namespace):
    core = kubernetes.client.CoreV1Api(official)
    named = kubernetes.client.V1ObjectMeta(name="gone")
    core.create_namespaced_service(namespace, {"metadata": {"name": "gone"}, "spec": {"ports": [{"port": 80}]}})
    core.create_namespaced_service_account(namespace, kubernetes.client.V1ServiceAccount(metadata=named))
    core.create_namespaced_config_map(namespace, kubernetes.client.V1ConfigMap(metadata=named))

    service = core.delete_namespaced_service("gone", namespace)
    account = core.delete_namespaced_service_account("gone", namespace)
    config_map = core.delete_namespaced_config_map("gone", namespace)

    assert (service.metadata.name, service.spec.ports[0].port) == ("gone", 80)
    assert account.metadata.name == "gone"
    status = config_map if isinstance(config_map, dict) else config_map.to_dict()
    assert (status["status"], status["details"]["kind"]) == ("Success", "configmaps")


def test_kubernetes_watches_what_another_thread_does(official, namespace):
    core, watch = kubernetes.client.CoreV1Api(official), kubernetes.watch.Watch()
    version = core.list_namespaced_config_map(namespace).metadata.resource_version

    def change():
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "a"}})
        core.patch_namespaced_config_map("a", namespace, {"data": {"k": "v"}})
        core.delete_namespaced_config_map("a", namespace)

    changing = threading.Thread(target=change)
    changing.start()
    seen = []
    stream = watch.stream(
        core.list_namespaced_config_map, namespace, resource_version=version, timeout_seconds=60, _request_timeout=60
    )
    for event in stream:
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            watch.stop()
    changing.join()

    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_kubernetes_asks_for_tokens_and_access(official, namespace):
    core = kubernetes.client.CoreV1Api(official)
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "robot"}})
    spec = {"audiences": ["istio-ca"], "expirationSeconds": 600}

    token = core.create_namespaced_service_account_token("robot", namespace, {"spec": spec}).status.token
    review = kubernetes.client.AuthenticationV1Api(official).create_token_review(
        {"spec": {"token": token, "audiences": ["istio-ca"]}}
    )

    assert review.status.authenticated
    assert review.status.user.username == f"system:serviceaccount:{namespace}:robot"


def test_kubernetes_custom_objects_and_the_dynamic_client(official, namespace, lamps):
    custom = kubernetes.client.CustomObjectsApi(official)
    lamp = {"apiVersion": f"{lamps}/v1", "kind": "Lamp", "metadata": {"name": "hall"}, "spec": {"on": False}}
    custom.create_namespaced_custom_object(lamps, "v1", namespace, "lamps", lamp)
    dynamic = kubernetes.dynamic.DynamicClient(official)

    custom.patch_namespaced_custom_object(lamps, "v1", namespace, "lamps", "hall", {"spec": {"on": True}})
    resource = dynamic.resources.get(api_version=f"{lamps}/v1", kind="Lamp")
    found = resource.get(name="hall", namespace=namespace)

    assert found.spec.on is True


async def test_kubernetes_asyncio_creates_watches_patches_and_deletes(kubeconfig, namespace):
    configuration = kubernetes_asyncio.client.Configuration()
    await kubernetes_asyncio.config.load_kube_config(kubeconfig, client_configuration=configuration)
    async with AsyncApiClient(configuration) as client:
        core = kubernetes_asyncio.client.CoreV1Api(client)
        apps = kubernetes_asyncio.client.AppsV1Api(client)
        version = (await core.list_namespaced_config_map(namespace)).metadata.resource_version

        await core.create_namespaced_config_map(namespace, {"metadata": {"name": "a"}})
        await core.patch_namespaced_config_map("a", namespace, {"data": {"k": "v"}})
        await apps.create_namespaced_deployment(namespace, DEPLOYMENT)
        await apps.patch_namespaced_deployment("shop", namespace, {"spec": {"replicas": 2}})
        deployments = await apps.list_namespaced_deployment(namespace)
        await core.delete_namespaced_config_map("a", namespace)
        seen = []
        async with kubernetes_asyncio.watch.Watch() as watch:
            async for event in watch.stream(
                core.list_namespaced_config_map, namespace, resource_version=version, timeout_seconds=60
            ):
                seen.append((event["type"], event["object"].metadata.name))
                if len(seen) == 3:
                    watch.stop()

    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert [(item.metadata.name, item.spec.replicas) for item in deployments.items] == [("shop", 2)]


@pytest.fixture
async def light(kubeconfig, namespace):
    config = lightkube.KubeConfig.from_file(kubeconfig)
    return lightkube.AsyncClient(config=config, namespace=namespace, trust_env=False)


async def test_lightkube_creates_watches_patches_and_deletes(light):
    spec = ServiceSpec(ports=[ServicePort(port=80, name="http")], selector={"app": "shop"})
    service = await light.create(LightService(metadata=ObjectMeta(name="shop"), spec=spec))
    await light.create(LightConfigMap(metadata=ObjectMeta(name="a", labels={"app": "shop"}), data={"k": "v"}))
    await light.create(LightDeployment.from_dict(DEPLOYMENT))

    await light.patch(LightConfigMap, "a", {"data": {"k": None, "l": "w"}}, patch_type=PatchType.MERGE)
    await light.patch(LightDeployment, "shop", {"spec": {"replicas": 4}})
    listed = [item async for item in light.list(LightConfigMap, labels={"app": "shop"}, chunk_size=1)]
    scale = await light.get(LightDeployment.Scale, "shop")
    seen = []
    async for type_, item in light.watch(LightConfigMap, resource_version=service.metadata.resourceVersion):
        seen.append((type_, item.metadata.name))
        if type_ == "MODIFIED":
            await light.delete(LightConfigMap, "a")
        if type_ == "DELETED":
            break

    assert service.spec.clusterIP.startswith("10.96.")
    assert [item.data for item in listed] == [{"l": "w"}]
    assert scale.spec.replicas == 4
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    with pytest.raises(lightkube.ApiError) as refused:
        await light.get(LightConfigMap, "a")
    assert (refused.value.status.code, refused.value.status.reason) == (404, "NotFound")


async def test_lightkube_custom_objects(light, lamps):
    lamp_kind = create_namespaced_resource(lamps, "v1", "Lamp", "lamps")
    made = await light.create(lamp_kind(metadata=ObjectMeta(name="hall"), spec={"on": False}))

    made.spec["on"] = True
    replaced = await light.replace(made)

    assert replaced.spec == {"on": True}
    with pytest.raises(lightkube.ApiError) as refused:
        await light.replace(made)
    assert refused.value.status.reason == "Conflict"


@pytest.fixture
async def kr8s_api(kubeconfig, namespace):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield await kr8s.asyncio.api(kubeconfig=kubeconfig, namespace=namespace)


async def test_kr8s_creates_watches_patches_and_deletes(kr8s_api, namespace):
    settings = await Kr8sConfigMap(
        {"metadata": {"name": "a", "namespace": namespace, "labels": {"app": "shop"}}, "data": {"k": "v"}}, api=kr8s_api
    )
    metadata = DEPLOYMENT["metadata"] | {"namespace": namespace}
    deployment = await Kr8sDeployment(DEPLOYMENT | {"metadata": metadata}, api=kr8s_api)
    await settings.create()
    await deployment.create()

    await settings.patch({"data": {"k": "w"}})
    await settings.label(tier="front")
    await deployment.patch({"spec": {"replicas": 5}}, subresource="scale")
    listed = [item async for item in kr8s_api.get("configmaps", label_selector={"app": "shop"})]
    await deployment.refresh()
    seen = []
    async for type_, item in kr8s_api.watch("configmaps", namespace=namespace):
        seen.append((type_, item.name))
        if type_ == "ADDED":
            await settings.delete()
        if type_ == "DELETED":
            break

    assert [(item.name, item.raw["data"], item.labels["tier"]) for item in listed] == [("a", {"k": "w"}, "front")]
    assert deployment.replicas == 5
    assert seen == [("ADDED", "a"), ("DELETED", "a")]
    assert not await settings.exists()


async def test_kr8s_waits_for_a_pod(kr8s_api, namespace, api, parallel):
    containers = [{"name": "a", "image": "a:1"}]
    pod = await Kr8sPod(
        {"metadata": {"name": "a", "namespace": namespace}, "spec": {"containers": containers}}, api=kr8s_api
    )
    await pod.create()
    conditions = [{"type": kind, "status": "True"} for kind in ("ContainersReady", "Ready")]
    status = {"status": {"phase": "Running", "conditions": conditions}}
    path = f"/api/v1/namespaces/{namespace}/pods/a/status"

    await parallel(
        [
            pod.wait("condition=Ready", timeout=15),
            api.call("PATCH", path, status, content_type="application/merge-patch+json"),
        ]
    )

    await pod.refresh()
    assert await pod.ready()
