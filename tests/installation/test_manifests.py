"""What is installed, as it is rendered: the same bytes each time, as few rights as will do, and every profile with its own parts."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from isthmus.cli.installing import install_command
from isthmus.controlplane import roots
from isthmus.ingest import drains, mesh_config
from isthmus.installation.manifests import as_yaml, installed
from isthmus.installation.settings import BadValue, Profile, install_settings

REMOTE = {"controlPlane.address": "203.0.113.7", "controlPlane.cluster": "east"}
EXTERNAL = {"controlPlane.home": "outside", "cluster": "east"}


def rendered(profile: Profile = Profile.PRIMARY, **values: str) -> dict[str, dict[str, Any]]:
    """By kind and name."""
    said = {name.replace("__", "."): value for name, value in values.items()}
    found = [each.body for each in installed(install_settings(profile, said))]
    return {f"{body['kind']} {body['metadata']['name']}": body for body in found}


def of_kind(found: dict[str, dict[str, Any]], kind: str) -> list[str]:
    return [name.partition(" ")[2] for name in found if name.startswith(f"{kind} ")]


def test_the_same_settings_give_the_same_bytes():
    settings = install_settings(
        Profile.PRIMARY, {"network": "n1", "tags": "prod,stable", "ingressGateway.enabled": "true"}
    )

    assert as_yaml(installed(settings)) == as_yaml(installed(settings))


def test_a_primary_has_everything():
    found = rendered(cluster="east", network="n1")

    assert of_kind(found, "Deployment") == ["istiod", "istio-eastwestgateway"]
    assert of_kind(found, "MutatingWebhookConfiguration") == ["istio-sidecar-injector"]
    assert of_kind(found, "ValidatingWebhookConfiguration") == ["istio-validator-istio-system"]
    assert of_kind(found, "Gateway") == ["cross-network-gateway"]
    assert found["Namespace istio-system"]["metadata"]["labels"]["topology.istio.io/network"] == "n1"
    webhook = found["MutatingWebhookConfiguration istio-sidecar-injector"]["webhooks"][0]["clientConfig"]["service"]
    assert webhook == {
        "name": "istiod",
        "namespace": "istio-system",
        "path": "/inject/cluster/east/net/n1",
        "port": 443,
    }


def test_other_meshes_find_a_port_of_the_control_plane_and_one_of_the_gateway_where_they_may():
    found = rendered(network="n1", mesh="bank", trustDomain="bank.example", federation__enabled="true")

    peers, gateway = found["Service istiod-peers"], found["Service istio-eastwestgateway"]
    assert [port["port"] for port in peers["spec"]["ports"]] == [15018, 15019]
    assert gateway["metadata"]["labels"]["federation.isthmus.io/gateway-port"] == "15444"
    assert 15444 in [port["port"] for port in gateway["spec"]["ports"]]
    [server] = found["Gateway peers-gateway"]["spec"]["servers"]
    assert (server["hosts"], server["port"]["number"], server["tls"]["mode"]) == (
        ["*.bank.mesh"],
        15444,
        "AUTO_PASSTHROUGH",
    )
    assert not {"Service istiod-peers", "Gateway peers-gateway"} & rendered(network="n1").keys()


def test_a_cluster_without_a_network_has_no_network_gateway():
    found = rendered()

    assert of_kind(found, "Deployment") == ["istiod"]
    assert of_kind(found, "Gateway") == []


def test_a_remote_leads_to_its_control_plane_and_lets_it_write_what_it_must():
    found = rendered(Profile.REMOTE, cluster="west", network="n2", **REMOTE)

    assert of_kind(found, "Deployment") == ["istio-eastwestgateway"]
    assert "selector" not in found["Service istiod"]["spec"]
    (endpoint,) = found["EndpointSlice istiod"]["endpoints"]
    assert endpoint["addresses"] == ["203.0.113.7"]
    ports = {each["name"]: each["port"] for each in found["EndpointSlice istiod"]["ports"]}
    assert ports == {"tls-xds": 15012, "tls-xds-mtls": 15013, "https-webhook": 15017}
    annotations = found["Namespace istio-system"]["metadata"]["annotations"]
    assert annotations == {"topology.istio.io/controlPlaneClusters": "east"}
    assert of_kind(found, "ValidatingWebhookConfiguration") == [], "configuration is not read here"
    assert "CustomResourceDefinition virtualservices.networking.istio.io" not in found


def test_a_remote_may_have_its_control_plane_under_a_name():
    found = rendered(Profile.REMOTE, **REMOTE | {"controlPlane.address": "istiod.example.org"})

    assert found["Service istiod"]["spec"]["externalName"] == "istiod.example.org"
    assert of_kind(found, "EndpointSlice") == []


def test_an_external_control_plane_is_no_part_of_its_own_cluster():
    found = rendered(Profile.EXTERNAL, **EXTERNAL)

    assert of_kind(found, "Deployment") == ["istiod"]
    for kind in ("CustomResourceDefinition", "MutatingWebhookConfiguration", "Gateway", "ClusterRole"):
        assert of_kind(found, kind) == []
    container = found["Deployment istiod"]["spec"]["template"]["spec"]["containers"][0]
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert (told["CLUSTER_ID"], told["ISTHMUS_HOME_CLUSTER"], told["ISTHMUS_CONFIG_SECRET"]) == (
        "east",
        "outside",
        "istio-kubeconfig",
    )
    assert found["Service istiod-exposed"]["spec"]["type"] == "LoadBalancer"


def test_its_config_cluster_has_configuration_and_an_account_for_it():
    found = rendered(Profile.REMOTE, configCluster="true", network="n1", **REMOTE)

    assert "CustomResourceDefinition virtualservices.networking.istio.io" in found
    assert "ServiceAccount istiod" in found
    assert of_kind(found, "Gateway") == ["cross-network-gateway"]


def test_revisions_and_tags_have_names_of_their_own():
    found = rendered(revision="canary", tags="prod", networkGateway__enabled="false")

    assert of_kind(found, "Service") == ["istiod-canary", "istiod-prod"]
    assert of_kind(found, "MutatingWebhookConfiguration") == [
        "istio-sidecar-injector-canary",
        "istio-revision-tag-prod",
    ]
    tag = found["MutatingWebhookConfiguration istio-revision-tag-prod"]
    assert tag["metadata"]["labels"]["istio.io/rev"] == "canary"
    assert tag["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"] == ["prod"]
    assert found["Deployment istiod-canary"]["spec"]["selector"]["matchLabels"]["istio.io/rev"] == "canary"


def test_a_control_plane_can_be_reached_through_the_network_gateway():
    found = rendered(network="n1", controlPlane__exposed="gateway")

    ports = [each["port"] for each in found["Service istio-eastwestgateway"]["spec"]["ports"]]
    assert ports == [15021, 15443, 15012, 15013, 15017]
    routes = found["VirtualService istiod"]["spec"]["tls"]
    assert [(each["match"][0]["port"], each["route"][0]["destination"]["port"]["number"]) for each in routes] == [
        (15012, 15012),
        (15013, 15013),
        (15017, 443),
    ]


def rules(found: dict[str, dict[str, Any]], role: str) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = found[role]["rules"]
    return rules


def test_nobody_may_do_anything_with_everything():
    for profile, values in ((Profile.PRIMARY, {}), (Profile.REMOTE, REMOTE), (Profile.EXTERNAL, EXTERNAL)):
        for name, body in rendered(profile, **values).items():
            for rule in body.get("rules", []):
                assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], name
                forbidden = {"delete", "deletecollection", "escalate", "bind", "impersonate"}
                forbidden |= {"update"} if rule["resources"] != ["leases"] else set()
                assert not forbidden & set(rule["verbs"]), name


def test_who_reads_a_remote_cluster_reads_no_secret_and_the_roots_alone_of_config_maps():
    found = rendered(Profile.REMOTE, **REMOTE)

    roles = [body for name, body in found.items() if name.startswith(("ClusterRole ", "Role "))]
    allowed = [rule for role in roles for rule in role["rules"]]
    assert not [rule for rule in allowed if "secrets" in rule["resources"]]
    read = [rule for rule in allowed if "configmaps" in rule["resources"] and rule["verbs"] != ["create"]]
    assert [rule["resourceNames"] for rule in read] == [["istio-ca-root-cert"]]


def test_a_control_plane_patches_its_own_webhooks_only():
    found = rendered(revision="canary", tags="prod")

    allowed = rules(found, "ClusterRole istiod-canary-clusterrole-istio-system")
    patched = [
        rule["resourceNames"]
        for rule in allowed
        if rule["apiGroups"] == ["admissionregistration.k8s.io"] and "patch" in rule["verbs"]
    ]
    assert patched == [
        ["istio-sidecar-injector-canary", "istio-validator-canary-istio-system", "istio-revision-tag-prod"]
    ]


def test_every_config_map_that_a_control_plane_asks_for_may_be_read():
    allowed = rules(rendered(), "ClusterRole istiod-clusterrole-istio-system")

    names = {name for rule in allowed if rule["resources"] == ["configmaps"] for name in rule.get("resourceNames", ())}
    assert names == {mesh_config.CONFIG_MAP, drains.CONFIG_MAP, roots.CONFIG_MAP}


def test_imports_are_made_and_may_be_made_only_where_a_cluster_set_is_asked_for():
    def of(found: dict[str, dict[str, Any]]) -> tuple[set[str], str]:
        allowed = rules(found, "ClusterRole istiod-clusterrole-istio-system")
        verbs = {verb for rule in allowed if rule["apiGroups"] == ["multicluster.x-k8s.io"] for verb in rule["verbs"]}
        [container] = found["Deployment istiod"]["spec"]["template"]["spec"]["containers"]
        told = {each["name"]: each.get("value") for each in container["env"]}
        return verbs - {"get", "list", "watch"}, told["ISTHMUS_CLUSTER_SET_CONTROLLER"]

    assert of(rendered()) == (set(), "false")
    assert of(rendered(clusterSet__enabled="true")) == ({"create", "patch", "delete"}, "true")


def test_a_control_plane_approves_for_the_signer_that_is_named_and_for_no_other():
    found = rendered(externalSigner="a.example/mesh")
    group = "certificates.k8s.io"
    allowed = [
        each for each in rules(found, "ClusterRole istiod-clusterrole-istio-system") if group in each["apiGroups"]
    ]
    [container] = found["Deployment istiod"]["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each.get("value") for each in container["env"]}

    [signers] = [each for each in allowed if each["resources"] == ["signers"]]
    assert (signers["resourceNames"], signers["verbs"]) == (["a.example/mesh"], ["approve"])
    assert (told["EXTERNAL_CA"], told["K8S_SIGNER"]) == ("ISTIOD_RA_KUBERNETES_API", "a.example/mesh")
    assert group not in str(rules(rendered(), "ClusterRole istiod-clusterrole-istio-system"))


def test_secrets_of_other_namespaces_can_be_left_out():
    allowed = rules(rendered(gatewaySecrets="false"), "ClusterRole istiod-clusterrole-istio-system")

    assert not [rule for rule in allowed if "secrets" in rule["resources"]]


def test_whatever_runs_is_not_root_and_cannot_become_it():
    found = rendered(network="n1", ingressGateway__enabled="true")

    for name in of_kind(found, "Deployment"):
        spec = found[f"Deployment {name}"]["spec"]["template"]["spec"]
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["runAsNonRoot"], name
            assert not context["allowPrivilegeEscalation"], name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert context["readOnlyRootFilesystem"], name


def test_nothing_that_is_installed_is_injected():
    found = rendered(network="n1", ingressGateway__enabled="true")

    for name in of_kind(found, "Deployment"):
        labels = found[f"Deployment {name}"]["spec"]["template"]["metadata"]["labels"]
        assert labels["sidecar.istio.io/inject"] == "false"


@pytest.mark.parametrize(
    ("profile", "values", "named"),
    [
        (Profile.PRIMARY, {"bogus": "1"}, "bogus"),
        (Profile.PRIMARY, {"controlPlane.address": "1.2.3.4"}, "controlPlane.address"),
        (Profile.REMOTE, {}, "controlPlane.address"),
        (Profile.REMOTE, {"controlPlane.address": "not a host"}, "controlPlane.address"),
        (Profile.REMOTE, REMOTE | {"injection.url": "http://x"}, "injection.url"),
        (Profile.EXTERNAL, {}, "controlPlane.home"),
        (Profile.PRIMARY, {"cluster": "a b"}, "cluster"),
        (Profile.PRIMARY, {"namespace": "Istio"}, "namespace"),
        (Profile.PRIMARY, {"network": "a/b"}, "network"),
        (Profile.PRIMARY, {"revision": "A"}, "revision"),
        (Profile.PRIMARY, {"tags": "default"}, "tags"),
        (Profile.PRIMARY, {"tag": "a b"}, "tag"),
        (Profile.PRIMARY, {"injection.native": "maybe"}, "injection.native"),
        (Profile.PRIMARY, {"networkGateway.enabled": "maybe"}, "networkGateway.enabled"),
        (Profile.PRIMARY, {"validation.failurePolicy": "Explode"}, "validation.failurePolicy"),
        (Profile.PRIMARY, {"controlPlane.replicas": "two"}, "controlPlane.replicas"),
        (Profile.PRIMARY, {"controlPlane.cpu": "much"}, "controlPlane.cpu"),
        (Profile.PRIMARY, {"controlPlane.exposed": "gateway"}, "controlPlane.exposed"),
        (Profile.PRIMARY, {"env.A-B": "x"}, "env.A-B"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(profile, values, named):
    with pytest.raises(BadValue, match=named):
        install_settings(profile, values)


def test_the_command_prints_what_kubectl_takes():
    done = CliRunner().invoke(install_command, ["--cluster", "east", "--network", "n1", "--set", "env.FOO=bar"])

    documents = list(yaml.safe_load_all(done.stdout))
    assert done.exit_code == 0
    assert [each["kind"] for each in documents[-3:]] == [
        "Gateway",
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ]
    assert "- name: FOO\n          value: bar" in done.stdout


def test_every_value_is_listed():
    done = CliRunner().invoke(install_command, ["--values"])

    assert "controlPlane.address" in done.stdout
    assert done.stdout.startswith("VALUE")
