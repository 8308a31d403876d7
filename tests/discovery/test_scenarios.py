"""Each file in scenarios/ tells a story: the objects of some clusters, what some proxies make of them, and what is wrong.

ISTHMUS_REWRITE=1 writes the tables anew: read every changed line. scenarios/README.md says how to read and write one.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import decoded

from isthmus.assurance.gateway_status import documents, gateway_statuses
from isthmus.assurance.scenario import scenario_of
from isthmus.discovery.view import view_for
from isthmus.ingest.proxies import placed, proxy_of
from isthmus.ingest.snapshot import ClusterInput, snapshot_of
from isthmus.model.names import ClusterId
from isthmus.model.routing import Route
from isthmus.model.snapshot import Snapshot
from isthmus.model.topology import ImportState, Locality
from isthmus.model.views import Proxy, ProxyKind, Upstream, View
from isthmus.model.workloads import Endpoint

SCENARIOS = sorted(path for path in (Path(__file__).parent / "scenarios").glob("*.md") if path.stem != "README")
SEEN_BY = re.compile(r"(Seen by|Routes of) (sidecar|router) (\S+) at (\S+) in ([^\s,]+)(?:, network (\S+))?")


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_story_is_true(path):
    told = path.read_text()

    seen = retold(told)

    if os.environ.get("ISTHMUS_REWRITE"):
        path.write_text(seen)
    elif seen != told:
        diff = difflib.unified_diff(told.splitlines(), seen.splitlines(), "told", "seen", lineterm="", n=6)
        pytest.fail("\n".join([path.name, *diff]), pytrace=False)


@dataclass
class Mesh:
    """The clusters of a story; the first one is the config cluster."""

    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    switches: dict[str, Any] = field(default_factory=dict)

    def inputs(self) -> list[ClusterInput]:
        everywhere = self.objects.get("everywhere", [])
        return [
            ClusterInput(id=ClusterId(name), state=ImportState.LIVE, objects=decoded([*everywhere, *own]))
            for name, own in self.objects.items()
            if name != "everywhere"
        ]

    def snapshot(self) -> Snapshot:
        inputs = self.inputs()
        settings = scenario_of({"clusters": [{"id": "any"}], "env": self.switches}).settings
        return snapshot_of(settings, inputs, inputs[0].id)

    def view(self, proxy: Proxy) -> View:
        [own] = [cluster for cluster in self.inputs() if cluster.id == proxy.cluster]
        return view_for(placed(proxy, own.objects), self.snapshot())


def retold(text: str) -> str:
    """The story as it would be if it told the truth."""
    mesh, heading, extra, out = Mesh(), "", {}, []
    lines = iter(text.splitlines())
    for line in lines:
        out.append(line)
        if line.startswith("## "):
            heading, extra = line.removeprefix("## "), {}
        elif line == "```yaml":
            block = list(until_fence(lines))
            out += [*block, "```"]
            documents = [found for found in yaml.safe_load_all("\n".join(block)) if found]
            if heading.startswith(("Seen by", "Routes of")):
                [extra] = documents
            elif heading == "Switches":
                [mesh.switches] = documents
            else:
                mesh.objects.setdefault(heading.removeprefix("Cluster ").lower(), []).extend(documents)
        elif line == "```text":
            list(until_fence(lines))
            out += [*(row.rstrip() for row in table(mesh, heading, extra)), "```"]
    return "\n".join(out) + "\n"


def until_fence(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line == "```":
            return
        yield line


def table(mesh: Mesh, heading: str, extra: dict[str, Any]) -> list[str]:
    if heading == "Issues":
        return [f"{i.code} {i.severity.name.lower()}, {i.subject}: {i.what}" for i in mesh.snapshot().issues]
    if heading == "Statuses":
        return list(statuses(mesh))
    said = SEEN_BY.fullmatch(heading)
    assert said, (
        f"'{heading}' is not 'Seen by|Routes of sidecar|router NAME.NAMESPACE at IP in CLUSTER, network NETWORK'"
    )
    what, kind, name, ip, cluster, network = said.groups()
    node = f"{kind}~{ip}~{name}~{name.rpartition('.')[2]}.svc.cluster.local"
    metadata = {"CLUSTER_ID": cluster, "NETWORK": network or ""} | extra.get("metadata", {})
    locality = Locality.parse(extra.get("locality", ""))
    view = mesh.view(proxy_of(node, metadata, locality, None))
    if what == "Routes of":
        return list(listened(view) if view.proxy.scope.kind is ProxyKind.ROUTER else routed(view))
    return list(passed_through(view) if view.proxy.scope.kind is ProxyKind.ROUTER else called(view))


def called(view: View) -> Iterator[str]:
    """What applications beside a sidecar call: each service port, and the names that lead to Pods."""
    for upstream in view.outbound.upstreams:
        if upstream.service.namespace != "istio-system" or upstream.service.behind:
            ips = " ".join(upstream.virtual_ips) or "no address of its own"
            subset = f" subset {upstream.subset}" if upstream.subset else ""
            yield f"{upstream.service.hostname}:{upstream.port.number}{subset}  {upstream.port.protocol.value}, {ips}"
            yield from aligned(rows(upstream))
    services = [upstream.service for upstream in view.outbound.upstreams]
    headless = {str(service.hostname) for service in services if service.headless or service.near_in is not None}
    for record in view.outbound.names:
        if any(f".{record.host}".endswith(f".{host}") for host in headless):
            yield f"name {record.host} = {' '.join(record.ips)}"


def passed_through(view: View) -> Iterator[str]:
    """What a gateway lets through, by the SNI of a connection."""
    for port, upstream in view.outbound.exposed:
        if upstream.service.namespace != "istio-system" or upstream.service.behind:
            yield f"{port} {upstream.sni}"
            yield from aligned(rows(upstream))


def routed(view: View) -> Iterator[str]:
    """Where requests and connections of a sidecar's applications go, where a rule says so."""
    for upstream in view.outbound.upstreams:
        if upstream.routes or upstream.connections:
            yield f"{upstream.service.hostname}:{upstream.port.number}"
            yield from ("  " + route for route in map(told, upstream.routes))
            for connection in upstream.connections:
                yield f"  connections{named_hosts(connection.sni_hosts)} -> {destinations(connection.clusters)}"
    for extra in view.outbound.extra_hosts:
        yield f"{extra.host}:{extra.port}"
        yield from ("  " + route for route in map(told, extra.routes))


