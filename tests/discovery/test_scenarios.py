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

from isthmus.api.registry import decode, kind_of
from isthmus.assurance.scenario import scenario_of
from isthmus.discovery.view import view_for
from isthmus.ingest.proxies import placed, proxy_of
from isthmus.ingest.snapshot import ClusterInput, snapshot_of
from isthmus.model.names import ClusterId
from isthmus.model.snapshot import Snapshot
from isthmus.model.topology import ImportState, Locality
from isthmus.model.views import Proxy, ProxyKind, Upstream, View
from isthmus.model.workloads import Endpoint

SCENARIOS = sorted(path for path in (Path(__file__).parent / "scenarios").glob("*.md") if path.stem != "README")
SEEN_BY = re.compile(r"Seen by (sidecar|router) (\S+) at (\S+) in ([^\s,]+)(?:, network (\S+))?")


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
            if heading.startswith("Seen by"):
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


def decoded(objects: list[dict[str, Any]]) -> dict[str, dict[tuple[str, str], object]]:
    found: dict[str, dict[tuple[str, str], object]] = {}
    for each in objects:
        kind, metadata = kind_of(each["apiVersion"], each["kind"]), each["metadata"]
        assert kind, f"{each['apiVersion']} {each['kind']} is read"
        found.setdefault(kind.key, {})[metadata.get("namespace", ""), metadata["name"]] = decode(kind, each)
    return found


def table(mesh: Mesh, heading: str, extra: dict[str, Any]) -> list[str]:
    if heading == "Issues":
        return [f"{i.code} {i.severity.name.lower()}, {i.subject}: {i.what}" for i in mesh.snapshot().issues]
    said = SEEN_BY.fullmatch(heading)
    assert said, f"'{heading}' is not 'Seen by sidecar|router NAME.NAMESPACE at IP in CLUSTER, network NETWORK'"
    kind, name, ip, cluster, network = said.groups()
    node = f"{kind}~{ip}~{name}~{name.rpartition('.')[2]}.svc.cluster.local"
    metadata = {"CLUSTER_ID": cluster, "NETWORK": network or ""} | extra.get("metadata", {})
    locality = Locality.parse(extra.get("locality", ""))
    view = mesh.view(proxy_of(node, metadata, locality, None))
    return list(passed_through(view) if view.proxy.scope.kind is ProxyKind.ROUTER else called(view))


def called(view: View) -> Iterator[str]:
    """What applications beside a sidecar call: each service port, and the names that lead to Pods."""
    for upstream in view.outbound.upstreams:
        if upstream.service.namespace != "istio-system":
            ips = " ".join(upstream.virtual_ips) or "no address of its own"
            subset = f" subset {upstream.subset}" if upstream.subset else ""
            yield f"{upstream.service.hostname}:{upstream.port.number}{subset}  {upstream.port.protocol.value}, {ips}"
            yield from aligned(rows(upstream))
    headless = {str(upstream.service.hostname) for upstream in view.outbound.upstreams if upstream.service.headless}
    for record in view.outbound.names:
        if record.host in headless or record.host.partition(".")[2] in headless:
            yield f"name {record.host} = {' '.join(record.ips)}"


def passed_through(view: View) -> Iterator[str]:
    """What a gateway lets through, by the SNI of a connection."""
    for port, upstream in view.outbound.exposed:
        if upstream.service.namespace != "istio-system":
            yield f"{port} {upstream.sni}"
            yield from aligned(rows(upstream))


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
