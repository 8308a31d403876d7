"""Traffic: sends requests from the mesh's clients, and says by evidence who answered and which way the requests went.

Who answered and which identities both sides saw is in the answers. The way is in the caller's Envoy: how many requests it sent to which
address of the Service's cluster while we asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from isthmus.localruntime.entering import command_inside, host_pid
from isthmus.localruntime.launch import supervisor_of
from isthmus.localruntime.mesh_client import MeshClient

HOST, PORT, PATH = "helloworld.sample", 5000, "/whoami"
_DOMAIN = ".svc.cluster.local"
_SECONDS = 60

_SCRIPT = """
import http.client, json, sys
host, port, path, count, name = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
for _ in range(count):
    try:
        connection = http.client.HTTPConnection(host, port, timeout=10)
        connection.request("GET", path, headers={"Host": name} if name else {})
        response = connection.getresponse()
        body = response.read().decode()
        answer = json.loads(body) if response.status == 200 else {"error": f"HTTP {response.status}: {body[:200]}"}
        connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Requests of one client that the same Pod answered; or that failed, with the `error`. Identities are SPIFFE ids."""

    client: str
    asked: str
    answered_by: str
    cluster: str
    requests: int
    caller: str
    server: str
    path: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for: a host by its whole name, and a port; `at` an address where it is to be found, if not where its name leads."""

    host: str
    port: int
    at: str = ""

    @classmethod
    def of_service(cls, name: str, port: int) -> Target:
        """By NAME.NAMESPACE."""
        return cls(f"{name}{_DOMAIN}", port)

    @property
    def name(self) -> str:
        """As callers write it."""
        return self.host.removesuffix(_DOMAIN)

    @property
    def upstream(self) -> str:
        """What Envoys call it."""
        return f"outbound|{self.port}||{self.host}"

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


HELLOWORLD = Target.of_service(HOST, PORT)


def named(status: dict[str, Any], name: str) -> Iterator[tuple[str, str, str]]:
    """(cluster, namespace, name) of the Pods and machines of that name, or whose names begin with it."""
    for cluster in status["clusters"]:
        for pod in cluster["pods"]:
            if pod["status"] == "Running" and f"{pod['name']}-".startswith(f"{name}-"):
                yield cluster["id"], pod["namespace"], pod["name"]
    for machine in status["machines"]:
        if machine["status"] != "Off" and machine["name"] == name:
            yield machine["cluster"], machine["namespace"], machine["name"]


def clients(status: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(cluster, namespace, Pod) of every client sample."""
    for cluster in status["clusters"]:
        for pod in cluster["pods"]:
            if pod["labels"].get("app") == "client" and pod["status"] == "Running":
                yield cluster["id"], pod["namespace"], pod["name"]


def is_there(status: dict[str, Any], target: Target) -> bool:
    """Whether anybody runs who is called so, as samples are: the app in the namespace."""
    app, _, namespace = target.name.partition(".")
    return any(
        pod["namespace"] == namespace and pod["labels"].get("app") == app
        for cluster in status["clusters"]
        for pod in cluster["pods"]
    )


def send(
    mesh: MeshClient, cluster: str, namespace: str, name: str, *, count: int, status: dict[str, Any], target: Target
) -> list[Answers]:
    """`count` requests, each on a connection of its own. Raises MeshRefused, NotInside."""
    before = _sent(mesh, cluster, namespace, name, target)
    answers = [
        _with_its_cluster(answer, status) for answer in ask(mesh, cluster, namespace, name, count=count, target=target)
    ]
    after = _sent(mesh, cluster, namespace, name, target)
    ways = Counter({address: after[address] - before.get(address, 0) for address in after})
    if target.at:
        return list(_summed(f"{cluster}/{name}", target, answers, lambda *_: f"load balancer {target.at}"))
    way = partial(_way, ways=+ways, status=status, own=cluster)
    return list(_summed(f"{cluster}/{name}", target, answers, way))


def ask(
    mesh: MeshClient,
    cluster: str,
    namespace: str,
    name: str,
    *,
    count: int,
    path: str = PATH,
    target: Target = HELLOWORLD,
) -> list[dict[str, str]]:
    """The answers themselves, in order; one that failed has an `error`."""
    done = run_inside(
        mesh,
        (cluster, namespace, name),
        [
            sys.executable,
            "-S",
            "-E",
            "-c",
            _SCRIPT,
            *_place(target),
            path,
            str(count),
            target.host if target.at else "",
        ],
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def _place(target: Target) -> tuple[str, str]:
    return target.at or target.name, str(target.port)


def run_inside(
    mesh: MeshClient, where: tuple[str, str, str], command: list[str], *, container: str = ""
) -> subprocess.CompletedProcess[str]:
    """A command in the workload's container. Raises MeshRefused, NotInside."""
    line, environment = inside(mesh, where, command, container=container)
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)


