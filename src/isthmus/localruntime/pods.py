"""PodRunner: one Pod from its placement on a Node to its end."""

from __future__ import annotations

import asyncio
import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from isthmus.agent.capture import EVERYTHING, ByMark, rules
from isthmus.agent.specification import ADMIN_SOCKET, ProxySpec
from isthmus.injection.workloads import owner_of
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import KubernetesError, NotFound
from isthmus.kubernetes.resources import CONFIG_MAPS, PODS
from isthmus.localruntime.agents import AgentClient, AgentRefused
from isthmus.localruntime.commands import CommandFailed, nft
from isthmus.localruntime.controllers.actions import is_going
from isthmus.localruntime.controllers.cache import ClusterCache
from isthmus.localruntime.images import PROXY, TUNNEL, NoSuchImage, command_of
from isthmus.localruntime.networks import Networks
from isthmus.localruntime.plan import ClusterPlan
from isthmus.localruntime.pod_files import (
    BadContainer,
    PodFiles,
    check_supported,
    environment_of,
    search_domains,
)
from isthmus.localruntime.pod_status import ContainerState, status
from isthmus.localruntime.probes import probe, session_inside
from isthmus.localruntime.processes import Child, Processes
from isthmus.localruntime.programs import Program
from isthmus.localruntime.proxy_configs import config_of, node_metadata
from isthmus.model.proxy_config_words import written
from isthmus.trust.private_files import write_privately

Object = dict[str, Any]

ROOT_CONFIG_MAP = "istio-ca-root-cert"
_TOKEN_SECONDS = 3600
_TOKEN_RENEW_SECONDS = 0.8 * _TOKEN_SECONDS
_DRAIN_SECONDS = 2.0
"""How long a draining sidecar goes on taking requests: peers learn in milliseconds that it is leaving, and finish what they began."""

_CONCURRENCY = 1
"""Threads of each Envoy: there are many of them on the machine."""

