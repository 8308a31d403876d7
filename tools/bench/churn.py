"""The core of a control plane in which everything comes, changes and goes, in this process: python -m bench.churn [--rounds 300]

Each round has twenty services with their Pods that come, change and go, two rules that change, and fifty proxies that come back. What is in memory
is counted to the object, so that what a round leaves behind shows after some hundreds. The run fails when it is more than two objects: whatever
stays of a service is twenty.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from dataclasses import replace
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2

from bench import workloads
from bench.in_process import Mesh, learn_and_settle, tables_of
from bench.processes import usage_of
from bench.workloads import WORKLOADS
from isthmus.api.registry import KINDS, decode
from isthmus.controlplane.tables import Tables
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, LISTENER
from isthmus.model.views import Proxy
from isthmus.xds.session import Session
from isthmus.xds.wire import Encoded

_EACH_ROUND = 20
_WARM_ROUNDS = 50
_FORGET_ROUNDS = 10
_LEFT_MAX = 2


class _Streams:
    """Of all proxies: each has everything, and answers what it is sent."""

    def __init__(self, mesh: Mesh, tables: Tables) -> None:
        self._mesh, self._tables = mesh, tables
        self._of: dict[Proxy, Session] = {}
        self.encoded = Encoded()

    def come(self) -> None:
        for proxy in self._tables.proxies:
            session, resources = Session(delta=True, encoded=self.encoded), self._tables.resources(proxy)
            assert resources is not None, "settled"
            session.publish(resources)
            for kind in (CLUSTER, LISTENER, ENDPOINTS):
                names = resources.of_type(ENDPOINTS) if kind == ENDPOINTS else ()
                session.receive(
                    discovery_pb2.DeltaDiscoveryRequest(type_url=kind, resource_names_subscribe=list(names))
                )
            self._of[proxy] = session
            self._answer(session)

    def tell(self) -> None:
        for proxy, changes in learn_and_settle(self._mesh, self._tables).items():
            resources = self._tables.resources(proxy)
            assert resources is not None, "settled"
            self._of[proxy].publish(resources, changes)
            self._answer(self._of[proxy])

    def _answer(self, session: Session) -> None:
        for found in session.status:
            if found.sent_nonce != found.acknowledged_nonce:
                session.receive(
                    discovery_pb2.DeltaDiscoveryRequest(type_url=found.type_url, response_nonce=found.sent_nonce)
                )


def _round(mesh: Mesh, streams: _Streams, number: int) -> None:
    namespace = workloads.namespace_of(number % mesh.workload.namespaces)
    names = [f"soak-{number}-{index}" for index in range(_EACH_ROUND)]
    places = [
        workloads.ProxyPlace(index, 0, namespace, name, f"10.251.0.{index + 1}") for index, name in enumerate(names)
    ]

    def slices(more: str) -> list[dict[str, Any]]:
        return [workloads.endpoint_slice(namespace, place.service, [place], more=more) for place in places]

    objects = [workloads.service(namespace, name) for name in names] + [workloads.pod(place) for place in places]
    rules = (
        workloads.virtual_service(mesh.workload, 0, f"m{number}"),
        workloads.destination_rule(mesh.workload, 1, f"m{number}"),
    )
    for step in ((*objects, *slices("")), (*rules, *slices("10.252.0.1"))):
        for body in step:
            _put(mesh, body, there=True)
        streams.tell()
    for body in (*slices(""), *objects):
        _put(mesh, body, there=False)
    streams.tell()
    streams.come()
    if number % _FORGET_ROUNDS == 0:
        streams.encoded.forget()


def _put(mesh: Mesh, body: dict[str, Any], *, there: bool) -> None:
    name = (body["metadata"]["namespace"], body["metadata"]["name"])
    mesh.put(0, body["kind"], name, decode(KINDS[body["kind"]], body) if there else None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.churn")
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    mesh = Mesh(replace(WORKLOADS["S"], proxies=50))
    streams = _Streams(mesh, tables_of(mesh))
    streams.come()
    first = last = 0
    for number in range(1, _WARM_ROUNDS + rounds + 1):
        _round(mesh, streams, number)
        if number % _WARM_ROUNDS == 0:
            gc.collect()
            last = sys.getallocatedblocks()
            first = first or last
            print(f"round {number}: {last} objects, {usage_of(os.getpid()).memory:.1f} MB", flush=True)
    return int(last - first > _LEFT_MAX * rounds)


if __name__ == "__main__":
    sys.exit(main())
