"""Topology files: what is written, what it means, and every mistake with its line."""

from __future__ import annotations

import base64
import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.localruntime.authorities import Authorities
from isthmus.localruntime.manifests import (
    control_plane,
    control_plane_addresses,
    control_plane_server,
    machine_control_planes,
    network_gateway,
    tunnels,
)
from isthmus.localruntime.marked_yaml import BadInput
from isthmus.localruntime.plan import Role
from isthmus.localruntime.planning import plan_of
from isthmus.localruntime.topology import CLUSTERS_MAX, documented_fields, load
from isthmus.localruntime.topology_roles import Cluster, Mesh, Source, Topology, Workload

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
HEAD = "apiVersion: isthmus.io/v1alpha1\nkind: Topology\nmetadata: {name: m}\n"


@pytest.fixture
def written(tmp_path):
    def write(spec: str, head: str = HEAD) -> Path:
        path = tmp_path / "t.yaml"
        path.write_text(head + spec)
        return path

    return write


def mistakes(path: Path) -> list[str]:
    with pytest.raises(BadInput) as caught:
        load(path)
    return [f"{finding.line} {finding.field}: {finding.what}" for finding in caught.value.findings]


def test_the_shortest_file(written):
    topology = load(written("spec: {clusters: {c1: {}}}"))

    [cluster] = topology.clusters
    assert (cluster.id, cluster.network, cluster.region, cluster.zones) == ("c1", "n1", "c1", ("a",))
    assert topology.networks == {"n1": "10.10.0.0/16"}
    assert topology.meshes == (Mesh(id="mesh1", trust_domain="cluster.local"),)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_plan(path):
    assert plan_of(load(path)).name == path.stem


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("spec: {}", ["4 spec.clusters: is missing"]),
        ("spec: {clusters: {}}", ["4 spec.clusters: is empty"]),
        ("spec:\n  cluster: {c1: {}}", ["4 spec.clusters: is missing", "5 spec.cluster: is not a field of a topology"]),
        ("spec:\n  clusters:\n    C1: {}", ["6 spec.clusters.C1: 'C1' is not a name"]),
        ("spec:\n  clusters:\n    c1: {}\n    c1: {}", ["7 spec.clusters.c1: is written twice"]),
        ("spec:\n  clusters:\n    c1:\n      network: n7", ["7 spec.clusters.c1.network: 'n7' is not a network"]),
        ("spec:\n  clusters: [c1]", ["5 spec.clusters: is a list, not an object"]),
        ("spec: {clusters: {c1: {zones: a}}}", ["4 spec.clusters.c1.zones: is a string, not a list"]),
        ("spec: {clusters: {c1: {hostPort: 80}}}", ["4 spec.clusters.c1.hostPort: 80 is not a port for users"]),
        (
            "spec: {clusters: {c1: {hostPort: 8001}, c2: {hostPort: 8001}}}",
            ["4 spec.clusters.c2.hostPort: 8001 is cluster c1's, too"],
        ),
        (
            "spec: {clusters: {c1: {controlPlane: remote}}}",
            ["4 spec.clusters.c1.controlPlane: 'remote' is not a control plane"],
        ),
        (
            "spec: {clusters: {c1: {controlPlane: {remoteOf: c9}}}}",
            ["4 spec.clusters.c1.controlPlane.remoteOf: 'c9' is not a cluster"],
        ),
        (
            "spec:\n  clusters:\n    c1:\n      controlPlane: {remoteOf: c2}\n    c2:\n      controlPlane: {remoteOf: c3}\n    c3: {}",
            ["7 spec.clusters.c1.controlPlane: names c2, which runs no control plane: it is a remote"],
        ),
        (
            "spec:\n  clusters:\n    c1: {controlPlane: {remoteOf: c2}}\n    c2: {controlPlane: {remoteOf: c1}}",
            [
                "6 spec.clusters.c1.controlPlane: goes in a circle: c1 → c2 → c1",
                "7 spec.clusters.c2.controlPlane: goes in a circle: c2 → c1 → c2",
            ],
        ),
        (
            "spec: {clusters: {c1: {controlPlane: {remoteOf: c1}}}}",
            [
                "4 spec.clusters.c1.controlPlane: makes the cluster its own remote",
            ],
        ),
        (
            "spec: {clusters: {c1: {controlPlane: [primary, c2, c2]}, c2: {}}}",
            [
                "4 spec.clusters.c1.controlPlane.2: c2 is there twice",
            ],
        ),
        ("spec: {clusters: {c1: {controlPlane: []}}}", ["4 spec.clusters.c1.controlPlane: is empty"]),
        (
            "spec:\n  clusters:\n    c1: {controlPlane: {remoteOf: c2}}\n    c2:\n      discovers: []",
            ["8 spec.clusters.c2.discovers: leaves out c1, whose proxies use this control plane"],
        ),
        (
            "spec:\n  clusters:\n    c1: {controlPlane: {external: c2}}\n    c2: {controlPlane: primary}",
            ["7 spec.clusters.c2.controlPlane: cannot be had by a cluster outside the mesh"],
        ),
        (
            "spec:\n  clusters:\n    c1: {controlPlane: {external: c3}}\n    c2: {controlPlane: {remoteOf: c3}}\n    c3: {}",
            ["7 spec.clusters.c2.controlPlane: names c3, which is outside the mesh"],
        ),
        (
            "spec:\n  clusters:\n    c1: {}\n    c2: {controlPlane: {remoteOf: c1}, discovers: []}",
            ["7 spec.clusters.c2.discovers: is for clusters that run a control plane"],
        ),
        (
            "spec:\n  networks: {n1: {}, n2: {}}\n  clusters:\n    c1: {network: n1}\n    c2: {network: n2, gateways: 0}",
            ["5 spec.networks.n2: has no network gateway, but its workloads are discovered from other networks, by c1"],
        ),
        (
            "spec:\n  networks: {n1: {}, n2: {}}\n  clusters:\n    c1: {network: n1, gateways: 0}\n"
            "    c3: {network: n1, controlPlane: {remoteOf: c1}}\n    c2: {network: n2, controlPlane: {remoteOf: c1}}",
            ["7 spec.clusters.c1.gateways: is 0, but proxies of c2 reach this control plane from another network"],
        ),
        (
            "spec: {clusters: {c1: {}}, machines: {vm: {cluster: c9}}}",
            ["4 spec.machines.vm.cluster: 'c9' is not a cluster"],
        ),
        (
            "spec: {clusters: {c1: {}}, machines: {vm: {network: n9}}}",
            ["4 spec.machines.vm.network: 'n9' is not a network"],
        ),
        (
            "spec: {clusters: {c1: {}}, machines: {vm: {workload: nginx}}}",
            ["4 spec.machines.vm.workload: 'nginx' is not a sample"],
        ),
        (
            "spec:\n  clusters:\n    c1: {gateways: 0}\n  machines: {vm: {}}",
            ["6 spec.clusters.c1.gateways: is 0, but the machine vm reaches this control plane at the network gateway"],
        ),
        (
            "spec:\n  clusters:\n    c1: {controlPlane: {external: c2}}\n    c2: {}\n  machines:\n    vm: {cluster: c2}",
            ["9 spec.machines.vm.cluster: is c2, which is outside the mesh"],
        ),
        (
            "spec:\n  networks: {n1: {}, n2: {}}\n  clusters:\n    c1: {network: n1}\n    c2: {network: n1, tunnel: c1}",
            [
                "8 spec.clusters.c2.network: is c1's, too, and nothing can reach it",
                "8 spec.clusters.c2.tunnel: names c1, which is on the same network",
            ],
        ),
        (
            "spec:\n  networks: {n1: {}, n2: {}}\n  clusters:\n    c1: {network: n1, controlPlane: [primary, c2]}\n"
            "    c2: {network: n2, tunnel: c1}",
            ["7 spec.clusters.c1.controlPlane: names c2, whose control plane nothing can reach"],
        ),
        ("spec: {clusters: {c1: {tunnel: c1}}}", ["4 spec.clusters.c1.tunnel: names the cluster itself"]),
        (
            "spec:\n  clusters:\n    c1: {controlPlane: {external: c2}}\n    c2: {controlPlane: {external: c1}}",
            [
                "6 spec.clusters.c1.controlPlane: goes in a circle: c1 → c2 → c1",
                "7 spec.clusters.c2.controlPlane: goes in a circle: c2 → c1 → c2",
            ],
        ),
        ("spec:\n  clusters:\n    no: {}", ["6 spec.clusters.False: is not a name"]),
        (
            "spec:\n  networks: {n1: {podCIDR: 127.0.0.0/16}}\n  clusters: {c1: {}}",
            ["5 spec.networks.n1.podCIDR: 127.0.0.0/16 overlaps 127.0.0.0/8, the range of loopback"],
        ),
        ("spec: {clusters: {c1: {gateways: 9}}}", ["4 spec.clusters.c1.gateways: 9 is not a number of gateways"]),
        ("spec: {clusters: {c1: {tags: {prod: v2}}}}", ["4 spec.clusters.c1.tags.prod: 'v2' is not a revision"]),
        (
            f"spec: {{clusters: {{c1: {{revisions: [{', '.join(f'r{n}' for n in range(40))}], tags: {{prod: r1}}}}}}}}",
            ["4 spec.clusters.c1.tags: there are 41 revisions and tags in all"],
        ),
        ("spec: {clusters: {c1: {env: {A: 1}}}}", ["4 spec.clusters.c1.env.A: is a number, not a string"]),
        ("spec: {clusters: {c1: {discovers: [c1]}}}", ["4 spec.clusters.c1.discovers: names the cluster itself"]),
        (
            "spec:\n  networks: {n1: {podCIDR: 10.96.0.0/12}}\n  clusters: {c1: {}}",
            ["5 spec.networks.n1.podCIDR: 10.96.0.0/12 overlaps 10.96.0.0/11, the range of Services"],
        ),
        (
            "spec:\n  networks: {n1: {podCIDR: 10.10.0.1/16}}\n  clusters: {c1: {}}",
            ["5 spec.networks.n1.podCIDR: is not a range: 10.10.0.1/16 has host bits set"],
        ),
        ("spec: {clusters: {c1: {}}, workloads: [helloworld]}", ["4 spec.workloads.0: 'helloworld' is not a sample"]),
        ("spec: {clusters: {c1: {}}, workloads: [{version: v1}]}", ["4 spec.workloads.0.sample: is missing"]),
        ("spec: {clusters: {c1: {}}, manifests: [no.yaml]}", ["4 spec.manifests.0: 'no.yaml' is not a file"]),
        ("spec: {trustDomain: 'a b', clusters: {c1: {}}}", ["4 spec.trustDomain: 'a b' is not a trust domain"]),
        (
            "spec:\n  trustDomain: x.example\n  meshes: {a: {trusts: [a]}, b: {trustDomain: a.example}, d: {}}\n"
            "  clusters:\n    c1: {mesh: a}\n    c2: {mesh: b, controlPlane: {remoteOf: c1}, gateways: 0}",
            [
                "5 spec.trustDomain: is for a topology of one mesh",
                "6 spec.meshes.a.trusts: names the mesh itself",
                "6 spec.meshes.b.trustDomain: a.example is mesh a's, too",
                "6 spec.meshes.d: has no cluster",
                "9 spec.clusters.c2.controlPlane: names c1, which is in mesh a",
            ],
        ),
        ("spec: {meshes: {a: {}}, clusters: {c1: {mesh: b}}}", ["4 spec.clusters.c1.mesh: 'b' is not a mesh"]),
        ("spec: {clusters: {c1: {}", ["4 : is not YAML"]),
    ],
)
def test_each_mistake_has_its_line(written, spec, expected):
    found = mistakes(written(spec))

    assert len(found) == len(expected)
    assert all(one.startswith(wanted) for one, wanted in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("sample", "fix"),
    [
        ("samples/tpc-echo", "did you mean samples/tcp-echo?"),
        ("helloworld", "did you mean samples/helloworld?"),
        ("samples/nope", "there is: samples/"),
    ],
)
def test_what_is_nearly_right_is_put_right_and_else_it_is_said_what_there_is(written, sample, fix):
    with pytest.raises(BadInput) as caught:
        load(written(f"spec: {{clusters: {{c1: {{}}}}, workloads: [{sample}]}}"))

    [finding] = caught.value.findings
    assert finding.fix.startswith(fix)


