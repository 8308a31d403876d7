"""Machines outside every cluster: a network namespace with an agent and an application, which joins the mesh with nothing but its kit."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import structlog

from isthmus.agent.specification import ADMIN_SOCKET
from isthmus.ingest.machines import HEALTH_IS_CHECKED
from isthmus.installation.machine_kit import ROOTS, KitOrder, account_of, kit_files
from isthmus.kubernetes.errors import KubernetesError
from isthmus.kubernetes.resources import CONFIG_MAPS, WORKLOAD_ENTRIES, WORKLOAD_GROUPS
from isthmus.localruntime.commands import CommandFailed
from isthmus.localruntime.images import command_of
from isthmus.localruntime.manifests import machine_control_planes
from isthmus.localruntime.plan import MachinePlan, Plan
from isthmus.localruntime.pods import ROOT_CONFIG_MAP, Place
from isthmus.localruntime.probes import probe, session_inside
from isthmus.localruntime.processes import Child
from isthmus.localruntime.programs import Program
from isthmus.trust.private_files import write_privately

Object = dict[str, Any]

_TOKEN_SECONDS = 3600
_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 15.0
_READY = {"httpGet": {"path": "/healthz/ready", "port": 15021}}

log = structlog.get_logger()


class MachineRunner:
    """`run` until cancelled. A machine that is off has no namespace; it keeps its disk and its address."""

    def __init__(self, plan: MachinePlan, mesh: Plan, place: Place) -> None:
        self.plan = plan
        self.namespace, self.name = plan.namespace, plan.name
        self.ip = ""
        self.net_namespace = f"machine-{plan.name}"
        self.children: dict[str, Child] = {}
        self._mesh = mesh
        self._place = place
        self._directory = place.directory.parent / "machines" / plan.name
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._off = asyncio.Event()
        self._gently = True
        self.ready = False

    @property
    def envoy_admin(self) -> Path:
        return self._directory / "state" / "proxy" / ADMIN_SOCKET

    @property
    def net_namespace_path(self) -> str:
        return f"/run/netns/{self.net_namespace}"

    @property
    def is_on(self) -> bool:
        return self._wanted.is_set()

    def is_ready(self) -> list[str]:
        """What is waited for, in words; nothing, if it is off."""
        return [] if self.ready or not self.is_on else [f"machine {self.name}"]

    def switch_on(self) -> None:
        self._off.clear()
        self._wanted.set()

    def switch_off(self, *, gently: bool) -> None:
        """`gently`: its agent takes its leave of the mesh."""
        self._gently = gently
        self._wanted.clear()
        self._off.set()

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            try:
                await self._once()
            except* (CommandFailed, OSError, KubernetesError) as errors:
                log.warning("machine cannot run", machine=self.name, error=str(errors.exceptions[0]))
                await asyncio.sleep(1)

    async def _once(self) -> None:
        """From its being switched on until it is switched off."""
        place = self._place
        if not (self._directory / "kit" / ROOTS).exists():
            await self._configure()
        self.ip = self.ip or place.networks.take_address(self.plan.network)
        await place.networks.add_pod(self.plan.network, self.net_namespace, self.ip)
        try:
            async with asyncio.TaskGroup() as tasks:
                work = []
                for program in (self._application(), self._agent()):
                    child = self.children[program.name] = place.processes.start(program)
                    work.append(tasks.create_task(place.processes.keep(child), name=f"{self.name}/{program.name}"))
                work.append(tasks.create_task(self._watch(), name=f"readiness of {self.name}"))
                await self._off.wait()
                for child in list(self.children.values()):
                    await place.processes.stop(child, _GRACE_SECONDS if self._gently else 0)
                for task in work:
                    task.cancel()
        finally:
            self.ready = False
            self.children.clear()
            await place.networks.delete_pod(self.net_namespace)

    async def _watch(self) -> None:
        session = session_inside(self.net_namespace_path)
        try:
            while True:
                runs = not await probe(session, _READY, {}, self.net_namespace_path)
                self.ready = runs and (self.ready or await self._is_called())
                await asyncio.sleep(1 if self.ready else _LOOK_SECONDS)
        finally:
            await session.close()

    async def _is_called(self) -> bool:
        """Whether the mesh has an entry for it that is not unwell: until then nobody can be answered."""
        try:
            found = await self._place.client.list_objects(WORKLOAD_ENTRIES, self.namespace)
        except KubernetesError:
            return False
        own = [entry for entry in found["items"] if entry["spec"].get("address") == self.ip]
        return any(_is_well(entry) for entry in own)

    async def _configure(self) -> None:
        """What `isthmus workload entry configure` does, once there are a group and roots."""
        group = await self._group()
        key = (self.namespace, ROOT_CONFIG_MAP)
        configs = self._place.cache.state[CONFIG_MAPS]
        await self._place.cache.until(lambda: bool((configs.get(key) or {}).get("data")))
        token = await self._place.client.request_token(
            self.namespace, account_of(group), audiences=("istio-ca",), seconds=_TOKEN_SECONDS
        )
        order = KitOrder(
            cluster=self._place.plan.id,
            mesh=self._place.plan.mesh.id,
            trust_domain=self._place.plan.mesh.trust_domain,
            network=self.plan.network,
            control_planes=machine_control_planes(self._mesh, self._place.plan),
            token=token,
            roots_pem=str(configs[key]["data"]["root-cert.pem"]),
        )
        kit = self._directory / "kit"
        shutil.rmtree(kit, ignore_errors=True)
        kit.mkdir(parents=True, mode=0o700)
        for name, text in kit_files(group, order).items():
            write_privately(kit / name, text.encode())
        (self._directory / "resolv.conf").write_text(
            "# No name server: what the mesh does not know has no name here.\n"
        )

    async def _group(self) -> Object:
        while True:
            try:
                return await self._place.client.get(WORKLOAD_GROUPS, self.plan.group, self.namespace)
            except KubernetesError:
                await asyncio.sleep(_LOOK_SECONDS)

    def _agent(self) -> Program:
        kit, state = self._directory / "kit", self._directory / "state"
        command = [
            sys.executable,
            "-m",
            "isthmus.cli.app",
            "agent",
            "machine",
            "--kit",
            str(kit),
            "--state",
            str(state),
        ]
        return self._program("istio-proxy", [*command, "--name", self.name, "--address", self.ip], {})

    def _application(self) -> Program:
        plan = self.plan
        variables = {"SERVICE_VERSION": plan.version, "POD_NAME": plan.name, "CLUSTER_ID": plan.cluster}
        return self._program(plan.sample, command_of({"image": f"isthmus/{plan.sample}"}), variables)

    def _program(self, name: str, command: list[str], variables: dict[str, str]) -> Program:
        return Program(
            name=name,
            command=command,
            log=self._place.logs.parent / "machines" / self.name / f"{name}.log",
            environment=self._place.environment | {"HOSTNAME": self.name} | variables,
            net_namespace=self.net_namespace,
            resolv_conf=str(self._directory / "resolv.conf"),
        )


def _is_well(entry: Object) -> bool:
    """What is probed is well once it has been found to be."""
    if entry["metadata"].get("annotations", {}).get(HEALTH_IS_CHECKED, "").lower() != "true":
        return True
    told = entry.get("status", {}).get("conditions", [])
    return any(each["type"] == "Healthy" and each["status"] == "True" for each in told)
