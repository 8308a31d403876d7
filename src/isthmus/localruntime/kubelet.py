"""Kubelet: runs the Pods that are placed on one cluster's Nodes, and looks after nothing else."""

from __future__ import annotations

import asyncio

import structlog

from isthmus.kubernetes.resources import CONFIG_MAPS, PODS, ResourcePath
from isthmus.kubernetes.watch import Change
from isthmus.localruntime.agents import AgentRefused
from isthmus.localruntime.controllers.actions import Object, is_going
from isthmus.localruntime.pods import ROOT_CONFIG_MAP, Place, PodRunner

log = structlog.get_logger()


class Kubelet:
    """`run` until cancelled. One Pod's failure is its own."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.pods: dict[str, PodRunner] = {}
        self._due = asyncio.Event()
        place.cache.subscribe(self._changed)

    def find(self, namespace: str, name: str) -> PodRunner | None:
        """By the Pod's name, or by the beginning of it if that fits one alone."""
        mine = [pod for pod in self.pods.values() if pod.namespace == namespace]
        exact = [pod for pod in mine if pod.name == name]
        beginning = [pod for pod in mine if pod.name.startswith(name + "-")]
        return exact[0] if exact else min(beginning, key=lambda pod: pod.name, default=None)

    async def run(self) -> None:
        await self.place.cache.synced()
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._reconcile(tasks)
                await self._due.wait()
                self._due.clear()

    async def agent_restarted(self) -> None:
        """The agent has forgotten its proxies: tell it again."""
        for pod in list(self.pods.values()):
            try:
                await pod.tell_agent()
            except AgentRefused as error:
                log.warning("agent was not told again", pod=pod.name, error=str(error))

    def _reconcile(self, tasks: asyncio.TaskGroup) -> None:
        present = {pod["metadata"]["uid"]: pod for pod in self.place.cache.state[PODS].values()}
        for uid, runner in self.pods.items():
            runner.seen(present.get(uid))
        for uid, pod in present.items():
            if uid not in self.pods and pod["spec"].get("nodeName") and not is_going(pod):
                self.pods[uid] = PodRunner(pod, self.place)
                tasks.create_task(self._run(self.pods[uid]), name=f"pod {pod['metadata']['name']}")

    async def _run(self, runner: PodRunner) -> None:
        try:
            await runner.run()
        except* Exception as errors:
            log.error("pod failed", pod=runner.name, exc_info=errors.exceptions[0])
        finally:
            del self.pods[runner.uid]

    def _changed(self, resource: ResourcePath, changes: list[Change[Object]]) -> None:
        if resource == PODS:
            self._due.set()
        elif resource == CONFIG_MAPS:
            changed = {change.name[0] for change in changes if change.name[1] == ROOT_CONFIG_MAP}
            for runner in self.pods.values():
                if runner.namespace in changed:
                    runner.roots_changed()
