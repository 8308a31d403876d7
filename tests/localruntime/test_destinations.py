"""Whom `isthmus traffic` asks where nobody has said: what Envoys know, as far as it answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from isthmus.localruntime import destinations as module
from isthmus.localruntime.destinations import destinations, named_in
from isthmus.localruntime.mesh_client import MeshRefused
from isthmus.localruntime.traffic import HELLOWORLD, Target

LOCAL = "svc.cluster.local"
CLIENT = ("edge", "sample", "client-1")


def dump(*hosts: str) -> dict[str, Any]:
    """As Envoy shows the route tables that it was given, in one of its two ways."""
    return {"configs": [{"route_config": {"name": "80", "virtual_hosts": [{"name": name} for name in hosts]}}]}


class Mesh:
    """Envoys by Pod, with what they know."""

    def __init__(self, **dumps: dict[str, Any]) -> None:
        self._dumps = {name.replace("_", "-"): found for name, found in dumps.items()}

    def envoy(self, cluster: str, namespace: str, pod: str, page: str) -> bytes:
        if pod not in self._dumps:
            raise MeshRefused(f"{pod} does not answer")
        return json.dumps(self._dumps[pod]).encode()


def status(**gateway: Any) -> dict[str, Any]:
    front = {"namespace": "istio-system", "name": "front", "addresses": ["172.30.3.1"]}
    pods = [
        {"namespace": "istio-system", "name": "front-1", "hasProxy": True},
        {"namespace": "istio-system", "name": "istiod-1", "hasProxy": False},
        {"namespace": "sample", "name": "client-1", "hasProxy": True},
    ]
    return {"clusters": [{"id": "edge", "gateways": [front | gateway], "pods": pods}]}


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> list[Target]:
    """Who answers as a sample does; all others say that there is nothing."""
    found: list[Target] = []

    def ask(_: Any, *where: str, count: int, target: Target) -> list[dict[str, str]]:
        assert (where, count) == (CLIENT, 1)
        return [{"pod": "somebody"} if target in found else {"error": "HTTP 404: "}]

    monkeypatch.setattr(module, "ask", ask)
    return found


def test_who_knows_helloworld_asks_nobody_else(answering):
    mesh = Mesh(client_1=dump(f"helloworld.sample.{LOCAL}:5000", "stage.greeting.global:80"))

    assert destinations(mesh, status(), CLIENT) == [HELLOWORLD]


def test_others_ask_the_names_that_answer(answering):
    names = [
        f"db-1.db.sample.{LOCAL}:5000",
        "stage.greeting.global:5000",
        "stage.greeting.global:80",
        "blue.example.com:80",
    ]
    mesh = Mesh(client_1=dump(*names, "allow_any"), front_1=dump())
    answering += [Target("stage.greeting.global", 80), Target(f"db-1.db.sample.{LOCAL}", 5000)]

    found = destinations(mesh, status(), CLIENT)

    assert [str(target) for target in found] == ["db-1.db.sample:5000", "stage.greeting.global:80"]


def test_what_the_clusters_load_balancer_lets_in_is_asked_for_at_its_address(answering):
    mesh = Mesh(client_1=dump("blue.example.com:80"), front_1=dump("shop.example.com:80"))
    balanced = Target("shop.example.com", 80, at="172.30.3.1")
    answering.append(balanced)

    assert destinations(mesh, status(), CLIENT) == [balanced]
    assert destinations(mesh, status(addresses=[]), CLIENT) == [], "one without an address is asked by nobody"
    assert destinations(Mesh(client_1=dump()), status(), CLIENT) == [], "nor one that is being started again"


def test_nothing_of_the_meshs_own_is_asked():
    names = [f"istiod.istio-system.{LOCAL}:15014", "allow_any", f"*.db.sample.{LOCAL}:5000", "readiness"]

    assert list(named_in(dump(*names))) == []


def test_both_of_envoys_ways_to_show_route_tables_are_read():
    table = dump("a.example:80")["configs"][0]

    assert list(named_in({"configs": [{"dynamic_route_configs": [table]}, {"static_clusters": []}]})) == [
        Target("a.example", 80)
    ]
