"""What a control plane shows of itself: readiness and metrics to anyone, the rest to callers on its own host.

Each page is also a command: `isthmus proxy-status`, `isthmus remote-clusters`, ….
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.registry import Collector

from isthmus import __version__
from isthmus.controlplane.cluster_table import add_metrics
from isthmus.controlplane.clusters import RemoteClusters
from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.delivery_metrics import add_delivery_metrics
from isthmus.controlplane.feeds import ClusterFeed
from isthmus.controlplane.peers import Peers
from isthmus.controlplane.questions import Questions
from isthmus.controlplane.settings import ControlPlaneSettings
from isthmus.envoy.expand import document_of
from isthmus.envoy.patches.values import issues_of
from isthmus.envoy.resources import BUNDLES, CLUSTER, ENDPOINTS, EXTENSION, LISTENER, NAME_TABLE, OWN_TRUST, ROUTES
from isthmus.incremental.describe import mermaid, summaries
from isthmus.model.quotas import QuotaUse
from isthmus.xds.directory import Streams

_SHORT = {
    CLUSTER: "cluster",
    LISTENER: "listener",
    ENDPOINTS: "endpoint",
    EXTENSION: "extension",
    ROUTES: "route",
    NAME_TABLE: "nameTable",
    BUNDLES: "bundles",
    OWN_TRUST: "ownTrust",
}


class DebugPages:
    """Read-only views of a running control plane."""

    def __init__(
        self,
        settings: ControlPlaneSettings,
        delivery: Delivery,
        own: ClusterFeed,
        clusters: RemoteClusters,
        streams: Streams,
        counted: Iterable[Collector],
        certificates: Callable[[], Mapping[str, str]],
        peers: Peers,
    ) -> None:
        """`counted` are metrics of other parts; `certificates` tells what this process signs and serves with, by use, as PEM without keys."""
        self._settings = settings
        self._delivery = delivery
        self._own = own
        self._clusters = clusters
        self.serves_proxies = False
        """Whether the ports that proxies need are open."""
        self._streams = streams
        self._counted = tuple(counted)
        self._certificates = certificates
        self._peers = peers

    def readiness(self) -> web.Application:
        """`/ready`, for probes."""
        application = web.Application()
        application.router.add_get("/ready", self._ready)
        return application

    def monitoring(self) -> web.Application:
        """Metrics and version for anyone; `/debug/…` for the loopback address only."""
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/version", _answering(lambda _: {"version": __version__}))
        for path, answer in {
            "/debug/syncz": self._syncz,
            "/debug/clusterz": lambda _: self._clusters.table(),
            "/debug/readyz": lambda _: [{"waitsFor": each} for each in self._waiting_for()],
            "/debug/peerz": lambda _: self._peers.table(),
            "/debug/quotaz": lambda _: self._quotas(),
            "/debug/issues": self._issues,
            "/debug/trustz": lambda _: self._certificates(),
            "/debug/graph": lambda _: [summary_of(s) for s in summaries(self._delivery.tables.derivations.graph)],
            "/debug/config_dump": self._config_dump,
        }.items():
            application.router.add_get(path, _answering(answer, local_only=True))
        questions = Questions(self._delivery)
        for path, asked in {
            "/debug/why": questions.why,
            "/debug/why-not": questions.why_not,
            "/debug/dns": questions.dns,
        }.items():
            application.router.add_get(path, _answering_later(asked))
        application.router.add_get("/debug/graph.mmd", self._drawing)
        return application

    async def _ready(self, _: web.Request) -> web.Response:
        waiting = self._waiting_for()
        if not waiting:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="".join(f"waiting for {each}\n" for each in waiting))

    def _waiting_for(self) -> list[str]:
        """What keeps this control plane from being ready; empty if it is."""
        if self._delivery.is_ready and self.serves_proxies:
            return []
        missing = [f"a right in {self._own.cluster}: {issue.fix} ({issue.what})" for issue in self._own.missing_rights]
        if missing:
            return missing
        listing = [f"{kind} of {self._own.cluster}" for kind in self._own.waiting_for]
        return listing or ["the first snapshot of all clusters"]

    async def _drawing(self, request: web.Request) -> web.Response:
        _require_local(request)
        return web.Response(text=mermaid(self._delivery.tables.derivations.graph))

    def _syncz(self, _: web.Request) -> list[dict[str, Any]]:
        """One row for each proxy: its streams (its Envoy's, its agent's) put together."""
        by_node: dict[str, dict[str, Any]] = {}
        for stream in self._streams.all:
            row = by_node.setdefault(
                stream.node_id,
                {
                    "proxy": stream.node_id.split("~")[2],
                    "proxy_type": stream.node_id.split("~")[0],
                    "cluster_id": stream.cluster,
                    "proxy_version": "",
                    "istiod": self._settings.pod_name,
                    "resources": {},
                },
            )
            if stream.user_agent:
                row["proxy_version"] = stream.user_agent
            for status in stream.session.status:
                row["resources"][_SHORT.get(status.type_url, status.type_url)] = {
                    "subscribed": status.subscribed,
                    "sent": status.sent_nonce,
                    "acked": status.acknowledged_nonce,
                    "settled": stream.session.settled,
                    "resourcesSent": status.resources_sent,
                    "lastError": status.error,
                }
        return [by_node[node] for node in sorted(by_node)]

    def _quotas(self) -> list[QuotaUse]:
        snapshot = self._delivery.tables.snapshot
        return sorted([*snapshot.quotas, *snapshot.service_quotas]) if snapshot else []

    def _issues(self, _: web.Request) -> list[dict[str, Any]]:
        snapshot = self._delivery.tables.snapshot
        found = issues_of(snapshot) if snapshot else self._own.missing_rights
        failures = self._delivery.tables.derivations.failures()
        return [
            {
                "code": issue.code,
                "level": issue.severity.name.capitalize(),
                "origin": str(issue.subject),
                "field": issue.field,
                "message": issue.what,
                "fix": issue.fix,
            }
            for issue in found
        ] + [
            {
                "code": "ISM0001",
                "level": "Error",
                "origin": each.about or each.what,
                "field": "",
                "message": f"{each.what}: {each.error!r}",
                "fix": "report it",
            }
            for each in failures
        ]

    def _config_dump(self, request: web.Request) -> dict[str, Any]:
        name = request.query.get("proxyID", "")
        proxy = self._delivery.find(name)
        resources = self._delivery.tables.resources(proxy) if proxy else None
        if proxy is None or resources is None:
            raise web.HTTPNotFound(text=f"no proxy {name!r} is connected here\n")
        return document_of({"id": proxy.id}, resources)

    async def _metrics(self, _: web.Request) -> web.Response:
        registry = CollectorRegistry()
        snapshot = self._delivery.tables.snapshot

        def gauge(name: str, meaning: str, value: float) -> None:
            Gauge(name, meaning, registry=registry).set(value)

        tables = self._delivery.tables
        add_delivery_metrics(registry, self._streams, self._delivery.convergence, tables.scopes, tables.stocks)
        gauge("pilot_services", "Services in the mesh.", len(snapshot.services) if snapshot else 0)
        for collector in self._counted:
            registry.register(collector)
        add_metrics(registry, self._clusters.table(), self._clusters.events, self._clusters.timeouts)
        self._peers.add_metrics(registry)
        add_quota_metrics(registry, self._quotas())
        gauge("isthmus_issues", "Objects with something wrong.", len(issues_of(snapshot)) if snapshot else 0)
        gauge("isthmus_rounds_total", "Rounds of delivery since the start.", self._delivery.rounds)
        for summary in summaries(self._delivery.tables.derivations.graph):
            label = summary.name.replace(" ", "_")
            gauge(f"isthmus_{label}_cells", f"Values kept of {summary.name}.", summary.cells)
            gauge(f"isthmus_{label}_computed_total", f"Computations of {summary.name}.", summary.computed)
        return web.Response(body=generate_latest(registry), content_type="text/plain", charset="utf-8")


def add_quota_metrics(registry: CollectorRegistry, uses: Iterable[QuotaUse]) -> None:
    labels = ["namespace", "resource"]
    used = Gauge("isthmus_quota_used", "What namespaces add to what all others are given.", labels, registry=registry)
    allowed = Gauge("isthmus_quota_allowed", "What they may add, by the quota.", labels, registry=registry)
    for use in uses:
        used.labels(use.namespace, use.resource).set(use.used)
        allowed.labels(use.namespace, use.resource).set(use.allowed)


def summary_of(summary: Any) -> dict[str, Any]:
    return {
        name: getattr(summary, name) for name in ("name", "cells", "computed", "patched", "cut_off", "failing", "reads")
    }


def _require_local(request: web.Request) -> None:
    """Debug pages hold other tenants' configuration: only what runs on the same host may see all of it."""
    if request.remote not in ("127.0.0.1", "::1"):
        raise web.HTTPForbidden(text="debug pages are served to the loopback address only\n")


def _answering(answer: Callable[[web.Request], Any], *, local_only: bool = False) -> Any:
    async def handler(request: web.Request) -> web.Response:
        if local_only:
            _require_local(request)
        return web.Response(body=msgspec.json.encode(answer(request)), content_type="application/json")

    return handler


def _answering_later(answer: Callable[[web.Request], Awaitable[dict[str, Any]]]) -> Any:
    async def handler(request: web.Request) -> web.Response:
        _require_local(request)
        return web.Response(body=msgspec.json.encode(await answer(request)), content_type="application/json")

    return handler
