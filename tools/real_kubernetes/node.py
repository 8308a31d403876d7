"""One machine of a real cluster, in the namespaces that it was started in: API server, scheduler, containerd, kubelet, kube-proxy, DNS.

    python -m real_kubernetes.node DIRECTORY CGROUP ARCHIVE... -- COMMAND...

runs COMMAND with KUBECONFIG in its environment when all of it is ready, and ends with its code. It is the first process of its process namespace:
whatever is left in it when this one ends, ends, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.apiserver.settings import ApiServerSettings
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress, ContextEntry, render
from isthmus.kubernetes.resources import ENDPOINT_SLICES, NODES, SERVICES
from real_kubernetes import server
from real_kubernetes.building import CONTAINERS, NODE, built
from real_kubernetes.images import PAUSE
from real_kubernetes.processes import DidNotStart, running, until

ADDRESS = "10.77.0.1"
NAME = "node"
_POD_ADDRESSES = "10.244.0.0/24"
_SERVICE_ADDRESSES = "10.96.0.0/16"
_KUBERNETES_SERVICE = "10.96.0.1"
_DNS_SERVICE = "10.96.0.10"
_SYSTEM = "kube-system"
_DNS_PORTS = ({"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"})
_CONTAINERD = "/run/containerd.sock"
_KERNEL = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet sets for the whole machine. Here it finds them set: a file lies over each, for it alone."""


@dataclass(frozen=True, slots=True)
class Node:
    """Where its things are. `cgroup` is the one below which Pods have theirs."""

    directory: Path
    cgroup: str

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    def path(self, *parts: str) -> str:
        return str(self.directory.joinpath(*parts))


def main(arguments: Sequence[str]) -> int:
    end = arguments.index("--")
    directory, cgroup, *archives = arguments[:end]
    node = Node(Path(directory), cgroup)
    _prepare_machine(node)
    try:
        return asyncio.run(_serve(node, archives, arguments[end + 1 :]))
    except DidNotStart as error:
        print(f"real_kubernetes: {error}", file=sys.stderr)
        return 1


async def _serve(node: Node, archives: Iterable[str], command: Sequence[str]) -> int:
    settings = ApiServerSettings(
        cluster_id="real",
        directory=node.path("api"),
        bind=[f"{ADDRESS}:6443"],
        service_cidr=_SERVICE_ADDRESSES,
        tls_names=[ADDRESS, _KUBERNETES_SERVICE, "kubernetes.default.svc"],
    )
    ready, stop = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(settings, stop, ready), name="the API server")
        await ready.wait()
        try:
            return await _with_containers(node, archives, command)
        finally:
            stop.set()


async def _with_containers(node: Node, archives: Iterable[str], command: Sequence[str]) -> int:
    address = _administrator(node)
    programs = built(CONTAINERS)
    log = node.directory / "containerd.log"
    told = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin"}
    async with (
        running([str(programs / "containerd"), "--config", _containerd(node)], log, told) as containerd,
        ApiClient(address) as client,
    ):

        async def serves() -> bool:
            return await _ctr(programs, "version") == 0

        await until(serves, containerd, log)
        for archive in archives:
            if await _ctr(programs, "--namespace", "k8s.io", "images", "import", archive):
                raise DidNotStart(f"containerd does not take {archive}: see {log}")
        async with contextlib.AsyncExitStack() as parts:
            started = {name: await _start(node, parts, name, words) for name, words in _commands(node).items()}
            kubelet, kubelet_log = started["kubelet"]
            await until(lambda: _is_ready(client), kubelet, kubelet_log)
            await client.create(SERVICES, _dns_service(), _SYSTEM)
            await client.create(ENDPOINT_SLICES, _dns_endpoints(), _SYSTEM)
            print(f"node ready: {', '.join(started)}", file=sys.stderr, flush=True)
            process = await asyncio.create_subprocess_exec(
                *command, env={**os.environ, "KUBECONFIG": str(node.kubeconfig), "ISTHMUS_NODE": node.path()}
            )
            return await process.wait()


async def _start(
    node: Node, parts: contextlib.AsyncExitStack, name: str, words: list[str]
) -> tuple[asyncio.subprocess.Process, Path]:
    log = node.directory / f"{name}.log"
    told = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    return await parts.enter_async_context(running(words, log, told)), log


async def _ctr(programs: Path, *words: str) -> int:
    command = [str(programs / "ctr"), "--address", _CONTAINERD, *words]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return await process.wait()