def listened(view: View) -> Iterator[str]:
    """What a gateway listens for, and where it leads."""
    for port in view.outbound.gateway_ports:
        for chain in port.chains:
            how = f"TLS {chain.tls.mode} {' '.join(chain.tls.credentials)}".rstrip() if chain.tls else "plaintext"
            how = "TLS passed through" if chain.passes_tls_through else how
            bind = f" on {port.bind}" if port.bind else ""
            yield f"port {port.number}{bind}{named_hosts(chain.sni_hosts)}, {how}"
            for host in chain.hosts:
                yield f"  {host.host}{', redirected to https' if host.redirect_to_https else ''}"
                yield from ("    " + route for route in map(told, host.routes))
            if not chain.table:
                yield f"  -> {destinations(chain.clusters)}"


def named_hosts(hosts: tuple[str, ...]) -> str:
    return f" for {' '.join(hosts)}" if hosts else ""


def told(route: Route) -> str:
    match, handling = route.match, route.handling
    said = [text.value if text else "" for text in (match.method,)]
    if match.uri:
        said.append(
            {"exact": "={}", "prefix": "{}*", "segments": "{}/...", "regex": "~{}"}[match.uri.comparison].format(
                match.uri.value
            )
        )
    said += [f"{name}:{text.value}" for name, text in match.headers] + [
        f"?{name}={text.value}" for name, text in match.query
    ]
    found = destinations([(name, weight) for name, weight, _ in route.clusters])
    if handling.redirect:
        there = handling.redirect
        path = there.path or there.prefix or (there.regex and there.regex[1]) or ""
        found = (
            f"redirect {there.code} {there.scheme or '*'}://{there.authority or '*'}:{there.port or '*'}{path or '*'}"
        )
    elif handling.response_status:
        found = f"answer {handling.response_status}"
    changes = [f"mirror {percent:g}% {short(name)}" for name, percent in route.mirrors]
    if handling.rewrite_path or handling.rewrite_regex:
        changes.append(f"path {handling.rewrite_path or handling.rewrite_regex}")
    if handling.rewrite_authority:
        changes.append(f"host {handling.rewrite_authority}")
    if handling.timeout_seconds is not None:
        changes.append(f"within {handling.timeout_seconds:g}s")
    if handling.retries is not None:
        changes.append(f"{handling.retries.attempts} retries")
    for verb in ("request_set", "request_add", "request_remove", "response_set", "response_add", "response_remove"):
        changes += [f"{verb.replace('_', ' ')} {each}" for each in getattr(handling.headers, verb)]
    return f"{' '.join(filter(None, said)) or 'everything'} -> {found}{', ' if changes else ''}{', '.join(changes)}"


