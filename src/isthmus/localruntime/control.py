"""The control socket: what the command line asks of a running mesh. Mode 0600, in the state folder."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from isthmus.agent.sockets import serve_privately
from isthmus.ingest.labels import NETWORK
from isthmus.kubernetes.resources import DEPLOYMENTS, NODES, PODS, SERVICES
from isthmus.localruntime.cluster import CONTROL_PLANE_URL, Cluster
from isthmus.localruntime.controllers.actions import condition, is_going
from isthmus.localruntime.controllers.load_balancers import addresses
from isthmus.localruntime.machines import MachineRunner
from isthmus.localruntime.manifests import SYSTEM
from isthmus.localruntime.pods import PodRunner
from isthmus.localruntime.probes import session_inside
from isthmus.localruntime.running_mesh import RunningMesh


class ControlServer:
    """`run` until cancelled."""

    def __init__(self, mesh: RunningMesh) -> None:
        self._mesh = mesh

    async def run(self) -> None:
        application = web.Application()
        routes = application.router
        routes.add_get("/status", self._status)
        routes.add_post("/stop", self._stop)
        routes.add_get("/memory", self._memory)
        routes.add_get("/pods/{cluster}/{namespace}/{name}", self._pod)
        routes.add_post("/machines/{name}/{switch:on|off|cut}", self._switch)
        routes.add_get("/envoy/{cluster}/{namespace}/{name}/{path:.*}", self._envoy)
        routes.add_get("/control-plane/{cluster}/{pod}/{path:.*}", self._control_plane)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await serve_privately(runner, self._mesh.state.control_socket)
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _status(self, _: web.Request) -> web.Response:
        mesh = self._mesh
        return _answer(
            {
                "name": mesh.plan.name,
                "phase": mesh.phase,
                "error": mesh.error,
                "readySeconds": round(mesh.ready_seconds, 2),
                "told": mesh.told,
                "waitingFor": [what for cluster in mesh.clusters.values() for what in cluster.is_ready()],
                "clusters": [_cluster(cluster) for cluster in mesh.clusters.values()],
                "machines": [_machine_row(machine) for c in mesh.clusters.values() for machine in c.machines],
                "processes": len(_pids()),
            }
        )

    async def _stop(self, _: web.Request) -> web.Response:
        self._mesh.stopping.set()
        return web.Response(status=202)

    async def _memory(self, _: web.Request) -> web.Response:
        """Proportional set size (proc_pid_smaps(5)) of every process here, in bytes: pages that are shared count once in all."""
        found = []
        for pid in _pids():
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            sizes = dict(line.split(":", 1) for line in rollup.splitlines()[1:] if ":" in line)
            pss = int(sizes["Pss"].split()[0]) * 1024
            found.append(
                {"pid": pid, "command": [part.decode(errors="replace") for part in command if part], "pss": pss}
            )
        return _answer(found)

    async def _pod(self, request: web.Request) -> web.Response:
        """What `exec` and `logs` need to know about a Pod."""
        pod = self._found(request)
        return _answer(
            {
                "name": pod.name,
                "namespace": pod.namespace,
                "ip": pod.ip,
                "netNamespace": pod.net_namespace_path,
                "containers": [
                    {"name": name, "pid": child.pid, "log": str(child.program.log)}
                    for name, child in pod.children.items()
                ],
            }
        )

    async def _switch(self, request: web.Request) -> web.Response:
        """`cut` takes its power away; `off` lets it take its leave."""
        machines = {machine.name: machine for cluster in self._mesh.clusters.values() for machine in cluster.machines}
        machine = machines.get(request.match_info["name"])
        if machine is None:
            known = ", ".join(sorted(machines)) or "none"
            raise web.HTTPNotFound(text=f"no machine {request.match_info['name']}; there is: {known}\n")
        if request.match_info["switch"] == "on":
            machine.switch_on()
        else:
            machine.switch_off(gently=request.match_info["switch"] == "off")
        return web.Response(status=204)

    async def _envoy(self, request: web.Request) -> web.Response:
        """A page of a Pod's Envoy's admin interface. Only pages that change nothing."""
        pod = self._found(request)
        path = request.match_info["path"]
        if path.partition("?")[0] not in (
            "certs",
            "clusters",
            "config_dump",
            "listeners",
            "ready",
            "server_info",
            "stats",
        ):
            raise web.HTTPForbidden(text=f"page {path} is not shown here\n")
        connector = aiohttp.UnixConnector(path=str(pod.envoy_admin))
        async with aiohttp.ClientSession(connector=connector) as session:
            return await _relay(session, f"http://envoy/{path}", request, f"Envoy of {pod.namespace}/{pod.name}")

    async def _control_plane(self, request: web.Request) -> web.Response:
        """A page of a cluster's control plane, as it shows it to its own host."""
        cluster = self._cluster(request)
        pod = cluster.kubelet.find(SYSTEM, request.match_info["pod"]) if cluster.kubelet else None
        if pod is None:
            has = (
                "'s control plane does not run at this moment"
                if cluster.plan.runs_control_plane
                else " runs no control plane"
            )
            raise web.HTTPNotFound(text=f"cluster {cluster.plan.id}{has}\n")
        async with session_inside(pod.net_namespace_path) as session:
            url = CONTROL_PLANE_URL + request.match_info["path"]
            return await _relay(session, url, request, f"control plane of {cluster.plan.id}")

    def _cluster(self, request: web.Request) -> Cluster:
        name = request.match_info["cluster"]
        found = {str(known): cluster for known, cluster in self._mesh.clusters.items()}.get(name)
        if found is None:
            raise web.HTTPNotFound(text=f"no cluster {name!r}; there is: {', '.join(self._mesh.clusters)}\n")
        return found

    def _found(self, request: web.Request) -> PodRunner | MachineRunner:
        cluster = self._cluster(request)
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        machine = next((m for m in cluster.machines if (m.namespace, m.name) == (namespace, name)), None)
        if machine is not None:
            return machine
        pod = cluster.kubelet.find(namespace, name) if cluster.kubelet else None
        if pod is None:
            known = [f"{p.namespace}/{p.name}" for p in cluster.kubelet.pods.values()] if cluster.kubelet else []
            listed = ", ".join(sorted(known)) or "none"
            raise web.HTTPNotFound(text=f"no Pod {namespace}/{name} in cluster {cluster.plan.id}; there is: {listed}\n")
        return pod