def test_a_remote_without_a_primary_is_told_how_to_get_one(written):
    with pytest.raises(BadInput) as caught:
        load(written("spec: {clusters: {c1: {controlPlane: {remoteOf: c9}}}}"))

    assert [finding.fix for finding in caught.value.findings] == ["add the one that runs it, or write primary"]


def test_all_mistakes_are_told_at_once(written):
    found = mistakes(written("spec:\n  mesh: 7\n  clusters:\n    c1: {hostPort: no, zone: a}\n"))

    assert [line.partition(":")[0] for line in found] == [
        "5 spec.mesh",
        "7 spec.clusters.c1.hostPort",
        "7 spec.clusters.c1.zone",
    ]


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ("kind: Service\n", ["1 apiVersion: is missing", "1 metadata.name: is missing"]),
        ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: 7\n", ["4 metadata.name: is missing"]),
        ("- a\n", ["1 : is a list, not an object"]),
        (
            "apiVersion: v1\nkind: List\nitems:\n- {}\n",
            ["4 items.0.apiVersion", "4 items.0.kind", "4 items.0.metadata"],
        ),
        ("a: [\n", ["2 : is not YAML"]),
    ],
)
def test_mistakes_in_manifests_are_told_with_their_file(written, tmp_path, manifest, expected):
    (tmp_path / "m.yaml").write_text(manifest)
    path = written("spec: {clusters: {c1: {}}, manifests: [m.yaml]}")

    with pytest.raises(BadInput) as caught:
        load(path)

    findings = caught.value.findings
    assert {finding.file for finding in findings} == {str(tmp_path / "m.yaml")}
    assert len(findings) == len(expected)
    said = [f"{finding.line} {finding.field}: {finding.what}" for finding in findings]
    assert all(one.startswith(wanted) for one, wanted in zip(said, expected, strict=True)), said