def destinations(clusters: Any) -> str:
    if len(clusters) == 1:
        return short(clusters[0][0])
    return " ".join(f"{short(name)}={weight}" for name, weight in clusters) or "nowhere"


def short(cluster: str) -> str:
    _, port, subset, host = cluster.split("|")
    return f"{host.removesuffix('.svc.cluster.local')}:{port}{'/' + subset if subset else ''}"


def statuses(mesh: Mesh) -> Iterator[str]:
    """What the writers of Gateway API's objects are told: where something does not hold, why."""
    config = mesh.inputs()[0]
    for each in documents(gateway_statuses(mesh.snapshot(), config.objects, "now")):
        status = each["status"]
        name = "/".join(filter(None, (each["metadata"].get("namespace"), each["metadata"]["name"])))
        addresses = " ".join(address["value"] for address in status.get("addresses", ()))
        yield f"{each['kind']} {name}{' at ' if addresses else ''}{addresses}{conditions(status)}"
        for listener in status.get("listeners", ()):
            kinds = " ".join(kind["kind"] for kind in listener["supportedKinds"]) or "nothing"
            yield f"  {listener['name']}: {listener['attachedRoutes']} of {kinds}{conditions(listener)}"
        for parent in status.get("parents", ()):
            ref = parent["parentRef"]
            yield (
                f"  at {ref['kind']} {ref['name']} {ref.get('sectionName', ref.get('port', ''))}".rstrip()
                + conditions(parent)
            )


def conditions(status: dict[str, Any]) -> str:
    """Those that are not as one wishes."""
    usual = {"Conflicted": "False"}
    found = [
        each
        for each in status.get("conditions", ())
        if each["status"] != usual.get(each["type"], "True") or each["reason"] not in ("NoConflicts", each["type"])
    ]
    return "".join(f"; {each['type']} {each['status']}, {each['reason']}: {each['message']}" for each in found)


def rows(upstream: Upstream) -> Iterator[tuple[str, ...]]:
    for group in upstream.groups:
        for to in group.destinations:
            place = str(group.locality) or "-"
            if to.through:
                how = f"gateway of {to.through.network}, for {', '.join(map(named, to.stands_for))}"
            else:
                how = f"{named(to.stands_for[0])}{'' if to.mutual_tls else ', plaintext'}"
            yield f"{to.address}:{to.port}", str(to.weight), f"P{group.priority}", place, how
    for left in upstream.left_out:
        yield left.endpoint.ip, "-", "-", "-", f"{named(left.endpoint)} left out, {left.why.reason}: {left.why.detail}"


def named(endpoint: Endpoint) -> str:
    return f"{endpoint.workload.name or endpoint.ip or 'no address'}@{endpoint.cluster}"


def aligned(found: Iterator[tuple[str, ...]]) -> list[str]:
    cells = list(found)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)][:-1]
    return ["  " + "  ".join([*map(str.ljust, row, widths), row[-1]]) for row in cells]