def _cluster(cluster: Cluster) -> dict[str, Any]:
    state = cluster.cache.state if cluster.cache else {}
    runners = {runner.uid: runner for runner in cluster.kubelet.pods.values()} if cluster.kubelet else {}
    return {
        "id": cluster.plan.id,
        "network": cluster.plan.network,
        "apiServer": f"https://127.0.0.1:{cluster.plan.host_port}",
        "nodes": sorted(name for _, name in state.get(NODES, {})),
        "role": cluster.plan.role,
        "controlPlanes": list(cluster.plan.control_planes),
        "apiServerRestarts": cluster.api_server.restarts if cluster.api_server else 0,
        "agentRestarts": cluster.agent.restarts if cluster.agent else 0,
        "processIds": {
            "apiserver": cluster.api_server.pid if cluster.api_server else 0,
            "agent": cluster.agent.pid if cluster.agent else 0,
        },
        "deployments": [
            {"namespace": namespace, "name": name, "available": condition(deployment, "Available") == "True"}
            for (namespace, name), deployment in sorted(state.get(DEPLOYMENTS, {}).items())
        ],
        "gateways": [
            {
                "namespace": namespace,
                "name": name,
                "addresses": addresses(service),
                "network": (service["metadata"].get("labels") or {}).get(NETWORK, cluster.plan.network),
            }
            for (namespace, name), service in sorted(state.get(SERVICES, {}).items())
            if addresses(service)
        ],
        "pods": [_pod_row(pod, runners.get(pod["metadata"]["uid"])) for _, pod in sorted(state.get(PODS, {}).items())],
    }


def _machine_row(machine: MachineRunner) -> dict[str, Any]:
    return {
        "name": machine.name,
        "cluster": machine.plan.cluster,
        "network": machine.plan.network,
        "namespace": machine.namespace,
        "group": machine.plan.group,
        "status": "Ready" if machine.ready else "Starting" if machine.is_on else "Off",
        "ip": machine.ip if machine.is_on else "",
    }


def _pod_row(pod: dict[str, Any], runner: PodRunner | None) -> dict[str, Any]:
    containers = pod.get("status", {}).get("containerStatuses") or []
    waiting = [c["state"]["waiting"] for c in containers if c.get("state", {}).get("waiting", {}).get("reason")]
    phase = "Terminating" if is_going(pod) else pod.get("status", {}).get("phase", "Pending")
    return {
        "namespace": pod["metadata"]["namespace"],
        "name": pod["metadata"]["name"],
        "ready": f"{sum(c['ready'] for c in containers)}/{len(pod['spec']['containers'])}",
        "status": waiting[0]["reason"] if waiting and not is_going(pod) else phase,
        "message": waiting[0].get("message", "") if waiting else "",
        "restarts": sum(c["restartCount"] for c in containers),
        "ip": pod.get("status", {}).get("podIP", ""),
        "node": pod["spec"].get("nodeName", ""),
        "labels": pod["metadata"].get("labels") or {},
        "hasProxy": runner is not None and runner.proxy is not None,
    }


async def _relay(session: aiohttp.ClientSession, url: str, request: web.Request, who: str) -> web.Response:
    try:
        async with session.get(url, params=request.query) as response:
            body = await response.read()
            return web.Response(status=response.status, body=body, content_type=response.content_type)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise web.HTTPBadGateway(text=f"{who} does not answer: {error}\n") from None


def _pids() -> list[int]:
    return sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _answer(body: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