def inside(
    mesh: MeshClient, where: tuple[str, str, str], command: list[str], *, container: str = ""
) -> tuple[list[str], dict[str, str]]:
    """How to run it: the command line and the environment."""
    pod = mesh.pod(*where)
    running = mesh.state.running()
    chosen = [c for c in pod["containers"] if (c["name"] == container if container else c["name"] != "istio-proxy")]
    pid = chosen[0]["pid"] if chosen else pod["containers"][0]["pid"] if pod["containers"] else 0
    return command_inside(host_pid(supervisor_of(running) if running else 0, pid), command)


def _sent(mesh: MeshClient, cluster: str, namespace: str, name: str, target: Target) -> dict[str, int]:
    """Requests so far, by address, to the endpoints of the Service."""
    page = json.loads(mesh.envoy(cluster, namespace, name, "clusters?format=json"))
    found: dict[str, int] = {}
    for entry in page.get("cluster_statuses", []):
        if entry["name"] == target.upstream:
            for host in entry.get("host_statuses", []):
                stats = {stat["name"]: int(stat.get("value", 0)) for stat in host.get("stats", [])}
                found[_address(host["address"])] = stats.get("rq_total", 0)
    return found


def _address(address: dict[str, Any]) -> str:
    socket_address = address.get("socket_address")
    if socket_address:
        return f"{socket_address['address']}:{socket_address['port_value']}"
    return json.dumps(address)


def _summed(
    client: str, target: Target, answers: list[dict[str, str]], way: Callable[[dict[str, str], int], str]
) -> Iterator[Answers]:
    kinds = Counter(tuple(sorted(answer.items())) for answer in answers)
    for kind, count in sorted(kinds.items()):
        answer = dict(kind)
        yield Answers(
            client=client,
            asked=str(target),
            answered_by=answer.get("pod", ""),
            cluster=answer.get("cluster", ""),
            requests=count,
            caller=answer.get("caller", ""),
            server=answer.get("self", ""),
            path="" if "error" in answer else way(answer, count),
            error=answer.get("error", ""),
        )


def _with_its_cluster(answer: dict[str, str], status: dict[str, Any]) -> dict[str, str]:
    """Also of who does not say where he is, where one cluster alone has a Pod of his name."""
    found = [each["id"] for each in status["clusters"] if any(pod["name"] == answer.get("pod") for pod in each["pods"])]
    return answer if answer.get("cluster") or len(found) != 1 else answer | {"cluster": found[0]}


def _way(answer: dict[str, str], count: int, ways: Counter[str], status: dict[str, Any], own: str) -> str:
    """The addresses that were asked and that lead to the Pod: its own on one's own network, else the gateways of its network, wherever they are.

    Which of several gateways a connection took is the gateways' business: each may lead to any Pod of its network.
    """
    clusters = {cluster["id"]: cluster for cluster in status["clusters"]}
    home = clusters.get(answer.get("cluster", ""))
    if home is None:
        return "unknown"
    asked = {address: address.rpartition(":")[0] for address in sorted(ways)}
    if home["network"] == clusters[own]["network"]:
        machines = (machine for machine in status["machines"] if machine["cluster"] == home["id"])
        ips = [each["ip"] for each in (*home["pods"], *machines) if each["name"] == answer["pod"]]
        direct = [address for address, ip in asked.items() if ip in ips and ways[address] == count]
        return f"direct {direct[0]}" if direct else f"unclear: {dict(ways)}"
    owner = {
        ip: cluster["id"]
        for cluster in clusters.values()
        for gateway in cluster["gateways"]
        if gateway.get("network", cluster["network"]) == home["network"]
        for ip in gateway["addresses"]
    }
    through = [f"gateway of {owner[ip]} {address}" for address, ip in asked.items() if ip in owner]
    return " or ".join(through) or f"unclear: {dict(ways)}"
