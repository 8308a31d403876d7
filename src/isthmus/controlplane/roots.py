"""The mesh's roots, in every namespace of a cluster: what agents check their control plane against.

Several control planes may write into one cluster. Whoever publishes in its system namespace first decides; another one whose roots are among
those published helps to publish the same in new namespaces, and one whose roots are not says so (ISM0205) and writes nothing: two that
overwrite each other would break each other's proxies in turn. So does the first itself, if it comes back with none of the roots that the
others rely on. A cluster's own control plane always publishes, and takes over what another cluster's published before it. Which others may,
the cluster says itself, by Istio's annotation on its system namespace. Of two of its own, in system namespaces of their own, each keeps the
namespaces in which it was first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec
import structlog

from isthmus.api.core import ConfigMap
from isthmus.api.meta import KubernetesObject
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, KubernetesError, NotFound
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import CONFIG_MAPS, NAMESPACES
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.trust import x509

CONFIG_MAP = "istio-ca-root-cert"
KEY = "root-cert.pem"
PUBLISHED_BY = "isthmus.io/published-by"
WRITERS = "topology.istio.io/controlPlaneClusters"
"""On the system namespace: the ids of the clusters whose control planes may write into this one, or `*`."""

_USUAL_SYSTEM = "istio-system"
_RETRY_SECONDS = 1.0

log = structlog.get_logger()


class RootPublisher:
    """One cluster's, through one client. `home` is where this control plane runs; `is_own`, whether the cluster is its config cluster."""

    def __init__(
        self,
        client: ApiClient,
        root_pem: str,
        *,
        cluster: ClusterId,
        home: ClusterId,
        is_own: bool,
        system_namespace: Namespace,
        report: Callable[[Iterable[Issue]], None],
    ) -> None:
        self._client = client
        self._data = {KEY: root_pem}
        self._cluster = cluster
        self._home = home
        self._me = home if system_namespace == _USUAL_SYSTEM else f"{home}/{system_namespace}"
        self._is_own = is_own
        self._system = system_namespace
        self._report = report
        self._work = asyncio.Event()
        self.trusted = asyncio.Event()
        """We may write into the cluster, and what it is given are our roots, so that it trusts what we sign."""

        self._namespaces: Reflector[KubernetesObject] = Reflector(
            client, NAMESPACES, partial(msgspec.json.decode, type=KubernetesObject), self._due
        )
        self._published: Reflector[ConfigMap] = Reflector(
            client,
            CONFIG_MAPS,
            partial(msgspec.json.decode, type=ConfigMap),
            self._due,
            selector={"fieldSelector": f"metadata.name={CONFIG_MAP}"},
            optional=True,
        )

    async def run(self) -> None:
        """Until cancelled: whenever a namespace comes or a ConfigMap changes."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._namespaces.run(), name=f"watch namespaces of {self._cluster}")
            tasks.create_task(self._published.run(), name=f"watch published roots of {self._cluster}")
            await self._published.synced.wait()
            while True:
                await self._work.wait()
                self._work.clear()
                try:
                    await self._publish()
                except KubernetesError as error:
                    log.warning("cannot publish the roots", cluster=self._cluster, error=str(error))
                    await asyncio.sleep(_RETRY_SECONDS)
                    self._work.set()

    def publish(self, root_pem: str) -> None:
        """These are the roots from now on."""
        self._data = {KEY: root_pem}
        self._work.set()

    def _due(self, _: object) -> None:
        self._work.set()

    async def _publish(self) -> None:
        first = self._published.values.get((self._system, CONFIG_MAP))
        conflict = self._conflict(first) if self._may_write() else None
        self._report(() if conflict is None else (conflict,))
        if not self._may_write() or (conflict is not None and not self._is_own):
            self.trusted.clear()
            return
        whose, data = self._me, self._data
        if first is not None and not self._is_mine(first):
            whose, data = _publisher(first), first.data
        self.trusted.set()
        for namespace in sorted((n for _, n in self._namespaces.values), key=lambda n: (n != self._system, n)):
            present = self._published.values.get((namespace, CONFIG_MAP))
            if present is None:
                await self._create(namespace, _body(whose, data))
            elif self._is_mine(present) and (present.data, _publisher(present)) != (data, whose):
                await self._client.patch(CONFIG_MAPS, CONFIG_MAP, _body(whose, data), namespace)

    def _may_write(self) -> bool:
        return self._is_own or bool({"*", self._home} & self._writers())

    def _writers(self) -> set[str]:
        system = self._namespaces.values.get(("", self._system))
        said = system.metadata.annotations.get(WRITERS, "") if system else ""
        return {name.strip() for name in said.split(",")} - {""}

    def _is_mine(self, present: ConfigMap) -> bool:
        whose = _publisher(present)
        if whose in ("", self._me):
            return True
        return self._is_own and (present.metadata.namespace == self._system or whose.partition("/")[0] != self._home)

    async def _create(self, namespace: str, content: dict[str, Any]) -> None:
        named = {"name": CONFIG_MAP, "namespace": namespace, "labels": {"istio.io/config": "true"}}
        body = content | {"apiVersion": "v1", "kind": "ConfigMap", "metadata": content["metadata"] | named}
        try:
            await self._client.create(CONFIG_MAPS, body, namespace)
        except (AlreadyExists, NotFound):
            return  # Another was faster, which the watch will show; or the namespace has gone meanwhile.

    def _conflict(self, first: ConfigMap | None) -> Issue | None:
        """Why what is published may not become what is ours, if it may not."""
        ours = self._data[KEY]
        if self._is_own:
            others = [each for each in self._published.values.values() if not self._is_mine(each)]
            where = sorted(each.metadata.namespace for each in others if not holds(each.data.get(KEY, ""), ours))
            return self._contradicted(f"in {', '.join(where)} are those of another control plane") if where else None
        if first is None or (whose := _publisher(first)) == "":
            return None
        published = first.data.get(KEY, "")
        if whose != self._me:
            return None if holds(published, ours) else self._contradicted(f"here are those of {whose}")
        if self._writers() == {self._home} or shares(published, ours):
            return None
        return self._contradicted("here are those of before, on which the other control planes of this cluster rely")

    def _contradicted(self, whose: str) -> Issue:
        return Issue(
            subject=Subject(self._cluster, "ConfigMap", self._system, CONFIG_MAP),
            code="ISM0205",
            severity=Severity.ERROR,
            what=f"the roots published {whose}, and ours are not among them: "
            f"proxies there do not trust the control plane of {self._me}",
            fix=f"give all of them one root (Secret cacerts), or take one of them out of the annotation {WRITERS}, "
            f"or say on the ConfigMaps whose they are ({PUBLISHED_BY})",
        )


def _publisher(present: ConfigMap) -> str:
    """Whose roots these are; empty if nobody says so."""
    return present.metadata.annotations.get(PUBLISHED_BY, "")


def _body(whose: str, data: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"annotations": {PUBLISHED_BY: whose}}, "data": data}


def holds(published_pem: str, root_pem: str) -> bool:
    """Whether every one of our roots is among those published."""
    try:
        return set(x509.to_der(root_pem)) <= set(x509.to_der(published_pem))
    except x509.BadCertificate:
        return False


def shares(published_pem: str, root_pem: str) -> bool:
    """Whether one of our roots is among those published: then ours follow from them in steps."""
    try:
        return bool(set(x509.to_der(root_pem)) & set(x509.to_der(published_pem)))
    except x509.BadCertificate:
        return False
