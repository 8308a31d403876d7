"""One cluster of the runtime: its API server, its agent, its controllers and its kubelet, in the order in which they come up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import structlog
import yaml

from isthmus.agent.specification import AgentSettings
from isthmus.apiserver.settings import ApiServerSettings
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import KubernetesError
from isthmus.kubernetes.kubeconfig import ApiAddress, ContextEntry
from isthmus.kubernetes.resources import CONFIG_MAPS, PROXY_CONFIGS, SERVICES
from isthmus.localruntime.agents import AgentClient
from isthmus.localruntime.applying import NotApplied, answered, apply_objects
from isthmus.localruntime.controllers.cache import ClusterCache
from isthmus.localruntime.controllers.runner import Controllers
from isthmus.localruntime.kubelet import Kubelet
from isthmus.localruntime.machines import MachineRunner
from isthmus.localruntime.manifests import (
    READER,
    SYSTEM,
    config_secret,
    control_plane_addresses,
    control_plane_name,
    control_plane_server,
    remote_secret,
    system,
)
from isthmus.localruntime.networks import Networks
from isthmus.localruntime.plan import ClusterPlan, Plan
from isthmus.localruntime.pods import Place
from isthmus.localruntime.probes import session_inside
from isthmus.localruntime.processes import Child, Processes
from isthmus.localruntime.programs import Program
from isthmus.localruntime.proxy_configs import proxy_configs_in
from isthmus.localruntime.readiness import PEERS_PAGE, may_meet, not_ready, unheard
from isthmus.localruntime.sample_manifests import samples
from isthmus.localruntime.state import StateFolder
from isthmus.localruntime.webhooks import until_trusted, webhooks
from isthmus.model.names import ClusterId
from isthmus.model.proxy_config import ProxyConfigs

Object = dict[str, Any]

RUN = Path("/run/isthmus")
CONTROL_PLANE_URL = "http://127.0.0.1:15014/"
"""Its pages, as it shows them to its own host."""
_ASK_SECONDS = 0.03
_ABOUT_PROXIES = {"ConfigMap": CONFIG_MAPS, "ProxyConfig": PROXY_CONFIGS}
_REMOTE_TOKEN_SECONDS = 30 * 86400

log = structlog.get_logger()


class Cluster:
    """`run` until cancelled."""

    def __init__(
        self,
        plan: Plan,
        cluster: ClusterPlan,
        state: StateFolder,
        host_fd: int,
        networks: Networks,
        processes: Processes,
        environment: dict[str, str],
        envoy: str,
        tell: Callable[[str], None],
    ) -> None:
        self.plan = cluster
        self.kubelet: Kubelet | None = None
        self.cache: ClusterCache | None = None
        self.machines: list[MachineRunner] = []
        """Those outside it that belong to it."""
        self.api_server: Child | None = None
        self.agent: Child | None = None
        self.answers = asyncio.Event()
        """The API server answers, and the mesh's ServiceAccounts are there."""
        self.configured = asyncio.Event()
        """What says how proxies are run is in the cache: proxies that start now are run so."""
        self.guarded = asyncio.Event()
        """What is written from now on is asked about at its control plane, if it has any."""
        self._mesh = plan
        self._state = state
        self._host_fd = host_fd
        self._networks = networks
        self._processes = processes
        self._environment = environment
        self._envoy = envoy
        self._tell = tell
        self._run_directory = RUN / cluster.id

    @property
    def directory(self) -> Path:
        return self._state.cluster(self.plan.id)

    @property
    def ca_pem(self) -> str:
        return (self.directory / "ca.crt").read_text()

    def context(self) -> ContextEntry:
        """How the host reaches this cluster as its administrator."""
        token = (self.directory / "admin-token").read_text().strip()
        return ContextEntry(
            name=self.plan.id, server=f"https://127.0.0.1:{self.plan.host_port}", ca_pem=self.ca_pem, token=token
        )

    async def run(
        self,
        authority: Object | None,
        bundles: Object | None,
        clusters: Mapping[ClusterId, Cluster],
        joined: Callable[[ClusterCache], None],
    ) -> None:
        """`joined` is called with the cache when the cluster has one; `authority` and other meshes' `bundles` are for one with a control plane."""
        self._run_directory.mkdir(parents=True, mode=0o700)
        async with asyncio.TaskGroup() as tasks:
            self.api_server = self._processes.start(self._api_server())
            tasks.create_task(self._processes.keep(self.api_server), name="keep API server")
            self.agent = self._processes.start(self._agent())
            tasks.create_task(self._processes.keep(self.agent), name="keep agent")
            async with ApiClient(await self._address(), user_agent="isthmus-local") as client:
                self._tell(f"{self.plan.id}: API server answers")
                cache = self.cache = ClusterCache(client)
                joined(cache)
                place = self._place(client, cache)
                kubelet = self.kubelet = Kubelet(place)
                mine = (machine for machine in self._mesh.machines if machine.cluster == self.plan.id)
                self.machines = [MachineRunner(machine, self._mesh, place) for machine in mine]
                tasks.create_task(cache.run(), name="cache")
                proxies = partial(self._proxy_configs, clusters)
                controllers = Controllers(self.plan, client, cache, self.ca_pem, proxies)
                await self._apply(client, system(self._mesh, self.plan, authority, bundles))
                self.answers.set()
                objects = [obj for path in self.plan.manifests for obj in _objects(path)]
                await self._configure(client, cache, filter(_is_about_proxies, objects))
                await self._config_cluster(clusters).configured.wait()
                tasks.create_task(controllers.run(), name="controllers")
                tasks.create_task(kubelet.run(), name="kubelet")
                tasks.create_task(self._follow_agent(kubelet), name="agent")
                await self._apply(client, samples(self.plan))
                await self._apply(client, objects)
                await self._link(clusters)
                self._tell(f"{self.plan.id}: objects applied")
                for machine in self.machines:
                    tasks.create_task(machine.run(), name=f"machine {machine.name}")
                asked = webhooks(self._mesh, self.plan)
                await self._apply(client, asked)
                await until_trusted(client, asked)
                self.guarded.set()
                await asyncio.Event().wait()

    def is_ready(self) -> list[str]:
        """What is waited for, in words; empty when everything that was asked for runs."""
        if self.cache is None:
            return [f"{self.plan.id}: API server"]
        machines = [what for machine in self.machines for what in machine.is_ready()]
        return machines + [f"{self.plan.id}: {what}" for what in not_ready(self.cache.state)]

    async def unheard(self) -> list[str]:
        """Other meshes that its control plane is to be in touch with, and is not yet."""
        expected = may_meet(self._mesh, self.plan)
        pod = (
            self.kubelet.find(SYSTEM, control_plane_name(self.plan.revisions[0])) if self.kubelet and expected else None
        )
        if pod is None:
            return []
        try:
            async with (
                session_inside(pod.net_namespace_path) as session,
                session.get(CONTROL_PLANE_URL + PEERS_PAGE) as found,
            ):
                return [f"{self.plan.id}: mesh {mesh}" for mesh in unheard(expected, await found.json())]
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return [f"{self.plan.id}: its control plane's peers ({error})"]

    async def _address(self) -> ApiAddress:
        """Once the server answers."""
        ca, token = self.directory / "ca.crt", self.directory / "admin-token"
        while not token.exists():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(_ASK_SECONDS)
        address = ApiAddress(server=self.plan.api_url, ca_pem=ca.read_text(), token=token.read_text().strip())
        async with ApiClient(address) as client:
            while True:
                try:
                    await client.read("/readyz")
                    return address
                except KubernetesError:
                    await asyncio.sleep(_ASK_SECONDS)

    def _api_server(self) -> Program:
        port = self.plan.api_port
        settings = ApiServerSettings(
            cluster_id=self.plan.id,
            directory=str(self.directory),
            service_cidr=self.plan.service_cidr,
            tls_names=["localhost", "127.0.0.1", self.plan.api_address, "kubernetes.default.svc", *self._entered_at()],
            bind=[f"{self.plan.api_address}:{port}"],
            inherited_fds=[self._host_fd],
            api_address=f"{self.plan.api_address}:{port}",
        )
        return self._program("apiserver", settings, pass_fds=(self._host_fd,))

    def _agent(self) -> Program:
        settings = AgentSettings(
            socket=str(self._run_directory / "agent.sock"),
            cluster_id=self.plan.id,
            mesh_id=self.plan.mesh.id,
            trust_domain=self.plan.mesh.trust_domain,
            control_planes=control_plane_addresses(self._mesh, self.plan),
            last_good=str(self._run_directory / "last-good"),
        )
        network = self._mesh.network(self.plan.network)
        return self._program("agent", settings, net_namespace=network.namespace)

    def _program(
        self, name: str, settings: msgspec.Struct, *, pass_fds: tuple[int, ...] = (), net_namespace: str = ""
    ) -> Program:
        path = self._run_directory / f"{name}.json"
        path.write_bytes(msgspec.json.encode(settings))
        return Program(
            name=f"{self.plan.id} {name}",
            command=[sys.executable, "-m", "isthmus.cli.app", name, "--settings", str(path)],
            log=self._state.logs / self.plan.id / f"{name}.log",
            environment=self._environment,
            net_namespace=net_namespace,
            pass_fds=pass_fds,
        )

    def _place(self, client: ApiClient, cache: ClusterCache) -> Place:
        return Place(
            plan=self.plan,
            client=client,
            cache=cache,
            networks=self._networks,
            processes=self._processes,
            agent=AgentClient(self._run_directory / "agent.sock"),
            envoy=self._envoy,
            directory=self._run_directory / "pods",
            logs=self._state.logs / self.plan.id,
            api_ca_pem=self.ca_pem,
            environment=self._environment,
            control_planes=partial(self._control_planes, cache),
            control_plane_server=partial(control_plane_server, self._mesh, self.plan),
        )

    def _control_planes(self, cache: ClusterCache, revision: str) -> list[str]:
        """For proxies of a revision, or of a tag, that has a Service here; the first one's where there is none."""
        service = cache.state[SERVICES].get((SYSTEM, control_plane_name(revision)), {}) if revision else {}
        own = str(service.get("spec", {}).get("clusterIP", ""))
        return control_plane_addresses(self._mesh, self.plan, own, revision)

    def _proxy_configs(self, clusters: Mapping[ClusterId, Cluster]) -> ProxyConfigs:
        """As the config cluster of this cluster's control plane has it; nothing is said before its API server answers."""
        config = self._config_cluster(clusters)
        return proxy_configs_in(config.cache.state) if config.cache is not None else ProxyConfigs()

    def _config_cluster(self, clusters: Mapping[ClusterId, Cluster]) -> Cluster:
        served_by = self._mesh.cluster(self.plan.control_planes[0]) if self.plan.control_planes else self.plan
        return clusters[ClusterId(served_by.config_cluster or served_by.id)]

    async def _configure(self, client: ApiClient, cache: ClusterCache, objects: Iterable[Object]) -> None:
        await cache.synced()
        for obj in objects:
            await self._apply(client, [obj])
            resource = _ABOUT_PROXIES[obj["kind"]]
            name = (obj["metadata"].get("namespace", "default"), obj["metadata"]["name"])
            await cache.until(lambda: name in cache.state[resource])  # noqa: B023 - asked while it is so
        self.configured.set()

    async def _follow_agent(self, kubelet: Kubelet) -> None:
        """Whenever the agent has been started anew, it is told its proxies again."""
        assert self.agent is not None, "started"
        client = kubelet.place.agent
        while True:
            await self.agent.ended.wait()
            await self.agent.started.wait()
            await client.until_alive()
            await kubelet.agent_restarted()

    async def _link(self, clusters: Mapping[ClusterId, Cluster]) -> None:
        """The credentials of this cluster's control plane for others: remote secrets, in the cluster that it takes configuration from."""
        if not self.plan.runs_control_plane:
            return
        config = clusters[ClusterId(self.plan.config_cluster)]
        await config.answers.wait()
        async with ApiClient(await config._address()) as client:
            for name in self.plan.discovers:
                other = clusters[name]
                secret = remote_secret(
                    other.plan, self._server_of(other.plan), other.ca_pem, await other._token(READER)
                )
                await self._apply(client, [secret])
            if config is not self:
                secret = config_secret(config.plan, config.ca_pem, await config._token("istiod"))
                async with ApiClient(await self._address()) as own:
                    await self._apply(own, [secret])

    def _entered_at(self) -> list[str]:
        return [self._mesh.tunnel_address(self.plan)] if self.plan.tunnel else []

    def _server_of(self, other: ClusterPlan) -> str:
        """Where this cluster's control plane finds another one's API server: at the end of its tunnel, where it has one."""
        return f"https://{self._mesh.tunnel_address(other)}:{other.api_port}" if other.tunnel else other.api_url

    async def _token(self, account: str) -> str:
        await self.answers.wait()
        async with ApiClient(await self._address()) as asked:
            return await answered(
                lambda: asked.request_token(SYSTEM, account, audiences=(), seconds=_REMOTE_TOKEN_SECONDS)
            )

    async def _apply(self, client: ApiClient, objects: Iterable[Object]) -> None:
        """Raises NotApplied."""
        try:
            await apply_objects(client, objects)
        except NotApplied as error:
            raise NotApplied(f"{self.plan.id}: {error}") from None


def _is_about_proxies(obj: Object) -> bool:
    """What the mesh says of how they are run: in the system namespace, which is there before all others."""
    return obj["kind"] in _ABOUT_PROXIES and obj["metadata"].get("namespace") == SYSTEM


def _objects(path: Path) -> Iterable[Object]:
    for document in yaml.safe_load_all(path.read_text()):
        if document and document.get("kind") == "List":
            yield from document["items"]
        elif document:
            yield document
