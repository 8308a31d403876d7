"""kubectl against the embedded API server: what people type."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from types import SimpleNamespace

import pytest
import yaml

from isthmus.trust import x509

SHOP = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: shop, labels: {app: shop}}
spec:
  selector: {app: shop}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, labels: {app: shop}}
spec:
  replicas: 1
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      serviceAccountName: shop
      containers: [{name: shop, image: "shop:1", ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: shop-1, labels: {app: shop}}
spec:
  containers: [{name: shop, image: "shop:1"}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.0.0.7], conditions: {ready: true}}]
"""

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: lamps, singular: lamp, kind: Lamp, shortNames: [lp]}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
      additionalPrinterColumns: [{name: Colour, type: string, jsonPath: .spec.colour}]
"""

LAMP = """
apiVersion: example.com/v1
kind: Lamp
metadata: {name: hall}
spec: {colour: red, watts: 5}
"""


@pytest.fixture(scope="module")
def environment(server, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "kubeconfig").write_text(server.kubeconfig())
    return {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": str(home / "kubeconfig")}


@pytest.fixture
def kubectl(environment, namespace):
    """Runs kubectl in the test's namespace."""

    def run(*arguments, stdin="", fails=False):
        result = subprocess.run(
            ["kubectl", "-n", namespace, *arguments],
            input=stdin,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (result.returncode != 0) is fails, result.stdout + result.stderr
        return SimpleNamespace(out=result.stdout, err=result.stderr, json=lambda: json.loads(result.stdout))

    return run


def test_apply_makes_and_then_changes_nothing(kubectl):
    first = kubectl("apply", "-f", "-", stdin=SHOP)
    second = kubectl("apply", "-f", "-", stdin=SHOP)

    assert [line.split()[-1] for line in first.out.splitlines()] == ["created"] * 5
    assert [line.split()[-1] for line in second.out.splitlines()] == ["unchanged"] * 5


def test_apply_changes_what_the_file_changes_and_drops_what_it_drops(kubectl):
    kubectl("apply", "-f", "-", stdin=SHOP)
    changed = SHOP.replace('image: "shop:1", ports', 'image: "shop:2", ports').replace(
        "metadata: {name: shop, labels: {app: shop}}\nspec:\n  selector", "metadata: {name: shop}\nspec:\n  selector"
    )

    kubectl("apply", "-f", "-", stdin=changed)

    deployment = kubectl("get", "deployment", "shop", "-o", "json").json()
    service = kubectl("get", "service", "shop", "-o", "json").json()
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:2"
    assert deployment["metadata"]["generation"] == 2
    assert "labels" not in service["metadata"]
    assert service["spec"]["clusterIP"].startswith("10.96.")


def test_apply_replaces_an_endpoint_slices_ports(kubectl):
    kubectl("apply", "-f", "-", stdin=SHOP)

    kubectl("apply", "-f", "-", stdin=SHOP.replace("port: 8080, protocol", "port: 9090, protocol"))

    slice_ = kubectl("get", "endpointslice", "shop-1", "-o", "json").json()
    assert slice_["ports"] == [{"name": "http", "port": 9090, "protocol": "TCP"}]


def test_get_prints_the_columns_that_people_know(kubectl):
    kubectl("apply", "-f", "-", stdin=SHOP)

    printed = kubectl("get", "pods,services,deployments,endpointslices,serviceaccounts").out

    lines = [line.split() for line in printed.splitlines() if line]
    assert ["NAME", "READY", "STATUS", "RESTARTS", "AGE"] in lines
    assert ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"] in lines
    assert ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"] in lines
    assert ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"] in lines
    assert [line[:3] for line in lines if line[0] == "pod/shop-1"] == [["pod/shop-1", "0/1", "Pending"]]


def test_get_all_and_wide_and_selected(kubectl):
    kubectl("apply", "-f", "-", stdin=SHOP)

    everything = kubectl("get", "all", "-o", "name").out.split()
    wide = kubectl("get", "pods", "-o", "wide", "-l", "app=shop").out
    none = kubectl("get", "pods", "-l", "app!=shop")

    assert everything == ["pod/shop-1", "service/shop", "deployment.apps/shop"]
    assert "NODE" in wide
    assert "shop-1" in wide
    assert "No resources found" in none.err


def test_create_namespace_secret_and_config_map(kubectl, namespace):
    kubectl("create", "namespace", f"{namespace}-more")
    kubectl("create", "secret", "generic", "keys", "--from-literal=password=s3cret")
    kubectl("create", "configmap", "settings", "--from-literal=colour=red")
    kubectl("create", "serviceaccount", "robot")

    secret = kubectl("get", "secret", "keys", "-o", "jsonpath={.data.password}").out
    settings = kubectl("get", "cm", "settings", "-o", "jsonpath={.data.colour}").out
    assert (secret, settings) == ("czNjcmV0", "red")
    assert "Active" in kubectl("get", "ns", f"{namespace}-more").out


def test_label_annotate_and_patch(kubectl):
    kubectl("create", "configmap", "settings", "--from-literal=colour=red")

    kubectl("label", "configmap", "settings", "tier=front")
    kubectl("annotate", "configmap", "settings", "note=kept")
    kubectl("patch", "configmap", "settings", "--type=merge", "-p", '{"data":{"size":"1"}}')
    kubectl("patch", "configmap", "settings", "-p", '{"data":{"colour":null}}')
    escaped = '[{"op":"add","path":"/metadata/annotations/a~1b","value":"c"}]'
    kubectl("patch", "configmap", "settings", "--type=json", "-p", escaped)
    kubectl("label", "configmap", "settings", "tier-")

    settings = kubectl("get", "configmap", "settings", "-o", "json").json()
    assert settings["data"] == {"size": "1"}
    assert settings["metadata"]["annotations"] == {"note": "kept", "a/b": "c"}
    assert not settings["metadata"].get("labels")


def test_scale_changes_replicas_and_generation(kubectl):
    kubectl("apply", "-f", "-", stdin=SHOP)

    kubectl("scale", "deployment/shop", "--replicas=3")
    refused = kubectl("scale", "deployment/shop", "--replicas=5", "--current-replicas=1", fails=True)

    deployment = kubectl("get", "deployment", "shop", "-o", "json").json()
    assert (deployment["spec"]["replicas"], deployment["metadata"]["generation"]) == (3, 2)
    assert "Expected replicas to be 1, was 3" in refused.err


def test_rollout_restart_and_set_image(kubectl):
    kubectl("apply", "-f", "-", stdin=SHOP)

    kubectl("set", "image", "deployment/shop", "shop=shop:9")
    kubectl("rollout", "restart", "deployment/shop")

    template = kubectl("get", "deployment", "shop", "-o", "json").json()["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == "shop:9"
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]


def test_delete_removes_and_says_what_was_not_there(kubectl):
    kubectl("apply", "-f", "-", stdin=SHOP)

    kubectl("delete", "pod", "shop-1")
    kubectl("delete", "services,deployments", "-l", "app=shop")
    again = kubectl("delete", "pod", "shop-1", fails=True)

    assert kubectl("get", "all", "-o", "name").out == ""
    assert 'Error from server (NotFound): pods "shop-1" not found' in again.err


def test_a_pod_on_a_node_is_only_marked_until_it_is_forced(kubectl):
    pod = yaml.safe_load(SHOP.split("---")[3])
    pod["spec"]["nodeName"] = "node-1"
    kubectl("create", "-f", "-", stdin=yaml.safe_dump(pod))

    kubectl("delete", "pod", "shop-1", "--wait=false")
    terminating = kubectl("get", "pod", "shop-1").out
    kubectl("delete", "pod", "shop-1", "--force", "--grace-period=0")

    assert "Terminating" in terminating
    assert kubectl("get", "pods", "-o", "name").out == ""


def test_nodes_are_clusters_wide(kubectl, namespace):
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{namespace}"}}

    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(node))
    kubectl("label", "node", f"node-{namespace}", "topology.kubernetes.io/zone=a")
    patch = '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}'
    kubectl("patch", "node", f"node-{namespace}", "--subresource=status", "-p", patch)

    assert kubectl("get", "node", f"node-{namespace}", "--no-headers").out.split()[1] == "Ready"