def test_a_mixed_mesh(written):
    plan = plan_of(
        load(
            written(
                """
spec:
  networks: {n1: {}, n2: {}}
  clusters:
    c1: {network: n1, controlPlane: [primary, c3]}
    c2: {network: n1, controlPlane: [c1, c3]}
    c3: {network: n2, controlPlane: [primary, {remoteOf: c1}]}
"""
            )
        )
    )

    c1, c2, c3 = plan.clusters
    assert [cluster.role for cluster in plan.clusters] == [Role.PRIMARY, Role.REMOTE, Role.PRIMARY]
    assert (c1.discovers, c2.discovers, c3.discovers) == (("c2", "c3"), (), ("c1", "c2"))
    assert (c1.serves, c2.serves, c3.serves) == (("c2", "c3"), (), ("c1", "c2"))
    assert control_plane_addresses(plan, c1) == ["10.97.0.15:15012", "172.30.3.240:15012"]
    assert control_plane_addresses(plan, c2) == ["172.30.1.241:15012", "172.30.3.240:15012"]


def test_several_meshes_have_nothing_to_do_with_each_other_but_bundles_that_they_are_given(written):
    plan = plan_of(
        load(
            written(
                "spec:\n  meshes: {a: {trusts: [b]}, b: {}}\n  clusters: {c1: {mesh: a}, c2: {mesh: b}, c3: {mesh: a}}"
            )
        )
    )

    c1, c2, c3 = plan.clusters
    assert (c1.discovers, c2.discovers, c3.discovers) == (("c3",), (), ("c1",))
    secrets = Authorities(plan)
    roots = [base64.b64decode(secrets.secret(each)["data"]["root-cert.pem"]).decode() for each in (c1, c2, c3)]
    assert roots[0] == roots[2] != roots[1]
    assert secrets.bundles(c1)["data"] == secrets.bundles(c3)["data"] == {"trust-bundle.b.example": roots[1]}
    assert secrets.bundles(c2) is None
    environment = {
        variable["name"]: variable.get("value")
        for obj in control_plane(plan, c2, "default")
        if obj["kind"] == "Deployment"
        for variable in obj["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert (environment["MESH_ID"], environment["TRUST_DOMAIN"]) == ("b", "b.example")


def test_an_external_control_plane_is_outside_the_mesh(written):
    plan = plan_of(
        load(
            written(
                "spec: {workloads: [samples/client], clusters: {ops: {}, c1: {controlPlane: {external: ops}}, c2: {controlPlane: {external: ops}}}}"
            )
        )
    )

    ops, c1, c2 = plan.clusters
    assert [cluster.role for cluster in plan.clusters] == [Role.EXTERNAL, Role.REMOTE, Role.REMOTE]
    assert (ops.config_cluster, ops.discovers, ops.workloads) == ("c1", ("c2",), ())
    assert control_plane_addresses(plan, c2) == ["172.30.1.241:15012"]
    assert {workload.sample for workload in c1.workloads} == {"client"}


def test_every_field_is_explained():
    assert all(field.meaning for field in documented_fields())


names = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@st.composite
def topologies(draw) -> Topology:
    networks = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    ids = draw(st.lists(names, min_size=1, max_size=CLUSTERS_MAX, unique=True))
    return Topology(
        name="m",
        meshes=(Mesh(id="mesh1", trust_domain="cluster.local"),),
        networks=dict.fromkeys(networks, "10.10.0.0/16"),
        clusters=tuple(
            Cluster(
                id=name,
                mesh="mesh1",
                network=draw(st.sampled_from(networks)),
                region=name,
                zones=("a",),
                sources=(Source("primary", name),),
                discovers=None,
                host_port=0,
                workloads=(Workload(sample="helloworld"),),
                manifests=(),
            )
            for name in ids
        ),
    )


@given(topologies())
def test_no_two_things_of_a_plan_have_one_address(topology):
    plan = plan_of(topology)

    on_transit = [cluster.api_address for cluster in plan.clusters] + [network.transit_ip for network in plan.networks]
    assert len(set(on_transit)) == len(on_transit)
    ranges = [ipaddress.ip_network(c.load_balancer_cidr) for c in plan.clusters]
    ranges += [ipaddress.ip_network(c.service_cidr) for c in plan.clusters]
    assert not any(one.overlaps(other) for i, one in enumerate(ranges) for other in ranges[:i])
    assert not any(ipaddress.ip_address(address) in one for address in on_transit for one in ranges)
    assert all(cluster.id not in cluster.discovers for cluster in plan.clusters)
    assert [w.version for cluster in plan.clusters for w in cluster.workloads] == [
        f"v{index}" for index in range(1, len(plan.clusters) + 1)
    ]


def test_another_cluster_s_proxies_use_the_revision_that_they_are_of(written):
    plan = plan_of(
        load(
            written(
                """
spec:
  clusters:
    c1: {revisions: [stable, canary], tags: {prod: stable}}
    c2: {controlPlane: {remoteOf: c1}}
"""
            )
        )
    )

    c1, c2 = plan.clusters
    balanced = {
        each["metadata"]["name"]: each["spec"]["loadBalancerIP"]
        for revision in c1.revisions
        for each in control_plane(plan, c1, revision)
        if each["kind"] == "Service"
    }
    assert balanced == {"istiod-stable": "172.30.1.241", "istiod-canary": "172.30.1.201"}
    assert [control_plane_addresses(plan, c2, revision=name) for name in ("", "canary", "prod", "unknown")] == [
        ["172.30.1.241:15012"],
        ["172.30.1.201:15012"],
        ["172.30.1.202:15012"],
        ["172.30.1.241:15012"],
    ]


def test_proxies_of_another_network_ask_its_gateway_for_the_revision_that_they_are_of(written):
    """By the name that the control plane has to show; who is of none that is known comes to the first."""
    plan = plan_of(
        load(
            written(
                """
spec:
  networks: {n1: {}, n2: {}}
  clusters:
    c1: {network: n1, revisions: [stable, canary], tags: {prod: stable}}
    c2: {network: n2, controlPlane: {remoteOf: c1}}
"""
            )
        )
    )

    c1, c2 = plan.clusters
    assert c2.control_plane_names == c1.control_plane_names, "its namespaces may choose among them"
    asked = {name: control_plane_server(plan, c2, name) for name in ("", "canary", "prod", "unknown")}
    led = {
        rule["spec"]["hosts"][0]: {each["route"][0]["destination"]["host"] for each in rule["spec"]["tls"]}
        for rule in network_gateway(plan, c1)
        if rule["kind"] == "VirtualService"
    }
    containers = [
        each["spec"]["template"]["spec"]["containers"][0]
        for revision in c1.revisions
        for each in control_plane(plan, c1, revision)
        if each["kind"] == "Deployment"
    ]

    assert {control_plane_addresses(plan, c2, revision=name)[0] for name in asked} == {"172.30.1.240:15012"}
    assert asked == {
        "": "istiod.istio-system.svc",
        "canary": "istiod-canary.istio-system.svc",
        "prod": "istiod-prod.istio-system.svc",
        "unknown": "istiod.istio-system.svc",
    }
    assert led == {
        "istiod.istio-system.svc": {"istiod-stable.istio-system.svc.cluster.local"},
        "istiod-stable.istio-system.svc": {"istiod-stable.istio-system.svc.cluster.local"},
        "istiod-canary.istio-system.svc": {"istiod-canary.istio-system.svc.cluster.local"},
        "istiod-prod.istio-system.svc": {"istiod-prod.istio-system.svc.cluster.local"},
    }
    for container in containers:
        said = {each["name"]: each.get("value") for each in container["env"]}
        assert said["ISTIOD_CUSTOM_HOST"] == "istiod-prod.istio-system.svc", "a tag may lead to either"


def test_a_machine_reaches_control_planes_where_strangers_do(written):
    plan = plan_of(
        load(
            written(
                """
spec:
  networks: {n1: {}, n2: {}}
  clusters:
    c1: {network: n1, controlPlane: [primary, {external: c3}]}
    c2: {network: n2}
    c3: {network: n2}
  machines:
    vm: {network: n2, workload: {sample: samples/tcp-echo, version: v9}}
"""
            )
        )
    )

    [machine] = plan.machines
    assert (machine.cluster, machine.network, machine.namespace, machine.group) == ("c1", "n2", "sample", "vm")
    assert (machine.sample, machine.version) == ("tcp-echo", "v9")
    assert machine_control_planes(plan, plan.cluster(machine.cluster)) == ["172.30.1.240:15012", "172.30.3.241:15012"]


def test_a_cluster_that_nothing_can_reach_is_entered_at_the_end_of_its_tunnel():
    plan = plan_of(load(next(path for path in EXAMPLES if path.stem == "reverse-tunnel")))
    east, vault = plan.clusters

    [end] = [each for each in tunnels(plan, east) if each["kind"] == "Service"]
    inside = [each for each in tunnels(plan, vault) if each["kind"] == "Deployment"]
    gateways = [each for each in network_gateway(plan, vault) if each["kind"] == "Service"]

    assert (end["metadata"]["labels"], end["spec"]["loadBalancerIP"]) == (
        {"topology.istio.io/network": "n2"},
        "172.30.1.152",
    )
    assert [port["port"] for port in end["spec"]["ports"]] == [15443, 6443, 15446]
    [container] = inside[0]["spec"]["template"]["spec"]["containers"]
    assert container["args"][:3] == ["inside", "--outside", "172.30.1.152:15446"]
    assert container["args"][3:5] == ["--target=15443=10.98.0.20:15443", "--target=6443=172.30.0.12:6443"]
    assert [(each["spec"].get("type"), each["spec"]["clusterIP"]) for each in gateways] == [(None, "10.98.0.20")]
    assert [(network.id, network.closed) for network in plan.networks] == [("n1", False), ("n2", True)]