_RETRY_FIRST, _RETRY_MAX = 0.2, 10.0
_EAGER_PROBE_SECONDS = 0.1

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the Pods of one cluster share. `directory` is for their files, `logs` for what they print."""

    plan: ClusterPlan
    client: ApiClient
    cache: ClusterCache
    networks: Networks
    processes: Processes
    agent: AgentClient
    envoy: str
    directory: Path
    logs: Path
    api_ca_pem: str
    environment: dict[str, str]
    control_planes: Callable[[str], list[str]]
    """Addresses, in order, for proxies of a revision or tag; empty is the first one."""
    control_plane_server: Callable[[str], str]
    """The name that they show such proxies."""


class PodRunner:
    """`run` ends when the Pod is gone, from this machine and from the API."""

    def __init__(self, pod: Object, place: Place) -> None:
        metadata = pod["metadata"]
        self.namespace, self.name, self.uid = metadata["namespace"], metadata["name"], metadata["uid"]
        self.ip = ""
        self.net_namespace = f"{place.plan.id}-{self.uid[:8]}"
        self.proxy: ProxySpec | None = None
        self.children: dict[str, Child] = {}
        self.draining = False
        self._pod = pod
        self._place = place
        self._files = PodFiles(place.directory / self.uid)
        self._states = [ContainerState(c["name"], c.get("image", "")) for c in pod["spec"]["containers"]]
        self._going = asyncio.Event()
        self._gone = False
        self._news = asyncio.Event()

    @property
    def envoy_admin(self) -> Path:
        return self._files.proxy / ADMIN_SOCKET

    @property
    def net_namespace_path(self) -> str:
        return f"/run/netns/{self.net_namespace}"

    @property
    def states(self) -> list[ContainerState]:
        return self._states

    def seen(self, pod: Object | None) -> None:
        """The Pod as the API has it now; None if it has gone without waiting for us."""
        if pod is None:
            self._gone = True
            self._going.set()
        else:
            self._pod = pod
            if is_going(pod):
                self._going.set()

    def roots_changed(self) -> None:
        """The mesh's roots in this namespace are others now."""
        roots = self._roots()
        if roots and self._files.directory.exists():
            self._files.mesh_roots.write_text(roots)

    async def run(self) -> None:
        pause = _RETRY_FIRST
        while not self._going.is_set():
            try:
                await self._once()
            except* (CommandFailed, OSError, BadContainer, NoSuchImage, KubernetesError, AgentRefused) as errors:
                error = _innermost(errors)
                log.warning("pod cannot run", pod=f"{self.namespace}/{self.name}", error=str(error))
                await self._tell_trouble(error)
                await _first(self._going, pause)
                pause = min(pause * 2, _RETRY_MAX)
        await self._finish()

    async def tell_agent(self) -> None:
        """Says the proxy's specification again, after the agent has been started anew."""
        if self.proxy is not None:
            await self._place.agent.put(self.proxy)

    async def _once(self) -> None:
        """One life of the Pod's namespace. Whatever it made is taken away again."""
        place = self._place
        check_supported(self._pod)
        self.ip = place.networks.take_address(place.plan.network)
        probing = session_inside(self.net_namespace_path)
        try:
            await place.networks.add_pod(place.plan.network, self.net_namespace, self.ip)
            await self._prepare()
            async with asyncio.TaskGroup() as tasks:
                work = [
                    tasks.create_task(self._report(), name="report"),
                    tasks.create_task(self._renew(), name="tokens"),
                ]
                for container, state in zip(self._pod["spec"]["containers"], self._states, strict=True):
                    run = self._run_container(container, state, probing)
                    work.append(tasks.create_task(run, name=f"{self.name}/{state.name}"))
                await self._going.wait()
                await self._stop_gently()
                for task in work:
                    task.cancel()
        finally:
            await probing.close()
            await self._clear()

    async def _prepare(self) -> None:
        place = self._place
        self._files.prepare(
            server=place.plan.api_url,
            api_ca_pem=place.api_ca_pem,
            namespace=self.namespace,
            dns_server=place.plan.dns_address,
        )
        await self._renew_tokens()
        if self._has_identity():
            await place.cache.until(lambda: bool(self._roots()) or self._going.is_set())
            self._files.mesh_roots.write_text(self._roots())
        if self._is_sidecar():
            await nft(rules(ByMark(), EVERYTHING, dns=True), namespace=self.net_namespace)

    async def _run_container(self, container: Object, state: ContainerState, probing: Any) -> None:
        """Keeps it running and says how it is, until cancelled."""
        program = await (self._proxy_program() if container.get("image") == PROXY else self._program(container))
        child = self._place.processes.start(program)
        self.children[state.name] = child
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._place.processes.keep(child), name=f"keep {state.name}")
            tasks.create_task(self._watch_container(child, state), name=f"watch {state.name}")
            tasks.create_task(self._probe_container(container, child, state, probing), name=f"probe {state.name}")

    async def _watch_container(self, child: Child, state: ContainerState) -> None:
        while True:
            await child.started.wait()
            state.running_since, state.waiting, state.restarts = _now(), ("", ""), child.restarts
            self._news.set()
            await child.ended.wait()
            state.ready, state.last_exit = False, child.exit_code
            state.waiting = ("CrashLoopBackOff", f"exit code {child.exit_code}")
            self._news.set()

    async def _probe_container(self, container: Object, child: Child, state: ContainerState, probing: Any) -> None:
        """Eagerly until the first success, then as often as the probe says."""
        spec = container.get("readinessProbe")
        failures = 0
        while True:
            if not child.pid:
                await child.started.wait()
            wrong = await probe(probing, spec, container, self.net_namespace_path) if spec else ""
            if not child.pid or wrong is None:
                continue
            failures = failures + 1 if wrong else 0
            threshold = int((spec or {}).get("failureThreshold", 3))
            ready = not wrong or (state.ready and failures < threshold)
            if ready != state.ready or wrong != state.probe_message:
                state.ready, state.probe_message = ready, wrong
                self._news.set()
            if spec is None:
                await child.ended.wait()
                continue
            period = float(spec.get("periodSeconds", 10)) if state.ready else _EAGER_PROBE_SECONDS
            await _first(child.ended, period)

    async def _program(self, container: Object) -> Program:
        pod = copy.deepcopy(self._pod)
        pod.setdefault("status", {})["podIP"] = self.ip
        inherited = self._place.environment | {
            "HOSTNAME": self.name,
            "KUBECONFIG": str(self._files.kubeconfig),
            "STATE_DIRECTORY": str(self._files.state),
            "KUBERNETES_SERVICE_HOST": f"{self._place.plan.service_cidr.rpartition('.')[0]}.1",
            "KUBERNETES_SERVICE_PORT": "443",
            "ISTHMUS_TOKEN_FILE": str(self._files.mesh_token),
            "ISTHMUS_ROOTS_FILE": str(self._files.mesh_roots),
        }
        return Program(
            name=container["name"],
            command=command_of(container),
            log=self._log(container["name"]),
            environment=environment_of(container, pod, self._place.cache.state, inherited),
            net_namespace=self.net_namespace,
            resolv_conf=str(self._files.resolv_conf),
        )

    async def _proxy_program(self) -> Program:
        self.proxy = self._specification()
        await self._place.agent.until_alive()
        ready = await self._place.agent.put(self.proxy)
        return Program(
            name="envoy",
            command=[self._place.envoy, *ready.arguments],
            log=self._log("istio-proxy"),
            environment=self._place.environment,
            net_namespace=self.net_namespace,
        )

    def _specification(self) -> ProxySpec:
        metadata, spec = self._pod["metadata"], self._pod["spec"]
        labels = metadata.get("labels") or {}
        proxy = next(container for container in spec["containers"] if container.get("image") == PROXY)
        variables = {entry["name"]: str(entry.get("value", "")) for entry in proxy.get("env") or ()}
        config, revision = config_of(self._pod), labels.get("istio.io/rev", "")
        return ProxySpec(
            kind=self._proxy_kind(),
            namespace=self.namespace,
            name=self.name,
            service_account=spec.get("serviceAccountName", "default"),
            ip=self.ip,
            node=spec["nodeName"],
            labels=labels,
            workload_name=owner_of(self._pod).name,
            network=labels.get("topology.istio.io/network", self._place.plan.network),
            network_view=variables.get("ISTIO_META_REQUESTED_NETWORK_VIEW", ""),
            dns_capture=self._is_sidecar(),
            token_file=str(self._files.mesh_token),
            root_cert_file=str(self._files.mesh_roots),
            net_namespace=self.net_namespace_path,
            directory=str(self._files.proxy),
            name_servers=[self._place.plan.dns_address],
            search_domains=search_domains(self.namespace),
            control_planes=self._place.control_planes(revision),
            control_plane_name=self._place.control_plane_server(revision),
            concurrency=_CONCURRENCY if config.concurrency is None else config.concurrency,
            metadata=node_metadata(config),
            proxy_config=written(config),
        )

    def _proxy_kind(self) -> str:
        """`router` for a gateway, `sidecar` beside a workload, empty without a proxy."""
        for container in self._pod["spec"]["containers"]:
            if container.get("image") == PROXY:
                return "router" if "router" in (container.get("args") or ()) else "sidecar"
        return ""

    def _has_identity(self) -> bool:
        """Whether a container asks for the workload's certificate."""
        return any(container.get("image") in (PROXY, TUNNEL) for container in self._pod["spec"]["containers"])

    def _is_sidecar(self) -> bool:
        return self._proxy_kind() == "sidecar"

    def _roots(self) -> str:
        config = self._place.cache.state[CONFIG_MAPS].get((self.namespace, ROOT_CONFIG_MAP), {})
        return str((config.get("data") or {}).get("root-cert.pem", ""))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_TOKEN_RENEW_SECONDS)
            try:
                await self._renew_tokens()
            except KubernetesError as error:
                log.warning("tokens not renewed, the old ones stay", pod=self.name, error=str(error))

    async def _renew_tokens(self) -> None:
        account = self._pod["spec"].get("serviceAccountName", "default")
        request = self._place.client.request_token
        token = await request(self.namespace, account, audiences=(), seconds=_TOKEN_SECONDS)
        write_privately(self._files.api_token, token.encode())
        if self._has_identity():
            token = await request(self.namespace, account, audiences=("istio-ca",), seconds=_TOKEN_SECONDS)
            write_privately(self._files.mesh_token, token.encode())

    async def _stop_gently(self) -> None:
        """Drain first, then the workload, its proxy last: requests that are on their way are answered."""
        if self._gone:
            return
        grace = float(self._pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        if self.proxy is not None and "istio-proxy" in self.children and grace > 0:
            self.draining = True
            try:
                await self._place.agent.drain(self.namespace, self.name)
                asked = config_of(self._pod).termination_drain_seconds
                await asyncio.sleep(min(_DRAIN_SECONDS if asked is None else asked, grace))
            except AgentRefused as error:
                log.warning("proxy not drained", pod=self.name, error=str(error))
        workloads = [child for name, child in self.children.items() if name != "istio-proxy"]
        await self._stop(workloads, grace)
        await self._stop(list(self.children.values()), grace)

    async def _stop(self, children: list[Child], grace: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            for child in children:
                tasks.create_task(self._place.processes.stop(child, grace), name=f"stop {child.program.name}")

    async def _clear(self) -> None:
        """What cannot be undone is logged: the namespace goes with the runtime at the latest."""
        try:
            await self._stop(list(self.children.values()), 0)
            self.children.clear()
            if self.proxy is not None:
                self.proxy = None
                await self._place.agent.forget(self.namespace, self.name)
        except AgentRefused as error:
            log.warning("proxy not forgotten", pod=self.name, error=str(error))
        try:
            await self._place.networks.delete_pod(self.net_namespace)
        except CommandFailed as error:
            log.warning("namespace not deleted", pod=self.name, error=str(error))
        self._place.networks.give_back(self._place.plan.network, self.ip)
        shutil.rmtree(self._files.directory, ignore_errors=True)

    async def _report(self) -> None:
        """Keeps the Pod's status true. An API server that is away is told later."""
        told: Object = {}
        while True:
            wanted = status(self._pod, self.ip, self._states, _now())
            if wanted != told:
                told = wanted if await self._patch_status(wanted) else told
            if wanted == told:
                await self._news.wait()
            else:
                await _first(self._news, _RETRY_FIRST)
            self._news.clear()

    async def _patch_status(self, wanted: Object) -> bool:
        try:
            await self._place.client.patch(PODS, self.name, {"status": wanted}, self.namespace, subresource="status")
        except NotFound:
            self.seen(None)
        except KubernetesError as error:
            log.warning("status not told", pod=self.name, error=str(error))
            return False
        return True

    async def _tell_trouble(self, error: Exception) -> None:
        reasons: dict[type[Exception], str] = {
            NoSuchImage: "ErrImagePull",
            BadContainer: "CreateContainerConfigError",
        }
        for state in self._states:
            state.ready, state.running_since = False, ""
            state.waiting = (reasons.get(type(error), "CreateContainerError"), str(error))
        await self._patch_status(status(self._pod, "", self._states, _now()))

    async def _finish(self) -> None:
        """Tells the API that nothing of the Pod is left."""
        while not self._gone:
            try:
                await self._place.client.delete(PODS, self.name, self.namespace, grace_seconds=0)
                return
            except NotFound:
                return
            except KubernetesError as error:
                log.warning("pod not removed", pod=self.name, error=str(error))
                await asyncio.sleep(_RETRY_FIRST)

    def _log(self, container: str) -> Path:
        folder: Path = self._place.logs / self.namespace / self.name
        return folder / f"{container}.log"


def _innermost(errors: BaseExceptionGroup[Exception]) -> Exception:
    """The first failure itself: task groups in task groups wrap it."""
    error: Exception | BaseExceptionGroup[Exception] = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _first(event: asyncio.Event, seconds: float) -> None:
    """Until the event, or until the time is over."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
