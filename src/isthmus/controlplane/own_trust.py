"""What proxies are asked to do about the mesh's own authorities; and how far they are, for who asks.

`isthmus trust` writes into a ConfigMap beside the authority's Secret, and reads the answers from another one: so it needs nothing but the API server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

import msgspec
import structlog

from isthmus.api.core import ConfigMap
from isthmus.controlplane.authority import AuthorityInUse
from isthmus.controlplane.shown import Shown
from isthmus.controlplane.world import World
from isthmus.envoy.own_trust import NAME, own_trust
from isthmus.envoy.resources import OWN_TRUST
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import AlreadyExists, KubernetesError, NotFound
from isthmus.kubernetes.reflector import Reflector
from isthmus.kubernetes.resources import CONFIG_MAPS
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.model.trust import OwnTrust
from isthmus.trust import rotation, x509
from isthmus.trust.rotation import Behind, Record, Report
from isthmus.xds.directory import Stream, Streams

COMING_BACK_SECONDS = 10.0
"""After a start: until then proxies of before may not have come back, and no question is answered."""
_BEHIND_MAX = 50
_RETRY_SECONDS = 1.0

log = structlog.get_logger()


class OwnTrustDuty:
    """`run` until cancelled. `name` is this control plane's Pod."""

    def __init__(
        self,
        client: ApiClient,
        world: World,
        use: AuthorityInUse,
        shown: Shown,
        streams: Streams,
        *,
        name: str,
        cluster: ClusterId,
        namespace: Namespace,
    ) -> None:
        self._client, self._world, self._use, self._shown, self._streams = client, world, use, shown, streams
        self._name = name
        self._cluster = cluster
        self._namespace = namespace
        self._due = asyncio.Event()
        self._answered = ""
        self._found: Reflector[ConfigMap] = Reflector(
            client,
            CONFIG_MAPS,
            partial(msgspec.json.decode, type=ConfigMap),
            lambda _: self._due.set(),
            namespace=namespace,
            selector={"fieldSelector": f"metadata.name={rotation.CONFIG_MAP}"},
            optional=True,
        )
        use.news = self._due.set

    async def run(self) -> None:
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._found.run(), name="watch states of roots")
            await self._found.synced.wait()
            while True:
                self._due.clear()
                found = self._found.values.get((self._namespace, rotation.CONFIG_MAP))
                data = found.data if found is not None else {}
                asked = self._asked(self._records(data), data.get(rotation.CUT, ""))
                self._world.ask_of_proxies(asked)
                left = began + COMING_BACK_SECONDS - asyncio.get_running_loop().time()
                question = data.get(rotation.QUESTION, "")
                try:
                    async with asyncio.timeout(await self._answer(question, asked, left)):
                        await self._due.wait()
                except TimeoutError:
                    continue

    def _records(self, data: dict[str, str]) -> dict[str, Record]:
        try:
            records = rotation.records_of(data)
        except ValueError as error:
            self._world.report("states of roots", (self._unreadable(str(error)),))
            return {}
        self._world.report("states of roots", ())
        return records

    def _asked(self, records: dict[str, Record], cut: str) -> OwnTrust:
        authority, prepared = self._use.current, self._use.prepared
        roots = authority.roots
        next_root = x509.fingerprint(prepared.root) if prepared is not None else ""
        return OwnTrust(
            roots=tuple(sorted(roots)),
            tainted=rotation.tainted(records, roots, x509.fingerprint(authority.root)),
            proved=(next_root,) if next_root in roots else (),
            cut=cut,
            crl=authority.crl_pem,
        )

    async def _answer(self, question: str, asked: OwnTrust, too_early_seconds: float) -> float | None:
        """When to try again, if there is a question that could not be answered."""
        if not question or question == self._answered:
            return None
        if too_early_seconds > 0:
            return too_early_seconds
        report = msgspec.json.encode(self._report(question, asked)).decode()
        try:
            await self._write({self._name: report})
        except KubernetesError as error:
            log.warning("cannot answer how far proxies are", error=str(error))
            return _RETRY_SECONDS
        self._answered = question
        return None

    async def _write(self, data: dict[str, str]) -> None:
        try:
            await self._client.patch(CONFIG_MAPS, rotation.REPORTS, {"data": data}, self._namespace)
        except NotFound:
            metadata = {"name": rotation.REPORTS, "namespace": self._namespace}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            try:
                await self._client.create(CONFIG_MAPS, body, self._namespace)
            except AlreadyExists:
                await self._client.patch(CONFIG_MAPS, rotation.REPORTS, {"data": data}, self._namespace)

    def _report(self, question: str, asked: OwnTrust) -> Report:
        authority = self._use.current
        shown = x509.leads_to(self._shown.current.serving.chain_pem, x509.parse_certificates(authority.root_pem))
        proxies, behind = how_far(self._streams.all, asked)
        return Report(
            question=question,
            signs_under=x509.fingerprint(authority.root),
            shows=min(shown, default=""),
            roots=asked.roots,
            prepared=x509.fingerprint(self._use.prepared.root) if self._use.prepared is not None else "",
            refusal=self._use.refusal,
            asked=asked,
            proxies=proxies,
            behind=tuple(behind[:_BEHIND_MAX]),
            behind_total=len(behind),
        )

    def _unreadable(self, why: str) -> Issue:
        return Issue(
            subject=Subject(self._cluster, "ConfigMap", self._namespace, rotation.CONFIG_MAP),
            code="ISM0210",
            severity=Severity.ERROR,
            what=f"{why}; no root counts as tainted",
            fix="let `isthmus trust` write it",
            field=f"data.{rotation.ROOTS}",
        )


def how_far(streams: Iterable[Stream], asked: OwnTrust) -> tuple[int, list[Behind]]:
    """How many proxies are connected, and which of them have not acknowledged just this."""
    wanted = next((resource.version for _, resource in own_trust(asked)), "")
    nodes: dict[str, list[Stream]] = {}
    for stream in streams:
        nodes.setdefault(stream.node_id, []).append(stream)
    behind = [
        Behind(proxy=node.split("~")[2], cluster=of_node[0].cluster, why=_why(of_node))
        for node, of_node in sorted(nodes.items())
        if not any(stream.session.accepted(OWN_TRUST, NAME) == wanted for stream in of_node)
    ]
    return len(nodes), behind


def _why(streams: list[Stream]) -> str:
    said = [each for stream in streams for each in stream.session.status if each.type_url == OWN_TRUST]
    if not said:
        return "its agent is not connected, or does not tell what its proxy holds"
    return next((each.error for each in said if each.error), "it has not acknowledged yet")