def test_get_watch_prints_changes_as_they_come(kubectl, environment, namespace):
    command = ["kubectl", "-n", namespace, "get", "configmaps", "-w", "-o", "name"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        kubectl("create", "configmap", "one")
        first = watch.stdout.readline()
        kubectl("create", "configmap", "two")
        second = watch.stdout.readline()
        watch.terminate()

    assert (first, second) == ("configmap/one\n", "configmap/two\n")


def test_wait_sees_a_condition(kubectl, environment, namespace):
    kubectl("apply", "-f", "-", stdin=SHOP)
    command = ["kubectl", "-n", namespace, "wait", "deployment/shop", "--for=condition=Available", "--timeout=60s"]
    status = '{"status":{"conditions":[{"type":"Available","status":"True"}]}}'

    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as waiting:
        kubectl("patch", "deployment", "shop", "--subresource=status", "--type=merge", "-p", status)
        printed, _ = waiting.communicate(timeout=60)

    assert printed == "deployment.apps/shop condition met\n"


def test_create_token_gives_a_token_that_proves_the_account(kubectl, server, namespace, tmp_path):
    kubectl("create", "serviceaccount", "robot")

    token = kubectl("create", "token", "robot", "--duration=20m").out.strip()

    (tmp_path / "robot").write_text(server.kubeconfig(token))
    me = kubectl("--kubeconfig", str(tmp_path / "robot"), "auth", "whoami", "-o", "json").json()
    assert me["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:robot"


def test_roles_decide_what_an_account_may_do(kubectl, namespace):
    kubectl("create", "serviceaccount", "robot")
    robot = f"--as=system:serviceaccount:{namespace}:robot"
    before = kubectl(robot, "auth", "can-i", "list", "pods", fails=True)

    kubectl("create", "rolebinding", "robot", "--clusterrole=view", f"--serviceaccount={namespace}:robot")

    assert before.out == "no\n"
    assert kubectl(robot, "auth", "can-i", "list", "pods").out == "yes\n"
    assert "Error from server (Forbidden): secrets is forbidden" in kubectl(robot, "get", "secrets", fails=True).err


def test_a_custom_resource_is_defined_used_and_gone_with_its_definition(kubectl):
    kubectl("apply", "-f", "-", stdin=CRD)
    kubectl("wait", "crd/lamps.example.com", "--for=condition=Established", "--timeout=60s")

    kubectl("apply", "-f", "-", stdin=LAMP)
    kubectl("apply", "-f", "-", stdin=LAMP.replace("red", "blue").replace(", watts: 5", ""))
    lamp = kubectl("get", "lp", "hall", "-o", "json").json()
    printed = kubectl("get", "lamps").out.split()
    kubectl("delete", "crd", "lamps.example.com")
    kubectl("apply", "-f", "-", stdin=CRD)

    assert lamp["spec"] == {"colour": "blue"}
    assert printed == ["NAME", "COLOUR", "hall", "blue"]
    assert "No resources found" in kubectl("get", "lamps").err


def test_explaining_clients_find_the_server(kubectl):
    versions = kubectl("api-versions").out.split()
    resources = kubectl("api-resources", "--no-headers", "-o", "name").out.split()
    version = kubectl("version", "-o", "json").json()

    assert {"v1", "apps/v1", "discovery.k8s.io/v1", "apiextensions.k8s.io/v1"} <= set(versions)
    assert {"pods", "deployments.apps", "endpointslices.discovery.k8s.io"} <= set(resources)
    assert version["serverVersion"]["major"] == "1"


def test_replace_with_a_stale_version_is_a_conflict(kubectl):
    kubectl("create", "configmap", "settings", "--from-literal=colour=red")
    stale = kubectl("get", "configmap", "settings", "-o", "json").out
    kubectl("label", "configmap", "settings", "tier=front")

    refused = kubectl("replace", "-f", "-", stdin=stale, fails=True)

    assert "Error from server (Conflict)" in refused.err
    assert "the object has been modified" in refused.err


def test_a_dry_run_changes_nothing(kubectl):
    printed = kubectl("apply", "--dry-run=server", "-f", "-", stdin=SHOP)

    assert "created (server dry run)" in printed.out
    assert kubectl("get", "all", "-o", "name").out == ""


def test_describe_and_edit_read_what_they_need(kubectl):
    kubectl("apply", "-f", "-", stdin=SHOP)

    described = kubectl("describe", "service", "shop").out
    pod = kubectl("describe", "pod", "shop-1").out

    assert "10.0.0.7:8080" in described
    assert "Status:           Pending" in pod


def test_server_side_apply_of_everybody_s_file(kubectl):
    first = kubectl("apply", "--server-side", "-f", "-", stdin=SHOP)
    second = kubectl("apply", "--server-side", "-f", "-", stdin=SHOP)
    changed = SHOP.replace("replicas: 1", "replicas: 3")
    by_hand = kubectl("scale", "deployment", "shop", "--replicas=2")

    conflict = kubectl("apply", "--server-side", "-f", "-", stdin=changed, fails=True)
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=changed)

    assert [line.split()[-1] for line in first.out.splitlines()] == ["serverside-applied"] * 5
    assert [line.split()[-1] for line in second.out.splitlines()] == ["serverside-applied"] * 5
    assert "scaled" in by_hand.out
    assert "Apply failed with 1 conflict" in conflict.err
    assert ".spec.replicas" in conflict.err
    assert kubectl("get", "deployment", "shop", "-o", "jsonpath={.spec.replicas}").out == "3"


def test_a_file_moves_from_client_side_to_server_side_apply(kubectl):
    kubectl("apply", "-f", "-", stdin=SHOP)

    kubectl("apply", "--server-side", "-f", "-", stdin=SHOP)
    without = SHOP.replace("metadata: {name: shop, labels: {app: shop}}\nspec:\n  selector", "metadata: {name: shop}\nspec:\n  selector")  # fmt: skip
    kubectl("apply", "--server-side", "-f", "-", stdin=without)

    service = kubectl("get", "service", "shop", "-o", "json", "--show-managed-fields").json()
    assert {entry["manager"] for entry in service["metadata"]["managedFields"]} == {"kubectl", "kubectl-last-applied"}
    assert "labels" not in service["metadata"]


def test_unknown_fields_are_refused_or_told(kubectl):
    wrong = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: b}\nbogus: {x: 1}\n"

    strict = kubectl("create", "-f", "-", stdin=wrong, fails=True)
    warned = kubectl("create", "--validate=warn", "-f", "-", stdin=wrong)
    ignored = kubectl("apply", "--validate=ignore", "-f", "-", stdin=wrong.replace("name: a", "name: b"))

    assert 'unknown field "bogus"' in strict.err
    assert 'Warning: unknown field "bogus"' in warned.err
    assert "unknown field" not in ignored.err
    assert "bogus" not in kubectl("get", "cm", "a", "-o", "json").json()


