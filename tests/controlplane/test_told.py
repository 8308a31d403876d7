"""What proxies are told, from the objects to their streams: whoever applies every response has what there is, and reconnecting costs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.assurance.rendering import node_of, proxy_in
from isthmus.assurance.scenario import Scenario, scenario_of
from isthmus.controlplane.tables import TYPES, Tables
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, NAME_TABLE, ROUTES, ResourceSet
from isthmus.model.views import Proxy
from isthmus.xds.session import Session
from isthmus.xds.wire import Encoded, Response

PATH = Path(__file__).parents[1] / "assurance" / "two-shores.yaml"
DOCUMENT = yaml.safe_load(PATH.read_text())
OBJECTS = [(cluster, index) for cluster in (0, 1) for index in range(len(DOCUMENT["clusters"][cluster]["objects"]))]
CLIENT = ("sidecar/client-0.sample", "east")
EVERYTHING = (CLUSTER, LISTENER, NAME_TABLE)


def scenario(without: frozenset = frozenset()) -> Scenario:
    clusters = [
        cluster | {"objects": [obj for index, obj in enumerate(cluster["objects"]) if (number, index) not in without]}
        for number, cluster in enumerate(DOCUMENT["clusters"])
    ]
    return scenario_of(DOCUMENT | {"clusters": clusters})


class Client:
    """Subscribes to everything there is by name, applies and acknowledges; as fast as `patience` says."""

    def __init__(self, encoded: Encoded) -> None:
        self.session = Session(delta=True, encoded=encoded)
        self.has: dict[str, dict[str, str]] = {kind: {} for kind in TYPES}
        self.unread: list[Response] = []
        self.wanted: dict[str, set[str]] = {ENDPOINTS: set(), EXTENSION: set(), ROUTES: set()}
        self.asked_again: set[tuple[str, str]] = set()
        """Names that were given up and wanted again: their first answer may still be unread when the second one comes."""

    def connect(self, resources: ResourceSet) -> None:
        self.unread += self.session.publish(resources)
        for kind in EVERYTHING:
            self.unread += self.session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=kind))

    def told(self, resources: ResourceSet, changes) -> None:
        self.unread += self.session.publish(resources, changes)

    def read(self, count: int) -> None:
        for _ in range(min(count, len(self.unread))):
            response = discovery_pb2.DeltaDiscoveryResponse.FromString(b"".join(self.unread.pop(0)))
            has = self.has[response.type_url]
            for name in response.removed_resources:
                has.pop(name, None)
            for found in response.resources:
                again = response.type_url == ENDPOINTS or (response.type_url, found.name) in self.asked_again
                assert again or has.get(found.name) != found.version, "only what changed is sent"
                has[found.name] = found.version
            self.unread += self.session.receive(
                discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            )

    def want(self, resources: ResourceSet) -> None:
        """By name: the endpoints and routes that there are now."""
        for kind, wanted in self.wanted.items():
            names = set(resources.of_type(kind))
            if names != wanted:
                self.unread += self.session.receive(
                    discovery_pb2.DeltaDiscoveryRequest(
                        type_url=kind,
                        resource_names_subscribe=sorted(names - wanted),
                        resource_names_unsubscribe=sorted(wanted - names),
                    )
                )
                for name in wanted - names:
                    self.has[kind].pop(name, None)
                    self.asked_again.add((kind, name))
                self.wanted[kind] = names


def settle(kept: Tables) -> dict:
    for _ in kept.settling():
        pass
    return kept.changed()


@pytest.fixture(scope="module")
def proxies() -> list[Proxy]:
    whole = scenario()
    names = [CLIENT, ("sidecar/v1-0.sample", "east"), ("sidecar/v2-0.sample", "west")]
    return [proxy_in(whole, node_of(whole, *name)) for name in names]


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.frozensets(st.sampled_from(OBJECTS), max_size=4), st.integers(0, 12)), max_size=6))
def test_who_applies_every_response_has_what_there_is(proxies, history):
    kept, encoded = Tables(), Encoded()
    kept.learn(scenario().snapshot())
    for proxy in proxies:
        kept.connect(proxy)
    settle(kept)
    clients = {proxy: Client(encoded) for proxy in proxies}
    for proxy, client in clients.items():
        client.connect(kept.resources(proxy))

    for without, patience in [*history, (frozenset(), 100)]:
        kept.learn(scenario(without).snapshot())
        changed = settle(kept)
        for proxy, client in clients.items():
            if proxy in changed:
                client.told(kept.resources(proxy), changed[proxy])
            client.want(kept.resources(proxy))
            client.read(patience)

    for proxy, client in clients.items():
        while client.unread:
            client.read(100)
        resources = kept.resources(proxy)
        assert client.has == {kind: {n: r.version for n, r in resources.of_type(kind).items()} for kind in TYPES}


PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import test_told
kept = test_told.Tables()
kept.learn(test_told.scenario().snapshot())
whole = test_told.scenario()
proxy = test_told.proxy_in(whole, test_told.node_of(whole, *test_told.CLIENT))
kept.connect(proxy)
test_told.settle(kept)
found = kept.resources(proxy)
print(json.dumps({k: {n: [r.version, r.body.hex()] for n, r in found.of_type(k).items()} for k in test_told.TYPES}))
"""


def in_another_process(seed: str) -> dict[str, dict[str, list[str]]]:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parent)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        check=True,
    )
    return json.loads(ran.stdout)


def test_coming_to_another_control_plane_with_what_one_has_sends_nothing(proxies):
    """Two processes give the same bytes; so who reports the versions of one is sent nothing by the other, of no type."""
    one, other = in_another_process("1"), in_another_process("2")
    assert one == other
    assert all(one[kind] for kind in (CLUSTER, ENDPOINTS, LISTENER, ROUTES))

    kept = Tables()
    kept.learn(scenario().snapshot())
    kept.connect(proxies[0])
    settle(kept)
    session = Session(delta=True)
    session.publish(kept.resources(proxies[0]))
    sent = []
    for kind in (CLUSTER, ENDPOINTS, LISTENER, ROUTES, NAME_TABLE):
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=kind,
            resource_names_subscribe=() if kind in EVERYTHING else sorted(one[kind]),
            initial_resource_versions={name: version for name, (version, _) in one[kind].items()},
        )
        responses = session.receive(request)
        while responses:
            sent += [discovery_pb2.DeltaDiscoveryResponse.FromString(b"".join(found)) for found in responses]
            answer = discovery_pb2.DeltaDiscoveryRequest(type_url=sent[-1].type_url, response_nonce=sent[-1].nonce)
            responses = session.receive(answer)

    assert {response.type_url for response in sent} <= set(EVERYTHING), "by name, there is nothing to say"
    assert [found.name for response in sent for found in response.resources] == []
    assert [name for response in sent for name in response.removed_resources] == []