async def _is_ready(client: ApiClient) -> bool:
    conditions = (await client.get(NODES, NAME)).get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _administrator(node: Node) -> ApiAddress:
    """Also written for whoever comes with kubectl, and for the programs of this node."""
    api = node.directory / "api"
    ca_pem, token = (api / "ca.crt").read_text(), (api / "admin-token").read_text().strip()
    url = f"https://{ADDRESS}:6443"
    node.kubeconfig.touch(mode=0o600)
    node.kubeconfig.write_text(render([ContextEntry(name="real", server=url, ca_pem=ca_pem, token=token)]))
    return ApiAddress(server=url, ca_pem=ca_pem, token=token)


def _commands(node: Node) -> dict[str, list[str]]:
    programs, kubeconfig = built(NODE), str(node.kubeconfig)
    return {
        "kube-scheduler": [
            str(programs / "kube-scheduler"),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--leader-elect=false",
            f"--cert-dir={node.path('scheduler')}",
        ],
        "kubelet": [
            str(programs / "kubelet"),
            f"--config={_written(node, 'kubelet.json', _kubelet(node))}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
            f"--root-dir={node.path('kubelet')}",
            f"--cert-dir={node.path('kubelet', 'pki')}",
        ],
        "kube-proxy": [
            str(programs / "kube-proxy"),
            f"--config={_written(node, 'kube-proxy.json', _kube_proxy(node))}",
        ],
        "coredns": [str(built(CONTAINERS) / "coredns"), "-conf", _corefile(node)],
    }


def _kubelet(node: Node) -> dict[str, Any]:
    resolv_conf = node.directory / "resolv.conf"
    resolv_conf.write_text(f"nameserver {ADDRESS}\n")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        # Nobody but this node's own API server reaches it.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "clusterDNS": [_DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{_CONTAINERD}",
        "evictionHard": {"memory.available": "100Mi"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": node.path("pod-logs"),
        "resolvConf": str(resolv_conf),
        "volumePluginDir": node.path("volume-plugins"),
    }


def _kube_proxy(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(node.kubeconfig)},
        "clusterCIDR": _POD_ADDRESSES,
        # Of the whole machine, hence left as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
        "hostnameOverride": NAME,
        "mode": "nftables",
    }


def _corefile(node: Node) -> str:
    text = f"cluster.local in-addr.arpa {{\n bind {ADDRESS}\n errors\n cache 5\n kubernetes {{\n kubeconfig {node.kubeconfig}\n }}\n}}\n"
    path = node.directory / "Corefile"
    path.write_text(text)
    return str(path)


def _dns_service() -> dict[str, Any]:
    """Under the name by which clusters have it; what answers is no Pod, but a process of the node."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": _SYSTEM, "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": _DNS_SERVICE, "ports": list(_DNS_PORTS)},
    }


def _dns_endpoints() -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": "kube-dns"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns", "namespace": _SYSTEM, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}],
        "ports": list(_DNS_PORTS),
    }


def _containerd(node: Node) -> str:
    """A route for each Pod instead of a bridge: whether a bridge's packets pass the rules of Services is a setting of the machine."""
    network = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "dataDir": node.path("addresses"),
                    "ranges": [[{"subnet": _POD_ADDRESSES}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    networks = node.directory / "cni"
    networks.mkdir()
    _written(node, "cni/pods.conflist", network)
    path = node.directory / "containerd.toml"
    path.write_text(
        f"""version = 3
root = "{node.path("containerd")}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.nri.v1.nri"]
[grpc]
address = "{_CONTAINERD}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
# Where root may not make a process less likely to be ended than this one is.
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
conf_dir = "{networks}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
"""
    )
    return str(path)


def _written(node: Node, name: str, content: dict[str, Any]) -> str:
    path = node.directory / name
    path.write_text(json.dumps(content, indent=2))
    return str(path)


def _prepare_machine(node: Node) -> None:
    """Links, and folders that belong to this node alone: all of it goes with the namespaces."""
    for words in (
        "ip link set lo up",
        "ip link add node0 type veth peer name node1",
        f"ip addr add {ADDRESS}/24 dev node0",
        "ip link set node0 up",
        "ip link set node1 up",
        "ip route add default dev node0",
        "sysctl -qw net.ipv4.ip_forward=1",
        # /dev/shm and the like stay: only what programs of a node would leave behind is its own.
        "mount -t tmpfs tmpfs /run",
        "mount -t tmpfs tmpfs /var/log",
    ):
        subprocess.run(words.split(), check=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
    for name, value in _KERNEL.items():
        file = node.directory / name.replace("/", ".")
        file.write_text(f"{value}\n")
        subprocess.run(["mount", "--bind", str(file), f"/proc/sys/{name}"], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