def test_a_signing_request_is_approved(kubectl):
    request = base64.b64encode(x509.new_request(x509.new_key()).encode()).decode()
    spec = {"request": request, "signerName": "example.com/workloads", "usages": ["client auth"]}
    body = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "shop"}}

    kubectl("apply", "-f", "-", stdin=json.dumps(body | {"spec": spec}))
    kubectl("certificate", "approve", "shop")

    assert "Approved" in kubectl("get", "csr", "shop").out


def test_a_quota_is_made_described_and_told_where_it_does_not_hold(kubectl):
    made = kubectl("create", "quota", "shop", "--hard=services=0,count/configmaps=9,cpu=2")

    kubectl("wait", "--for=jsonpath={.status.hard.services}=0", "quota/shop", "--timeout=60s")

    assert "cpu: kept, and not enforced" in made.err
    assert "services" in kubectl("describe", "quota", "shop").out
    assert "services: 0/0" in kubectl("get", "quota").out
    assert "exceeded quota: shop" in kubectl("create", "service", "clusterip", "web", "--tcp=80", fails=True).err


def test_kinds_that_only_lie_here_are_created_by_their_commands(kubectl):
    kubectl("create", "job", "once", "--image=a:1")
    kubectl("create", "cronjob", "often", "--image=a:1", "--schedule=* * * * *")
    kubectl("create", "ingress", "shop", "--rule=shop.example.com/x*=shop:80,tls=certificate")
    kubectl("create", "poddisruptionbudget", "shop", "--selector=app=shop", "--min-available=1")

    shown = kubectl("get", "job,cronjob,ingress,poddisruptionbudget", "-o", "name").out
    assert shown.split() == [
        "job.batch/once",
        "cronjob.batch/often",
        "ingress.networking.k8s.io/shop",
        "poddisruptionbudget.policy/shop",
    ]


def test_what_is_not_served_is_told_and_nothing_crashes(kubectl):
    kubectl("run", "shop", "--image=a:1")

    told = kubectl("debug", "shop", "--image=a:1", "--container=debugger", "--attach=false", fails=True).err

    assert "ephemeral containers are disabled for this cluster" in told
